"""The pages of the portal."""

from typing import Final

from discue.dashboard.portal.pages import actions, endpoint, endpoints, event_types, message, selected
from discue.dashboard.portal.route import PortalRoute

ROUTES: Final[tuple[PortalRoute, ...]] = (
    *endpoints.ROUTES,
    *event_types.ROUTES,
    *endpoint.ROUTES,
    *actions.ROUTES,
    *message.ROUTES,
    *selected.ROUTES,
)
