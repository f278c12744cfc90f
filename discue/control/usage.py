"""TODO."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

import msgspec

from discue.config.settings import default_quotas
from discue.control.context import ControlContext, require_found
from discue.domain import quotas as quota
from discue.domain.ids import last_id_of, millisecond_in
from discue.domain.model import Organization
from discue.domain.quotas import Quotas, quotas_of
from discue.domain.scopes import Principal
from discue.store import events, organizations, tallies
from discue.store.engine import Row, Transaction
from discue.store.events import EventQuery, EventTopic, UsageEvent

DAY_MS: Final = 86_400_000

_COUNTED = 10_000
"""Where no quota bounds how many there are, counting ends there."""


class QuotaUse(msgspec.Struct, frozen=True):
    """An organization, its quotas, and what is used of each, by their names."""

    organization: Organization
    quotas: Quotas
    used: dict[quota.QuotaName, int]


async def used_quotas(control: ControlContext, principal: Principal) -> QuotaUse:
    """As it is now, of the caller's organization."""
    today = control.clock.now() // DAY_MS * DAY_MS
    periods = range(tallies.period_of(today), tallies.period_of(today + DAY_MS))
    own = principal.organization

    async def work(tx: Transaction) -> QuotaUse:
        organization = require_found(await organizations.get(tx, own))
        quotas = quotas_of(organization.settings, default_quotas(control.settings))
        used: dict[quota.QuotaName, int] = {
            "queues": await tallies.count_queues(tx, own, _bound(quotas.queues)),
            "listeners": await tallies.count_listeners(tx, own, _bound(quotas.listeners)),
            "messages_a_day": await tallies.count_messages(tx, own, periods),
            "bytes_stored": await tallies.bytes_stored(tx, own),
        }
        return QuotaUse(organization, quotas, used)

    return await control.store.read(work)


async def require_queue(tx: Transaction, control: ControlContext, organization: int) -> None:
    """Raises QuotaUsedUp when the organization has all the queues that it may have. For an exclusive transaction."""
    most = (await _quotas(tx, control, organization)).queues
    if most is not None:
        quota.check("queues", most, await tallies.count_queues(tx, organization, most + 1))


async def require_listener(tx: Transaction, control: ControlContext, organization: int) -> None:
    """The same for listeners, of all queues together."""
    most = (await _quotas(tx, control, organization)).listeners
    if most is not None:
        quota.check("listeners", most, await tallies.count_listeners(tx, organization, most + 1))


async def _quotas(tx: Transaction, control: ControlContext, organization: int) -> Quotas:
    found = require_found(await organizations.get(tx, organization))
    return quotas_of(found.settings, default_quotas(control.settings))


def _bound(most: int | None) -> int:
    return _COUNTED if most is None else max(most, _COUNTED)


HOUR_MS: Final = 3_600_000

_NAMES: Final = {number: name for name, number in tallies.EVENT_KINDS.items()}


class EventCounts(msgspec.Struct, frozen=True):
    """How many events of each type there were: what did not happen is not in them."""

    last_24_hours: Mapping[str, int]
    last_1_hours: Mapping[str, int]
    today_so_far: Mapping[str, int]


async def event_counts(control: ControlContext, principal: Principal) -> EventCounts:
    """Of the caller's organization. Windows begin with the period of five minutes that their start is in."""
    now = control.clock.now()
    starts = (now - DAY_MS, now - HOUR_MS, now - now % DAY_MS)
    first = tallies.period_of(starts[0])
    rows = await control.store.read(lambda tx: tallies.since(tx, principal.organization, first))
    return EventCounts(*(_counts(rows, tallies.period_of(start)) for start in starts))


def _counts(rows: list[Row], first: int) -> Mapping[str, int]:
    counts: Counter[str] = Counter()
    for period, kind, n in rows:
        if period >= first and kind in _NAMES:
            counts[_NAMES[kind]] += n
    return counts


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


def event_position(stored_at: int, public_id: str) -> str:
    """Where an element stands that was stored at a time and has an id: as a rule that is the id.

    Where the two contradict each other the time counts: its other elements come first if the id is older, and none of
    them if the id is younger.
    """
    made_at = millisecond_in(public_id)
    if stored_at == made_at:
        return public_id
    return last_id_of(stored_at if stored_at < made_at else stored_at - 1)


async def page_of_events(control: ControlContext, principal: Principal, selection: EventSelection) -> EventPage:
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
