"""The overview: whether all is well, what happens, and which listeners need attention."""

from collections.abc import Mapping, Sequence
from typing import Final

from discue.control import activity, listeners
from discue.control.activity import Activity, rate_a_minute
from discue.control.listeners import ListenerDetails
from discue.dashboard import history
from discue.dashboard.fields import newest_queues
from discue.dashboard.pages.listeners import ListenerRow, rows_of, state_of
from discue.dashboard.visit import Page, PageRoute, Visit
from discue.domain.system_events import SYSTEM_QUEUE_ALIAS

LISTENERS_READ: Final = 50
"""The number of newest listeners, and of inactive ones, of which the overview shows those that need attention."""

_RATES: Final = ("published", "acknowledged", "failed")
_SHOWN: Final = 8
_HOUR: Final = 12
"""Periods of five minutes."""


async def show(visit: Visit) -> Page:
    day: Sequence[Activity] = ()
    if visit.principal.may("stats", "read"):
        day = await activity.past_day(visit.control, visit.principal.organization, visit.now)
    worst: list[ListenerDetails] = []
    attention: Sequence[ListenerRow] = ()
    found: Sequence[ListenerDetails] = ()
    has_more = False
    if visit.principal.may("listeners", "read"):
        page = await listeners.newest_and_inactive(visit.control, visit.principal, LISTENERS_READ)
        found, has_more = page.items, page.has_next
        worst = [each for each in found if state_of(each) not in ("acknowledged", "pending") or each.counts.missed]
        worst.sort(key=_urgency, reverse=True)
        attention = await rows_of(visit, worst[:_SHOWN])
    hour = day[-_HOUR:]
    drawn = await history.drawn(visit, day) if day else {"chart": None}
    is_idle = bool(day) and not any(each.acknowledged or each.failed for each in day)
    return Page(
        "overview.html",
        "Overview",
        {
            "obstacle": visit.services.readiness.problem,
            **{name: sum(getattr(each, name) for each in hour) for name in _RATES},
            "waiting": sum(each.counts.pending for each in found),
            "waited_for": sum(each.counts.pending > 0 for each in found),
            "missed": sum(each.counts.missed for each in found),
            "rates": _rates(day, visit.now),
            **drawn,
            "step": await _next_step(visit, found) if is_idle else None,
            "attention": attention,
            "needing": len(worst),
            "listeners": len(found),
            "has_more": has_more,
        },
        is_live=True,
    )


async def _next_step(visit: Visit, listeners_read: Sequence[ListenerDetails]) -> tuple[str, str, str] | None:
    """Return what the user has to do before something is sent, as a text, a title and a path.

    Returns None if they may not do it.
    """
    may = visit.principal.may
    able = (each.listener for each in listeners_read if each.listener.queue_alias != SYSTEM_QUEUE_ALIAS)
    if (listener := next(able, None)) is not None:
        text = f"Publish a message to {listener.queue_alias}: its listener {listener.alias} receives it."
        step = (text, "Publish a message", f"/queues/{listener.queue_public_id}/publish")
        return step if may("messages", "write") and may("queues", "read") else None
    if not (may("queues", "read") and may("listeners", "read")):
        return None
    newest = await newest_queues(visit, among=2)
    if not newest:
        text = "Messages are published to a queue, which sends them to its listeners."
        return (text, "Create a queue", "/queues/new") if may("queues", "write") else None
    queue = newest[0]
    text = f"The queue {queue.alias} has no listener yet. Messages that you publish before are not delivered."
    path = f"/queues/{queue.public_id}/listeners/new"
    return (text, "Add a listener", path) if may("listeners", "write") else None


def _rates(activity: Sequence[Activity], now: int) -> Mapping[str, float]:
    if not activity:
        return {}
    before, current = activity[-2:]
    elapsed = now - current.started_at
    return {name: rate_a_minute(getattr(before, name), getattr(current, name), elapsed) for name in _RATES}


def _urgency(details: ListenerDetails) -> tuple[bool, int, int]:
    """Return what the order is by: what is held first, then what waits, then what was missed."""
    return bool(details.condition.held_by), details.counts.pending, details.counts.missed


ROUTES: Final = (PageRoute("", show),)
