"""The context of the control plane: what every operation gets, and how it commits."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

import msgspec
from msgspec import UnsetType

from discue.auth.control_plane_cache import ControlPlaneCache, LruCache
from discue.config.settings import Settings
from discue.control.hosts import HostChecks
from discue.crypto.keyring import Keyring
from discue.crypto.passwords import PasswordHashing
from discue.domain.clock import Clock
from discue.domain.domain_challenge import Domain
from discue.domain.egress import EgressPolicy
from discue.domain.errors import (
    Fault,
    NotFound,
    PreconditionFailed,
    StoreUnavailable,
    TooManyRequests,
    Unprocessable,
    invalid,
    sentence_of,
)
from discue.domain.etags import EntityTags, version_of
from discue.domain.idempotency import IdempotencyKey
from discue.domain.ids import PublicIds, RandomBytes, RandomText, RowIds
from discue.domain.model import ApiKey, Channel, DeliveryOptions, EventType, Listener, Queue, Topic, User, WebhookSource
from discue.domain.quotas import check as check_quota
from discue.domain.quotas import is_reported, most_creations_of_a_customer, quotas_of
from discue.domain.scopes import Principal
from discue.domain.system_events import QuotaNear
from discue.store import events, feed, idempotency, organizations, system_events, tallies
from discue.store.engine import AlreadyDone, IdempotencyRecord, Notification, Transaction, UniqueViolation, Work
from discue.store.events import Occurrence
from discue.store.feed import FeedKind
from discue.store.store import Store
from discue.store.tallies import EventKind

_ACTIVITIES: Final = 100
"""How many organizations have a cached past day. Each takes about 30 kB."""

_LEFT_OUT: Final = {
    *("config_version", "updated_at", "status_changed_at", "disabled_by", "schema_id", "schema_set_at", "secrets"),
    *("title", "secret_hash", "last_used_at", "invitation_hash", "invitation_expires_at", "verification"),
}
"""Fields that follow from others, or that no request changes."""

_STATES: Final = frozenset({"state", "status"})

_NAMES: Final = {
    "alias": "name",
    "password_hash": "password",
    "retention_seconds": "retention",
    "schema_language": "schema",
    "timeout_seconds": "timeout",
}
"""The names of fields in the API, where they differ."""


P = ParamSpec("P")
T = TypeVar("T")
Choice = TypeVar("Choice", bound=str)
Resource = TypeVar("Resource", bound=msgspec.Struct)

Recorded = ApiKey | Channel | Domain | EventType | Listener | Queue | WebhookSource | Topic | User


class Record(Protocol):
    """`record` for one change: the transaction and the author are given."""

    def __call__(self, kind: EventKind, changed: Recorded, /, *, changes: Sequence[str] = ()) -> Awaitable[None]: ...


_CACHED: Final[dict[type, FeedKind]] = {
    ApiKey: "api_key",
    Listener: "listener",
    Queue: "queue",
}
"""Resources that other workers cache, with the feed entries by which they notice each change."""


_COUNTED: Final[frozenset[EventKind]] = frozenset(
    {
        "api_key_added",
        "channel_added",
        "domain_added",
        "event_type_added",
        "listener_added",
        "queue_added",
        "source_added",
        "topic_added",
        "user_added",
    }
)
"""Creations that the quota `creations_a_day` limits.

