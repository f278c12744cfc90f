"""Routes of the portal's pages, and a request for one as its handler sees it."""

from dataclasses import dataclass, field
from typing import cast

from discue.dashboard.portal.rules import PortalAction, PortalSession
from discue.dashboard.portal.sessions import PortalDetails
from discue.dashboard.route import PageRoute
from discue.dashboard.visit import PageUser, Visit
from discue.domain.scopes import Principal


class PortalRoute(PageRoute, frozen=True, kw_only=True):
    """A page of the portal: its path below `/portal`, and its handlers."""

    action: PortalAction | None = None
    """The action that the session must permit to use the form; with `is_form`, also to see the page. None: none."""


@dataclass(slots=True, kw_only=True)
class PortalVisit(Visit):
    """A request for a page of the portal. `principal` is confined to the listeners of the session's customer."""

    user: PageUser = field(init=False, repr=False)
    """Never set: a handler that needs a user of the dashboard fails."""
    details: PortalDetails
    form_token: str
    """The token that forms send back, to show that they come from a page of this session."""
    is_framed: bool

    @property
    def principal(self) -> Principal:
        return self.details.principal

    @property
    def session(self) -> PortalSession:
        return self.details.session


def of_portal(visit: Visit) -> PortalVisit:
    """Return the visit as one to the portal: its routes get no other."""
    return cast("PortalVisit", visit)
