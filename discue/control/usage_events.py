"""What happened in an organization during the past 24 hours."""

from typing import Final

import msgspec

from discue.control.context import ControlContext
from discue.domain.ids import last_id_of, millisecond_in
from discue.domain.scopes import Principal
from discue.store import events
from discue.store.events import EventQuery, EventTopic, UsageEvent

DAY_MS: Final = 86_400_000

SETTLING_MS: Final = 5_000
"""An event may be stored so much later than its id says. Who follows what happens asks again from there."""


class EventSelection(msgspec.Struct, frozen=True):
    """Which events. Without `after` the newest, newest first; else those that follow that id, oldest first."""

    topic: EventTopic = "all"
    limit: int = 100
    after: str | None = None


class EventPage(msgspec.Struct, frozen=True):
    """Events, and the id behind which to go on so that nothing is left out, though some may come again."""

    events: tuple[UsageEvent, ...]
    onward: str


def place_of(stored_at: int, public_id: str) -> str:
    """Where an element stands that was stored at a time and has an id: as a rule that is the id.

    Where the two contradict each other the time counts: its other elements come first if the id is older, and none of
    them if the id is younger.
    """
    made_at = millisecond_in(public_id)
    if stored_at == made_at:
        return public_id
    return last_id_of(stored_at if stored_at < made_at else stored_at - 1)


async def page(control: ControlContext, principal: Principal, selection: EventSelection) -> EventPage:
    """What the caller may see of them. Raises Forbidden without the scope."""
    now = control.clock.now()
    oldest = last_id_of(now - DAY_MS)
    wanted = EventQuery(
        organization=principal.organization,
        after=max(oldest, selection.after or oldest),
        limit=selection.limit,
        topic=selection.topic,
        only=principal.targets_of("events", "read"),
        oldest_first=selection.after is not None,
    )
    found = await control.store.read(lambda tx: events.find(tx, wanted))
    return EventPage(tuple(found.events), _onward(wanted, found, last_id_of(now - SETTLING_MS)))


def _onward(wanted: EventQuery, found: events.EventBatch, settled: str) -> str:
    """Not beyond what may still be joined by others, unless the page would be the same one for ever."""
    if not wanted.oldest_first:
        return settled
    if len(found.events) < wanted.limit:
        return settled if found.end is None else found.end
    first, last = found.events[0].id, found.events[-1].id
    return settled if first <= settled < last else last