Changes and deletions must always work: a tenant can disable a listener or a key, and rotate a secret, when the quota is
used up.
"""


class IdempotentWrite(msgspec.Struct, frozen=True):
    """A write that takes effect at most once per idempotency key: its response is stored in the same transaction."""

    key: IdempotencyKey
    content_of: Callable[[Any], bytes]
    """Makes the stored response from the result of the transaction. Called within it: must not wait or fail."""
    id: int
    """Row id of the new idempotency record."""


@dataclass(frozen=True, slots=True)
class ControlContext:
    """The store, the cache that must see each write, and the sources of ids, time and randomness.

    Operations take ids before their transaction begins: its statements may run on another thread.
    """

    store: Store
    cache: ControlPlaneCache
    clock: Clock
    public_ids: PublicIds
    row_ids: RowIds
    random_text: RandomText
    random_bytes: RandomBytes
    egress: EgressPolicy
    settings: Settings
    match: EntityTags | None = None
    """The request's If-Match. None: the request has none."""
    once: IdempotentWrite | None = None
    """The request's idempotency key, for the one `write` or `preview` that it makes. None: the request has none."""
    keyring: Keyring = field(default_factory=Keyring)
    passwords: PasswordHashing = field(default_factory=PasswordHashing)
    hosts: HostChecks = field(default_factory=HostChecks)
    activities: LruCache[int, Sequence[Any]] = field(default_factory=lambda: LruCache(_ACTIVITIES))
    """The cached past day of each organization: see `control.activity`."""
    checking: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    """Held while a thread checks a schema or tests a filter, so that these take only a share of the processor."""

    def occurrence(self, principal: Principal | None) -> Occurrence:
        """Return the id and author to record a usage event with. `principal` is None on the command line."""
        event_id = self.row_ids.next()
        if principal is None:
            return Occurrence(event_id, "")
        if principal.role is None and principal.customer is None:
            return Occurrence(event_id, principal.key_public_id)
        return Occurrence(event_id, "", principal.key_public_id, principal.customer or "")

    async def write(self, work: Work[T]) -> T:
        """Commit the work and update this worker's cache; then notify the other workers.

        Raises Unprocessable if the alias is taken, also by a concurrent request, and AlreadyDone if the idempotency
        key was used before.
        """
        now = self.clock.now()

        async def work_once(tx: Transaction) -> T:
            result = await work(tx)
            # After the work, whose result is the response to store. AlreadyDone rolls the work back.
            await self._keep_response(tx, result, now)
            return result

        try:
            result = await self.store.write_exclusively(work_once)
        except UniqueViolation as error:
            raise invalid("/alias", "is taken", code="alias_taken") from error
        # Before the response: the client's next request may arrive at this worker, and must see the change.
        with after_commit():
            await self.cache.catch_up()
        self.store.engine.notify(Notification(feed=True))
        return result

    async def preview(self, work: Work[T]) -> T:
        """Run work that only reads, in place of a `write` that would change something. It may take long.

        It takes no lock, and other workers are not notified. Raises AlreadyDone like `write`: the response is stored if
        the request has an idempotency key, but not in a transaction of the work.
        """
        result, now = await self.store.search(work), self.clock.now()
        if self.once is not None:
            await self.store.write(lambda tx: self._keep_response(tx, result, now))
        return result

    async def _keep_response(self, tx: Transaction, result: object, now: int) -> None:
        """Store the response if the request has an idempotency key.

        Raises QuotaExceeded, and AlreadyDone if the key was used before.
        """
        once = self.once
        if once is not None:
            kept = IdempotencyRecord(once.key.hash, once.key.fingerprint, once.content_of(result), once.id)
            await self.require_bytes(tx, once.key.organization, kept.size)
            if not await idempotency.store_key(tx, once.key.organization, kept, now):
                raise AlreadyDone

    async def write_as(self, principal: Principal | None, work: Callable[[Transaction, Record], Awaitable[T]]) -> T:
        """Like `write`, for work that records a usage event. `principal` is its author, None on the command line.

        Without a principal, a user is the author of the changes of that user. Raises QuotaExceeded for a creation
        beyond the quota.
        """
        occurrence = self.occurrence(principal)

        async def recorded(tx: Transaction) -> T:
            async def record_change(kind: EventKind, changed: Recorded, /, *, changes: Sequence[str] = ()) -> None:
                if principal is not None and kind in _COUNTED:
                    await self.count_creation(tx, principal, changed.organization, occurrence.id)
                is_own = principal is None and isinstance(changed, User)
                happened = occurrence._replace(user=changed.public_id) if is_own else occurrence
                await record(tx, happened, kind, changed, changes=changes)

            return await work(tx, record_change)

        return await self.write(recorded)

    async def require_bytes(self, tx: Transaction, organization: int, more: int) -> None:
        """Raise QuotaExceeded unless the organization may store `more` additional bytes."""
        owner = require_found(await organizations.get(tx, organization))
        most = quotas_of(owner.settings, self.settings.default_quotas).bytes_stored
        if most is not None and more > 0:
            check_quota("bytes_stored", most, await organizations.bytes_stored(tx, owner.account), more)

    async def count_creation(self, tx: Transaction, principal: Principal, organization: int, event_id: int) -> None:
        """Count a resource that an organization creates. Runs in an exclusive transaction, before the feed entry.

        Records a system event with this id when 80 % of the quota are used. Raises QuotaExceeded, and TooManyRequests
        for a customer beyond `most_creations_of_a_customer`, or if all customers together have used half of the quota.
        """
        owner = require_found(await organizations.get(tx, organization))
        now = self.clock.now()
        today = tallies.day_of(now)
        most = quotas_of(owner.settings, self.settings.default_quotas).creations_a_day
        if principal.customer is not None:
            end = tallies.end_of(today)
            budgets = [("A customer", f"creations {principal.customer}", most_creations_of_a_customer(most))]
            if most is not None:
                # The organization keeps the other half, however many customers it has.
                budgets.append(("Customers together", "creations", max(1, most // 2)))
            for who, subject, allowed in budgets:
                if not await tallies.take_one(tx, organization, subject, end=end, limit=allowed):
                    detail = f"{who} can create at most {allowed} endpoints, redeliveries and replays a day. "
                    remedy = "Try again after midnight (UTC)."
                    raise TooManyRequests(f"{detail}{remedy}", retry_after_seconds=-((now - end) // 1_000))
        used = await organizations.count_creation(tx, owner.account, today.start)
        check_quota("creations_a_day", most, used - 1)
        if most is not None and is_reported(most, used) and not is_reported(most, used - 1):
            event = QuotaNear(at=now, quota="creations_a_day", limit=most, used=used)
            await system_events.record(tx, owner.account, event_id, event)

    def require_match(self, stored: Resource) -> Resource:
        """Return the resource. Raises PreconditionFailed unless it matches the request's If-Match, if it has one.

        Every update and delete calls this in its transaction, after it has read the resource.
        """
        if self.match is not None and not self.match.matches_version(version_of(stored)):
            raise PreconditionFailed
        return stored


def reading(
    work: Callable[Concatenate[Transaction, Principal, P], Awaitable[T]],
) -> Callable[Concatenate[ControlContext, Principal, P], Coroutine[Any, Any, T]]:
    """Turn work that reads into an operation with its own transaction."""

    @wraps(work)
    async def operation(control: ControlContext, principal: Principal, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await control.store.read(lambda tx: work(tx, principal, *args, **kwargs))

    return operation


def searching(
    work: Callable[Concatenate[Transaction, Principal, P], Awaitable[T]],
) -> Callable[Concatenate[ControlContext, Principal, P], Coroutine[Any, Any, T]]:
    """Turn work that reads, and may take long, into an operation with its own transaction."""

    @wraps(work)
    async def operation(control: ControlContext, principal: Principal, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await control.store.search(lambda tx: work(tx, principal, *args, **kwargs))

    return operation


@contextmanager
def after_commit() -> Iterator[None]:
    """Raise failures of the store with the code `outcome_unknown`: a part of the request has been stored already."""
    try:
        yield
    except StoreUnavailable as error:
        raise StoreUnavailable from error


def require_found(resource: T | None) -> T:
    """Return the resource. Raises NotFound if it is None."""
    if resource is None:
        raise NotFound
    return resource


async def record(
    tx: Transaction,
    occurrence: Occurrence,
    kind: EventKind,
    changed: Recorded,
    *,
    changes: Sequence[str] = (),
) -> None:
    """Record the event of a change, and a feed entry if other workers cache the resource.

    `changes` has the names of the settings that have changed.
    """
    if type(changed) in _CACHED:
        await feed.record(tx, _CACHED[type(changed)], changed.organization, changed.id)
    name = changed.email if isinstance(changed, User) else changed.alias
    await events.record(tx, occurrence, kind, changed.organization, ref=changed.public_id, name=name, changes=changes)


def changed_settings(before: msgspec.Struct, after: msgspec.Struct) -> Sequence[str]:
    """Return the names of the settings in which a resource differs, as in the API.

    A status or a state is named by its new value. Other values are left out: they can be secret.
    """
    found: dict[str, None] = {}
    for name in before.__struct_fields__:
        old, new = getattr(before, name), getattr(after, name)
        if name in _LEFT_OUT or old == new:
            continue
        if isinstance(new, DeliveryOptions):
            names = changed_settings(old, new)
        elif isinstance(new, dict):
            names = [_NAMES.get(key, key) for key in sorted(old | new) if old.get(key) != new.get(key)]
        else:
            names = [new if name in _STATES else _NAMES.get(name, name)]
        found |= dict.fromkeys(names)
    return tuple(found)


def chosen(stored: T, given: T | UnsetType | None, default: T) -> T:
    """Return the value of a field after a request: UNSET keeps the stored one, None restores the default."""
    if isinstance(given, UnsetType):
        return stored
    return default if given is None else given


def within(
    stored: int | None, given: int | UnsetType | None, pointer: str, bounds: range, *, unit: str = ""
) -> int | None:
    """Return the value of a field after a request. Raises Unprocessable if it is sent and out of bounds."""
    if isinstance(given, int) and given not in bounds:
        raise invalid(pointer, out_of(bounds, unit))
    return chosen(stored, given, None)


def out_of(bounds: range, unit: str = "") -> str:
    return f"must be from {bounds.start} to {bounds.stop - 1} {unit}".rstrip()


def require_none(faults: Sequence[Fault], *, code: str = "invalid_value") -> None:
    """Raise Unprocessable if there are faults."""
    if faults:
        raise Unprocessable(sentence_of(*faults[0]), code=code, faults=tuple(faults))


def one_of(choices: tuple[Choice, ...], given: str, pointer: str) -> Choice:
    """Return the choice. Raises Unprocessable if it is none of the `choices`."""
    for choice in choices:
        if choice == given:
            return choice
    raise invalid(pointer, f"must be one of {', '.join(choices)}")
