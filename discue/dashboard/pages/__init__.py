"""The pages of the dashboard: one file for each."""

from typing import Final

from discue.dashboard.pages import (
    account,
    listener,
    listener_actions,
    listeners,
    message,
    missed,
    overview,
    queue,
    queues,
    search,
    users,
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
)
