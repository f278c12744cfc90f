"""The table: every route of the API. What is not here is a 404, and what is here is checked as its row says."""

from discue.api import (
    api_keys,
    attempts,
    deliveries,
    delivery_tests,
    domains,
    events,
    filter_tests,
    limits,
    listeners,
    messages,
    missed,
    organizations,
    pulls,
    queues,
    redeliveries,
    replays,
    schedules,
    schemas,
    secrets,
    service,
    statistics,
    users,
)
from discue.api.documentation import routes_of
from discue.api.route import Route

_DESCRIBED: tuple[Route, ...] = (
    *service.ROUTES,
    *organizations.ROUTES,
    *api_keys.ROUTES,
    *queues.ROUTES,
    *schemas.ROUTES,
    *listeners.ROUTES,
    *secrets.ROUTES,
    *filter_tests.ROUTES,
    *delivery_tests.ROUTES,
    *missed.ROUTES,
    *redeliveries.ROUTES,
    *replays.ROUTES,
    *pulls.ROUTES,
    *messages.ROUTES,
    *schedules.ROUTES,
    *deliveries.ROUTES,
    *attempts.ROUTES,
    *domains.ROUTES,
    *users.ROUTES,
    *statistics.ROUTES,
    *events.ROUTES,
    *limits.ROUTES,
)

ROUTES: tuple[Route, ...] = (*_DESCRIBED, *routes_of(_DESCRIBED))
