"""The pages of the dashboard: one file for each."""

from typing import Final

from discue.dashboard.pages import (
    account,
    domains,
    events,
    inbox,
    jobs,
    keys,
    listener,
    listener_actions,
    listeners,
    message,
    missed,
    overview,
    queue,
    queues,
    schedules,
    schemas,
    search,
    settings,
    topics,
    users,
    workers,
)
from discue.dashboard.route import PageRoute

ROUTES: Final[tuple[PageRoute, ...]] = (
    *overview.ROUTES,
    *missed.ROUTES,
    *queues.ROUTES,
    *queue.ROUTES,
    *message.ROUTES,
    *listeners.ROUTES,
    *listener.ROUTES,
    *listener_actions.ROUTES,
    *users.ROUTES,
    *account.ROUTES,
    *search.ROUTES,
    *jobs.ROUTES,
    *events.ROUTES,
    *inbox.ROUTES,
    *topics.ROUTES,
    *schedules.ROUTES,
    *schemas.ROUTES,
    *keys.ROUTES,
    *domains.ROUTES,
    *workers.ROUTES,
    *settings.ROUTES,
)
