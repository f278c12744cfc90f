"""A message: what happened to it at each endpoint of the customer, drawn to scale in time."""

from typing import Final

from discue.dashboard.pages import message
from discue.dashboard.portal.route import PortalRoute
from discue.domain.reservations import HTML_PAGE

ROUTES: Final = (
    PortalRoute("/queues/{id}/messages/{id}", message.show, reads=HTML_PAGE),
    PortalRoute(message.DATA, message.show_data, reads=HTML_PAGE),
    PortalRoute(message.RESPONSE, message.show_response, reads=HTML_PAGE),
)
