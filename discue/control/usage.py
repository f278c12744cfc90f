"""Usage of an organization: quotas and what is used of them, event counts, and the events of the past day."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from discue.control.context import ControlContext, reading, require_found
from discue.domain import quotas as quota
from discue.domain.ids import last_id_of, millisecond_in
from discue.domain.model import Organization
from discue.domain.quotas import Quotas, quotas_of
from discue.domain.scopes import Principal
from discue.domain.system_events import QuotaNear
from discue.store import aliases, events, listeners, organizations, system_events, tallies, users
from discue.store.engine import Row, Transaction
from discue.store.events import EventQuery, EventTopic, UsageEvent
from discue.store.message_log import ABOVE_EVERY_ID
from discue.store.pagination import Bounds, Listing, Part, ScanLimits, ScanStep, Selection, browse_matching, too_far

DAY_MS: Final = 86_400_000

_COUNT_LIMIT = 10_000
"""Counting stops here if no quota sets a higher limit."""


class Created(Protocol):
    """A resource that is being created."""

    @property
    def organization(self) -> int: ...

    @property
    def id(self) -> int: ...

    @property
    def created_at(self) -> int: ...


class QuotaUse(msgspec.Struct, frozen=True):
    """An organization, its quotas, and the used amount of each quota by name."""

    organization: Organization
    quotas: Quotas
    used: dict[quota.QuotaName, int]


async def used_quotas(control: ControlContext, principal: Principal) -> QuotaUse:
    """Return the current quotas of the caller's organization, and what all that share them use."""
    today, own = tallies.day_of(control.clock.now()), principal.organization

    async def work(tx: Transaction) -> QuotaUse:
        organization = require_found(await organizations.get(tx, own))
        quotas = quotas_of(organization.settings, control.settings.default_quotas)
        used: dict[quota.QuotaName, int] = {
            **{
                name: await organizations.count_resources(
                    tx, organization.account, name, max(getattr(quotas, name) or 0, _COUNT_LIMIT)
                )
                for name in quota.RESOURCES
            },
            "creations_a_day": await organizations.count_creations(tx, organization.account, today.start),
            "messages_a_day": await organizations.count_messages(tx, organization.account, today),
            "bytes_stored": await organizations.bytes_stored(tx, organization.account),
        }
        return QuotaUse(organization, quotas, used)

    return await control.store.read(work)


async def require_room(
    tx: Transaction, control: ControlContext, created: Created, name: quota.ResourceQuotaName
) -> None:
    """Raise QuotaExceeded unless the organization may have this resource, too. Requires an exclusive transaction.

    Records a system event when 80 % of the quota are in use with it.
    """
    owner = require_found(await organizations.get(tx, created.organization))
    most: int | None = getattr(quotas_of(owner.settings, control.settings.default_quotas), name)
    if most is None:
        return
    used = await organizations.count_resources(tx, owner.account, name, most + 1)
    quota.check(name, most, used)
    if quota.is_reported(most, used + 1) and not quota.is_reported(most, used):
        event = QuotaNear(at=created.created_at, quota=name, limit=most, used=used + 1)
        await system_events.record(tx, owner.account, created.id, event)


HOUR_MS: Final = 3_600_000

_NAMES: Final = {number: name for name, number in tallies.EVENT_KINDS.items()}


async def event_counts(control: ControlContext, principal: Principal) -> Mapping[str, Mapping[str, int]]:
    """Return the number of events of the caller's organization by window and type. Types without events are absent.

    Each window starts at a multiple of five minutes.
    """
    now = control.clock.now()
    starts = {
        "last_24_hours": now - DAY_MS,
        "last_1_hours": now - HOUR_MS,
        "today_so_far": now - now % DAY_MS,
    }
    first = tallies.period_of(starts["last_24_hours"])
    rows = await control.store.read(lambda tx: tallies.since(tx, principal.organization, first))
    return {window: _counts(rows, tallies.period_of(start)) for window, start in starts.items()}


def _counts(rows: list[Row], first: int) -> Mapping[str, int]:
    counts: Counter[str] = Counter()
    for period, kind, n in rows:
        if period >= first and kind in _NAMES:
            counts[_NAMES[kind]] += n
    return counts


_DEEPEST_EVENT: Final = 1_000
"""Numbered pages end here: one reads all events before it, of each kind."""

SETTLING_MS: Final = 5_000
"""How much later than its id says an event may be stored. Clients that follow the events read this span again."""


class EventSelection(msgspec.Struct, frozen=True):
    """A selection of events."""

    topic: EventTopic = "all"
    limit: int = 100
    after: str | None = None
    """Selects the events after this id, oldest first. None: the newest events, newest first."""
    created_after: int | None = None
    """Selects the events later than this, in milliseconds since the epoch. None: those of the past 24 hours."""


