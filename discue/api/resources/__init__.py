"""The resources of the API, one file each, and the table of all their routes."""

from discue.api.resources import (
    api_keys,
    deliveries,
    domains,
    listener_tests,
    listeners,
    messages,
    missed,
    organizations,
    portal,
    pulls,
    queues,
    redeliveries,
    schedules,
    secrets,
    service,
    topics,
    usage,
    users,
)
from discue.api.route import Route

_DESCRIBED: tuple[Route, ...] = (
    *service.ROUTES,
    *organizations.ROUTES,
    *portal.ROUTES,
    *api_keys.ROUTES,
    *queues.ROUTES,
    *listeners.ROUTES,
    *secrets.ROUTES,
    *listener_tests.ROUTES,
    *missed.ROUTES,
    *redeliveries.ROUTES,
    *pulls.ROUTES,
    *messages.ROUTES,
    *schedules.ROUTES,
    *topics.ROUTES,
    *deliveries.ROUTES,
    *domains.ROUTES,
    *users.ROUTES,
    *usage.ROUTES,
)

DOCUMENTATION: service.Documentation = service.documentation_of(_DESCRIBED)
ROUTES: tuple[Route, ...] = (*_DESCRIBED, *DOCUMENTATION.routes)
