"""Pages: their routes, the requests for them, and what their handlers return."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, TypeVar

import msgspec

from discue.control.context import ControlContext
from discue.control.installation import may_see_installation
from discue.dashboard import cookies
from discue.dashboard.exchange import SECURITY_HEADERS, Headers, PageResponse
from discue.dashboard.forms import FORM_BYTES
from discue.dashboard.inbox import Inbox
from discue.dashboard.users.account import Account
from discue.dashboard.users.provider import Provider
from discue.dashboard.users.session_table import FoundSession
from discue.dashboard.users.sign_in import Browser
from discue.domain.errors import DiscueError
from discue.domain.ids import is_public_id
from discue.domain.message_data import LONGEST_ESCAPE, Codec
from discue.domain.reservations import SMALL_READ_BYTES, ReadBound
from discue.domain.scopes import RESOURCES
from discue.http.frame import read_cookie, theme_of
from discue.http.pipeline import Request
from discue.http.rsgi import HttpProtocol, HttpScope
from discue.http.services import Services

_BELOW_QUEUES: Final = frozenset({"listeners", "schedules"})
"""Pages of a queue's parts, which have an entry in the navigation of their own."""

R = TypeVar("R", bound="PageRoute")

INSTALLATION: Final = "installation"
"""The name in `Visit.readable` of pages about the installation, which no scope covers."""

INBOX: Final = "inbox"
"""The name in `Visit.readable` of the page of the inbox, which `discue dev` has for one organization."""

_MOST_STEPS: Final = 16
"""Steps in the path of a page."""

PER_PAGE: Final = 25
"""Rows of a list on one page."""


NOTICES: Final[Mapping[str, str]] = {
    "queue_created": "Queue created. Add a listener, then publish a message.",
    "queue_deleted": "Queue deleted, with its messages and listeners.",
    "listener_created": "Listener created. Its consumers can pull messages that are published from now on.",
    "listener_deleted": "Listener deleted.",
    "disabled": "Listener disabled. Its messages wait for it.",
    "enabled": "Listener enabled. It receives the messages that have waited first.",
    "published": "Message published. It is on its way to every listener of the queue.",
    "erased": "The messages were erased. The list shows which listeners had received them.",
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


class Visit(Request):
    """A request for a page below `root`. The user may do on it what the scopes of `principal` allow."""

    is_page = True
    callers = "All keys, users and customers of the organization together may make"
    root: ClassVar[str] = "/dashboard"
    """The path that the paths of all pages begin with."""
    notices: ClassVar[Mapping[str, str]] = NOTICES

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
        self.signed_in: FoundSession | None = None
        """The session of the signed-in user. None if no user is signed in, and in the portal."""
        self.ids: tuple[str, ...] = ()
        """The ids in the path, in order."""
        self.query: Mapping[str, str] = {}
        self.form: Mapping[str, str] = {}
        """The fields of the form; empty unless the page is shown again because of an error in it."""
        self.error: DiscueError | None = None
        """The reason why the form was not accepted."""
        self.wrong: list[DiscueError] = []
        """Errors in the query. The page is shown with them, and without what the query asks for."""
        self.missed = ""
        """The number of missed messages that the navigation shows next to *Missed*; "" for no number."""
        self.theme = theme_of(self.headers)
        self.installed_inbox: Inbox | None = None
        """The inbox of `discue dev`, for any organization; None for other services."""
        self.providers: Mapping[str, Provider] = {}
        """Providers whose users may sign in, by name."""

    @property
    def user(self) -> FoundSession:
        if self.signed_in is None:
            raise RuntimeError("This page needs a user of the dashboard.")
        return self.signed_in

    @property
    def account(self) -> Account:
        """The account of the user. Raises Forbidden for a session without a user."""
        return Account(self.control, self.services.authenticator, self.user)

    @property
    def browser(self) -> Browser:
        device = read_cookie(self.headers, cookies.device_name(self.url))
        return Browser(self.address, self.headers.get("user-agent", ""), self.token, device)

    @property
    def security(self) -> Headers:
        """The headers that protect its page."""
        return SECURITY_HEADERS

    def set_response(self, response: PageResponse) -> bytes:
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
    is_live: bool = False
    """Whether the page loads itself again when something has changed."""


@dataclass(frozen=True, slots=True)
class Download:
    """Data that is shown as plain text, or saved as a CSV file, outside of any page."""

    content: bytes
    name: str
    """The name of the file if it is saved. With the ending `.csv`, browsers save it."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """A redirect, after a form was accepted."""

    path: str
    """Below `/dashboard`, like `Visit.path`."""
    done: str = ""
    """The key of the notice to show there: one of `NOTICES`."""
    headers: Sequence[tuple[str, str]] = ()
    """Headers of the response, such as a cookie."""


Show = Callable[[Visit], Awaitable[Page | Redirect | Download]]
"""Returns the page, where else to look, or plain data. Raises what the functions of the control plane raise."""


def plain_page(template: str, title: str) -> Show:
    """Return the handler of a page that is only a form. The form keeps what the user typed."""

    async def show(visit: Visit) -> Page:
        return Page(template, title, {"form": visit.form})

    return show


Act = Callable[[Visit], Awaitable[Page | Redirect]]
"""Does what the form on the page asks for. Returns a page only for what is shown once, such as a new secret."""

CONFIRMATION_BYTES: Final = 4_096
"""The largest part of a form that the page of the confirmation adds: a path, a password, an id."""


class PageRoute(msgspec.Struct, frozen=True):
    """A page: its path below `/dashboard`, in which `{id}` stands for an id, and its handlers."""

    path: str
    show: Show
    act: Act | None = None
    """None: the page has no form of its own."""
    needs: str = ""
    """The resource that the user must be able to read; empty: every signed-in user can see the page."""
    is_form: bool = False
    """Whether the page is only a form. Users who may not use the form cannot open the page."""
    form_bytes: int = FORM_BYTES
    waits: bool = False
    """Whether the form waits for another server: then it waits without the turn of its organization."""
    grants_access: bool = False
    """Whether the form can give someone lasting access, such as a new key. It then requires a recent sign-in."""
    writes: str = ""
    """The resource that the user must be able to write to use the form; empty: that of `needs`."""

    @property
    def most_bytes(self) -> int:
        """The largest form, with the fields of the page that has kept it until the user confirmed who they are."""
        return self.form_bytes + CONFIRMATION_BYTES if self.grants_access else self.form_bytes


def form_route(path: str, show: Show, act: Act, needs: str, **options: Any) -> PageRoute:
    """Return the route of a page that is only a form."""
    return PageRoute(path, show, act, needs=needs, is_form=True, **options)


def found_page(routes: Mapping[str, R], path: str) -> tuple[R, tuple[str, ...]] | None:
    """Return the route of a path and the ids in the path; None if no route has it. The keys of `routes` are paths."""
    steps = path.split("/")
    route = routes.get("/".join("{id}" if is_public_id(step) else step for step in steps))
    # A path may have the step `{id}` itself.
    return None if route is None or "{id}" in steps else (route, tuple(filter(is_public_id, steps)))