class EventPage(msgspec.Struct, frozen=True):
    """A page of events."""

    events: tuple[UsageEvent, ...]
    onward: str
    """Id after which the next page starts. Pages may overlap, but skip no event."""


def event_position(stored_at: int, public_id: str) -> str:
    """Return the list position of a message or event, which is its id unless the time of the id is not `stored_at`.

    In that case the time decides: the position is after all others of that millisecond if the id is newer, before
    them if the id is older.
    """
    made_at = millisecond_in(public_id)
    if stored_at == made_at:
        return public_id
    return last_id_of(stored_at if stored_at < made_at else stored_at - 1)


async def page_of_events(control: ControlContext, principal: Principal, selection: EventSelection) -> EventPage:
    """Return the selected events that the caller may read. Raises Forbidden without the scope."""
    now = control.clock.now()
    oldest = _oldest(selection.created_after, now)
    query = EventQuery(
        organization=principal.organization,
        after=max(oldest, selection.after or oldest),
        limit=selection.limit,
        topic=selection.topic,
        only=principal.targets_of("events", "read"),
        oldest_first=selection.after is not None,
    )
    found = await control.store.search(lambda tx: events.find(tx, query))
    return EventPage(tuple(found.events), _onward(query, found, last_id_of(now - SETTLING_MS)))


async def list_of_events(
    control: ControlContext, principal: Principal, selection: Selection, *, has_messages: bool = True, author: str = ""
) -> Listing[UsageEvent]:
    """Return a page of the events that the caller may read, newest first: of the control plane, or also of messages.

    Raises Forbidden without the scope, and BadRequest for a numbered page that is too far from the first.
    """
    is_numbered = selection.after is None and selection.before is None
    if is_numbered and selection.page * selection.per_page > _DEEPEST_EVENT:
        raise too_far()
    query = EventQuery(
        organization=principal.organization,
        after=_oldest(selection.created_after, control.clock.now()),
        limit=0,
        topic=selection.topic,
        author=author,
        has_messages=has_messages,
        below=ABOVE_EVERY_ID if selection.created_before is None else last_id_of(selection.created_before - 1),
        only=principal.targets_of("events", "read"),
    )
    found = await control.store.search(lambda tx: browse_matching(tx, _Events(query), selection, _ONE_STEP))
    return found.with_items(event for _, event in found.items)


def _oldest(created_after: int | None, now: int) -> str:
    # Ids begin with their time, so that the age limit is a bound of the index.
    return last_id_of(now - DAY_MS if created_after is None else created_after)


_ONE_STEP: Final = ScanLimits(first=1, step=1, in_all=1)


class _Events:
    """A scan of events: rows of the id and the event. A step reads the wanted number, however many rows it passes."""

    def __init__(self, query: EventQuery) -> None:
        self._query = query

    async def locate(self, tx: Transaction, public_id: str) -> Bounds:
        del tx
        return public_id, public_id

    async def scan(self, tx: Transaction, part: Part, wanted: int) -> ScanStep[tuple[str, UsageEvent]]:
        after, below = part.within((self._query.after, self._query.below)).span
        oldest_first = not part.newest_first
        query = msgspec.structs.replace(self._query, after=after, below=below, limit=wanted, oldest_first=oldest_first)
        found = await events.find(tx, query)
        return ScanStep([(event.id, event) for event in found.events], found.end, found.end or "")


def _onward(query: EventQuery, found: events.EventBatch, settled: str) -> str:
    """Return the id to continue after: at most `settled`, unless the same page would be returned again."""
    if not query.oldest_first:
        return settled
    if len(found.events) < query.limit:
        return settled if found.end is None else found.end
    first, last = found.events[0].id, found.events[-1].id
    return settled if first <= settled < last else last


class EventNames(msgspec.Struct, frozen=True):
    """Names for the ids in events. Ids of deleted resources are absent."""

    users: Mapping[str, str]
    """The names of users, or their emails, by their ids."""
    keys: Mapping[str, str]
    """The aliases of API keys by their ids."""
    queues: Mapping[str, str]
    """The ids of the queues that listeners are in, by the ids of the listeners."""


@reading
async def names_of(tx: Transaction, principal: Principal, events: Sequence[UsageEvent]) -> EventNames:
    """Return the names for a page of events, with at most one statement for each kind."""
    authors = _readable(principal, "users", {each.user for each in events})
    clients = _readable(principal, "api_keys", {each.client for each in events})
    changed = _readable(principal, "listeners", {each.ref for each in events if each.subject == "listener"})
    own = principal.organization
    return EventNames(
        await users.names_of(tx, own, authors),
        await aliases.of_ids(tx, "api_key", own, clients),
        await listeners.queues_of(tx, own, changed),
    )


def _readable(principal: Principal, resource: str, public_ids: Collection[str]) -> list[str]:
    return sorted(each for each in public_ids if each and principal.may(resource, "read", each))
