"""Requests for pages, and what their handlers return."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import msgspec

from discue.control.context import ControlContext
from discue.control.installation import may_see_installation
from discue.dashboard.exchange import SECURITY_HEADERS, Headers, PageResponse
from discue.dashboard.inbox import Inbox
from discue.dashboard.users.provider import Provider
from discue.dashboard.users.sessions import SessionDetails
from discue.domain.errors import DiscueError
from discue.domain.message_data import LONGEST_ESCAPE, Codec
from discue.domain.model import Role
from discue.domain.reservations import SMALL_READ_BYTES, ReadBound
from discue.domain.scopes import RESOURCES, Principal
from discue.http.frame import theme_of
from discue.http.pipeline import Request
from discue.http.rsgi import HttpProtocol, HttpScope
from discue.http.services import Services

_BELOW_QUEUES: Final = frozenset({"listeners", "schedules"})
"""Pages of a queue's parts, which have an entry in the navigation of their own."""

INSTALLATION: Final = "installation"
"""The name in `Visit.readable` of pages about the installation, which no scope covers."""

INBOX: Final = "inbox"
"""The name in `Visit.readable` of the page of the inbox, which `discue dev` has for one organization."""

_MOST_STEPS: Final = 16
"""Steps in the path of a page."""

PER_PAGE: Final = 25
"""Rows of a list on one page."""


class PageUser(msgspec.Struct, frozen=True):
    """A signed-in user."""

    principal: Principal
    name: str
    """The name or the email address that pages show."""
    role: Role
    organization: str
    """The alias of the organization."""
    details: SessionDetails


class Visit(Request):
    """A request for a page below `root`. The user may do on it what the scopes of `principal` allow."""

    is_page = True
    callers = "All keys, users and customers of the organization together may make"
    root: ClassVar[str] = "/dashboard"
    """The path that the paths of all pages begin with."""

    __slots__ = (
        "api_url",
        "base",
        "error",
        "form",
        "ids",
        "installed_inbox",
        "now",
        "path",
        "providers",
        "query",
        "sent_url",
        "signed_in",
        "theme",
        "token",
        "url",
        "wrong",
    )

    def __init__(self, services: Services, scope: HttpScope, exchange: HttpProtocol, request_id: str) -> None:
        super().__init__(services, scope, exchange, request_id)
        self.now = services.control.clock.now()
        """Milliseconds since the epoch."""
        self.path = scope.path.removeprefix(self.root)
        """The path below `root`: empty, or with a leading slash."""
        steps = scope.path.count("/")
        # No page is deeper. On the one that says so, each link would have the length of the path.
        self.base = "../" * (steps - 1) + self.root[1:] if steps <= _MOST_STEPS else self.root
        """The relative link from this page to `root`, which works below every prefix that a proxy adds."""
        self.url = ""
        """The URL in front of `root`, as the browser sees it; empty until the request is checked."""
        self.sent_url = ""
        """The URL in links for other people. The browser's `Host` must not decide where a link with a secret leads."""
        self.api_url = ""
        """The URL of the API, for commands to copy."""
        self.token = ""
        """The token of the session; empty if the browser has sent none."""
        self.signed_in: PageUser | None = None
        """The signed-in user; None without a session, and in the portal."""
        self.ids: tuple[str, ...] = ()
        """The ids in the path, in order."""
        self.query: Mapping[str, str] = {}
        self.form: Mapping[str, str] = {}
        """The fields of the form; empty unless the page is shown again because of an error in it."""
        self.error: DiscueError | None = None
        """The reason why the form was not accepted."""
        self.wrong: list[DiscueError] = []
        """Errors in the query. The page is shown with them, and without what the query asks for."""
        self.theme = theme_of(self.headers)
        self.installed_inbox: Inbox | None = None
        """The inbox of `discue dev`, for any organization; None for other services."""
        self.providers: Mapping[str, Provider] = {}
        """Providers whose users may sign in, by name."""

    @property
    def user(self) -> PageUser:
        """The signed-in user."""
        if self.signed_in is None:
            raise RuntimeError("This page needs a user of the dashboard.")
        return self.signed_in

    @property
    def security(self) -> Headers:
        """The headers that protect its page."""
        return SECURITY_HEADERS

    def set_response(self, response: PageResponse) -> bytes:
        """Set the response, except for its content, which is returned."""
        self.status, self.stream = response.status, response.pieces
        self.response_headers = [*response.headers, ("x-request-id", self.id)]
        return response.content

    async def reserve_data(self, size: int, codec: Codec) -> None:
        """Reserve a read of a message's data and the page that shows it. Raises Overloaded."""
        # HTML escapes a character with at most five others.
        del codec
        if size > SMALL_READ_BYTES and self.reservation is not None:
            await self.reservation.enlarge(ReadBound.of_data(size, size * LONGEST_ESCAPE))

    @property
    def control(self) -> ControlContext:
        return self.services.control

    @property
    def section(self) -> str:
        """The path of the page in the navigation that this page is below."""
        first, *steps = self.path.removeprefix("/").split("/")
        return f"/{steps[1]}" if len(steps) > 2 and steps[1] in _BELOW_QUEUES else f"/{first}"

    @property
    def readable(self) -> frozenset[str]:
        """The resources that the user can read, and "" for pages that need none."""
        own = {"", *(name for name in RESOURCES if self.principal.may(name, "read"))}
        if may_see_installation(self.principal):
            own.add(INSTALLATION)
        if self.inbox is not None and "messages" in own:
            own.add(INBOX)
        return frozenset(own)

    @property
    def inbox(self) -> Inbox | None:
        """The inbox of `discue dev`; None for other services and other organizations."""
        inbox = self.installed_inbox
        return inbox if inbox is not None and inbox.organization == self.principal.organization else None


