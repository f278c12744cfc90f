"""A message: what happened to it at each endpoint of the customer, drawn to scale in time."""

from typing import Final

from discue.dashboard.pages import message
from discue.dashboard.portal.route import PortalRoute

ROUTES: Final = (
    PortalRoute("/queues/{id}/messages/{id}", message.show),
    PortalRoute(message.DATA, message.show_data),
    PortalRoute(message.RESPONSE, message.show_response),
)
