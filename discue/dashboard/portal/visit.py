"""Pages of the portal: their routes, the requests for them, and how they are rendered."""

from hashlib import sha256
from typing import Final, cast

from discue.dashboard.exchange import Headers, security_headers
from discue.dashboard.portal.rules import PortalAction
from discue.dashboard.portal.sessions import PortalDetails
from discue.dashboard.render import TEMPLATES, frame_values
from discue.dashboard.visit import Page, PageRoute, Visit
from discue.http.rsgi import HttpProtocol, HttpScope
from discue.http.services import Services

THEME: Final = "/theme.css"
FRAMED: Final = "framed"
"""The parameter of the style sheet's URL in a frame."""
FRAMES: Final = frozenset({"iframe", "frame"})
"""Values of `Sec-Fetch-Dest` for a page in a frame."""


NOTICES: Final = {
    "changed": "Saved. The change is in effect.",
    "deleted": "Endpoint deleted.",
    "disabled": "Endpoint disabled. Its messages wait for it.",
    "enabled": "Endpoint enabled. It receives the messages that have waited first.",
    "redelivering": "The messages are being sent again.",
    "replaying": "The replay has started.",
    "cancelled": "Cancelled. Messages that were already sent stay sent.",
}
"""Notices by the value of `?done=`, so that a link cannot put words on a page."""


class PortalRoute(PageRoute, frozen=True, kw_only=True):
    """A page of the portal: its path below `/portal`, and its handlers."""

    action: PortalAction | None = None
    """The action that the session must permit to use the form; with `is_form`, also to see the page. None: none."""


class PortalVisit(Visit):
    """A request for a page of the portal. `principal` is confined to the listeners of the session's customer."""

    root = "/portal"
    notices = NOTICES

    def __init__(self, services: Services, scope: HttpScope, exchange: HttpProtocol, request_id: str) -> None:
        super().__init__(services, scope, exchange, request_id)
        self.opened: PortalDetails | None = None
        """The session, and what it grants; None without one."""

    @property
    def details(self) -> PortalDetails:
        if self.opened is None:
            raise RuntimeError("This page needs a session of the portal.")
        return self.opened

    @property
    def is_framed(self) -> bool:
        """Whether a frame asks. For the style sheet, which says nothing of it, the page's link tells."""
        is_part = self.path == THEME and FRAMED in self.query
        return is_part or self.headers.get("sec-fetch-dest") in FRAMES

    @property
    def security(self) -> Headers:
        """The headers of its page. Without a session, no origin is known that may embed it."""
        return security_headers(() if self.opened is None else self.opened.frame_ancestors)

    @property
    def form_token(self) -> str:
        """The token that forms send back, to show that they come from a page of this session.

        It is derived from the cookie, which other sites cannot read.
        """
        return sha256(f"form {self.token}".encode()).hexdigest()


def of_portal(visit: Visit) -> PortalVisit:
    """Return the visit as one to the portal: its routes get no other."""
    return cast("PortalVisit", visit)


def render(page: Page, visit: PortalVisit) -> bytes:
    """Return the page as HTML, in the theme of the session."""
    values = {
        **page.values,
        **frame_values(page, visit),
        "visit": visit,
        "theme": visit.details.theme.scheme,
        "session": visit.details.session,
        "logo": visit.details.theme.logo,
        # Paths with ids begin with that of a queue.
        "can": lambda action, queue="": visit.details.may(action, queue or "".join(visit.ids[:1])),
        "for_customer": True,
        "form_token": visit.form_token,
        "origins": " ".join(visit.details.frame_ancestors),
    }
    return TEMPLATES.get_template(f"portal/{page.template}").render(values).encode()


def render_bare(page: Page, visit: PortalVisit) -> bytes:
    values = {**page.values, **frame_values(page, visit), "theme": "auto"}
    return TEMPLATES.get_template(f"portal/{page.template}").render(values).encode()