@dataclass(frozen=True, slots=True)
class Page:
    """A page to render: a template with its values."""

    template: str
    title: str
    values: Mapping[str, Any] = field(default_factory=dict)
    headers: Sequence[tuple[str, str]] = ()
    """Headers of the response, such as a cookie."""
    is_live: bool = False
    """Whether the page loads itself again when something has changed."""


@dataclass(frozen=True, slots=True)
class Download:
    """Data to show as plain text, outside of any page."""

    content: bytes
    name: str
    """The name of the file if it is saved, without the ending."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """A redirect, after a form was accepted."""

    path: str
    """Below `/dashboard`, like `Visit.path`."""
    done: str = ""
    """The key of the notice to show there: one of `NOTICES`."""
    headers: Sequence[tuple[str, str]] = ()
    """Headers of the response, such as a cookie."""


NOTICES: Final[Mapping[str, str]] = {
    "queue_created": "Queue created. Add a listener, then publish a message.",
    "queue_deleted": "Queue deleted, with its messages and listeners.",
    "listener_created": "Listener created. Its consumers can pull messages that are published from now on.",
    "listener_deleted": "Listener deleted.",
    "disabled": "Listener disabled. Its messages wait for it.",
    "enabled": "Listener enabled. It receives the messages that have waited first.",
    "published": "Message published. It is on its way to every listener of the queue.",
    "schedule_created": "Schedule created. Its next runs are below.",
    "schedule_disabled": "Schedule disabled. Runs that it misses are not caught up on.",
    "schedule_enabled": "Schedule enabled.",
    "schedule_deleted": "Schedule deleted.",
    "topic_created": "Topic created. Add a channel: without one, its messages go nowhere.",
    "topic_deleted": "Topic deleted, with its channels.",
    "channel_created": "Channel created. It takes messages from now on.",
    "channel_deleted": "Channel deleted. Its queue gets no further messages of this topic.",
    "selection_redelivering": "A redelivery has started for each listener of the selection.",
    "selection_disabled": "Listeners disabled. Their messages wait for them.",
    "selection_enabled": "Listeners enabled. They receive the messages that have waited first.",
    "redelivering": "The redelivery has started.",
    "replaying": "The replay has started.",
    "key_changed": "Key changed. All workers apply it within a second.",
    "key_deleted": "Key deleted. It is refused from now on.",
    "domain_added": "Domain added. Serve the file below, then check it.",
    "domain_checked": "Domain checked.",
    "domain_deleted": "Domain deleted.",
    "cancelled": "Cancelled. Messages that were already sent stay sent.",
    "saved": "Saved. The change is in effect.",
    "deleted": "Deleted.",
    "sessions_ended": "Signed out in these browsers.",
    "password_set": "New password set.",
    "factor_removed": "Second factor removed.",
    "confirmed": "You have confirmed who you are. Send the form again.",
    "connected": "Account connected. You can sign in with it.",
}
"""Notices by the value of `?done=`, so that a link cannot put words on a page."""
