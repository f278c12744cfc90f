"""The pages of the dashboard."""

from typing import Final

from discue.dashboard.pages import (
    account,
    domains,
    event_types,
    events,
    inbox,
    installation,
    keys,
    listener_actions,
    listener_forms,
    listeners,
    message,
    missed,
    overview,
    queue_forms,
    queues,
    schedules,
    search,
    selected,
    sources,
    topics,
    transforms,
    users,
)
from discue.dashboard.visit import PageRoute

ROUTES: Final[tuple[PageRoute, ...]] = (
    *overview.ROUTES,
    *missed.ROUTES,
    *queues.ROUTES,
    *queue_forms.ROUTES,
    *message.ROUTES,
    *listeners.ROUTES,
    *listener_actions.ROUTES,
    *listener_forms.ROUTES,
    *transforms.ROUTES,
    *users.ROUTES,
    *account.ROUTES,
    *search.ROUTES,
    *selected.ROUTES,
    *events.ROUTES,
    *inbox.ROUTES,
    *topics.ROUTES,
    *event_types.ROUTES,
    *sources.ROUTES,
    *schedules.ROUTES,
    *keys.ROUTES,
    *domains.ROUTES,
    *installation.ROUTES,
)
