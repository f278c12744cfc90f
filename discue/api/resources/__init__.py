"""The resources of the API, one file each, and the table of all their routes."""

from collections.abc import Sequence

from discue.api.resources import (
    api_keys,
    deliveries,
    domains,
    erasures,
    event_types,
    jobs,
    listener_tests,
    listeners,
    messages,
    organizations,
    pulls,
    queues,
    schedules,
    secrets,
    service,
    sources,
    topics,
    usage,
)
from discue.api.route import Route


def described(*, portal: Sequence[Route] = (), users: Sequence[Route] = ()) -> tuple[Route, ...]:
    """Return the routes of the API in the order of the reference. The core has none for the portal and users."""
    return (
        *service.ROUTES,
        *organizations.ROUTES,
        *portal,
        *api_keys.ROUTES,
        *queues.ROUTES,
        *listeners.ROUTES,
        *secrets.ROUTES,
        *listener_tests.ROUTES,
        *jobs.ROUTES,
        *pulls.ROUTES,
        *messages.ROUTES,
        *erasures.ROUTES,
        *schedules.ROUTES,
        *topics.ROUTES,
        *sources.ROUTES,
        *event_types.ROUTES,
        *deliveries.ROUTES,
        *domains.ROUTES,
        *users,
        *usage.ROUTES,
    )
