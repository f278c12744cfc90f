"""The overview: whether all is well, what happens, and which listeners need attention."""

from collections.abc import Mapping, Sequence
from typing import Final

from discue.control import listeners, usage
from discue.control.activity import Activity
from discue.control.listeners import ListenerDetails
from discue.control.usage import rate_a_minute
from discue.dashboard.charts import HALF_HOUR, Columns, columns
from discue.dashboard.pages.listeners import ListenerRow, rows_of
from discue.dashboard.route import PageRoute
from discue.dashboard.states import state_of
from discue.dashboard.visit import Page, Visit
from discue.domain.reservations import HTML_PAGE

LISTENERS_READ: Final = 50
"""The number of newest listeners, and of inactive ones, of which the overview shows those that need attention."""

_RATES: Final = ("published", "acknowledged", "failed")
_SHOWN: Final = 8
_HOUR: Final = 12
"""Periods of five minutes."""


async def show(visit: Visit) -> Page:
    activity: Sequence[Activity] = ()
    if visit.principal.may("stats", "read"):
        activity = await usage.activity(visit.control, visit.principal)
    worst: Sequence[ListenerDetails] = ()
    attention: Sequence[ListenerRow] = ()
    found: Sequence[ListenerDetails] = ()
    has_more = False
    if visit.principal.may("listeners", "read"):
        page = await listeners.newest_and_inactive(visit.control, visit.principal, LISTENERS_READ)
        found, has_more = page.items, page.has_next
        worst = sorted((each for each in found if _needs_attention(each)), key=_urgency, reverse=True)
        attention = await rows_of(visit, worst[:_SHOWN])
    hour = activity[-_HOUR:]
    chart: Columns | None = columns(activity, HALF_HOUR) if activity else None
    return Page(
        "overview.html",
        "Overview",
        {
            "obstacle": visit.services.readiness.problem,
            "published": sum(each.published for each in hour),
            "acknowledged": sum(each.acknowledged for each in hour),
            "failed": sum(each.failed for each in hour),
            "waiting": sum(each.counts.pending for each in found),
            "waited_for": sum(each.counts.pending > 0 for each in found),
            "missed": sum(each.counts.missed for each in found),
            "rates": _rates(activity, visit.now),
            "chart": chart,
            "attention": attention,
            "needing": len(worst),
            "listeners": len(found),
            "has_more": has_more,
        },
        is_live=True,
    )


def _rates(activity: Sequence[Activity], now: int) -> Mapping[str, float]:
    """Return the present rates per minute; none without the activity."""
    if not activity:
        return {}
    before, current = activity[-2:]
    elapsed = now - current.started_at
    return {name: rate_a_minute(getattr(before, name), getattr(current, name), elapsed) for name in _RATES}


def _needs_attention(details: ListenerDetails) -> bool:
    return state_of(details) not in ("acknowledged", "pending") or details.counts.missed > 0


def _urgency(details: ListenerDetails) -> tuple[bool, int, int]:
    """Return what the order is by: what is held first, then what waits, then what was missed."""
    return bool(details.condition.held_by), details.counts.pending, details.counts.missed


ROUTES: Final = (PageRoute("", show, reads=HTML_PAGE),)
