"""A cache of the control plane: what authentication and routing need, kept current by the change feed.

Only existing rows are cached. A miss reads the store, so that keys and queues that another worker has just created are
found.
"""

import asyncio
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from hashlib import sha256
from typing import Generic, Literal, TypeVar

import msgspec

from discue.domain import api_key
from discue.domain.clock import Clock
from discue.domain.errors import Locked, NotFound, Unauthorized, Unavailable
from discue.domain.event_types import TypePattern, parse_pattern
from discue.domain.filters import Filter, compile_filter
from discue.domain.lockout import Lockout, LockoutTable
from discue.domain.messages import Entry
from discue.domain.model import ApiKey, Channel, EventType, Organization, Queue, SchemaLanguage, Topic
from discue.domain.quotas import NO_QUOTAS, Quotas, quotas_of
from discue.domain.schemas import SchemaValidator, compile_schema
from discue.domain.scopes import Principal, parse_scopes
from discue.store import aliases, api_keys, event_types, feed, lockouts, organizations, queues, topics
from discue.store.aliases import Named
from discue.store.engine import Transaction
from discue.store.feed import Change, FeedKind
from discue.store.organizations import REQUIRE_KNOWN_TYPES
from discue.store.store import Store

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")

ENTRIES = 100_000
"""Capacity for keys, and for queues."""

CHECKED_ENTRIES = 1_000
"""Capacity for queues with a schema, and for event types: a compiled schema takes far more memory than a queue."""

TOPICS = 10_000
"""Capacity for topics: each has the compiled filters of its channels."""

LOCKS = 100_000
"""Capacity for lockouts."""

_LOCKS_READ = 10_000
_CHANGES_AT_ONCE = 500
_USES_AT_ONCE = 500
_NO_KEY = api_key.PresentedKey("", "")
_NO_HASH = api_key.hash_secret("")[::-1]

ChangeKind = FeedKind | Literal["everything"]

PublishedKind = Literal["queue", "topic"]
"""Resources that clients publish to."""

Follower = Callable[[ChangeKind, int, int], None]
"""Called with the kind of each change, the organization and the row id. ("everything", 0, 0): drop all cached state."""


class KeyRejected(Unauthorized):
    """The API key is not valid."""

    code = "key_unknown"

    def __init__(self, *, code: str = "", known_key: str | None = None, counted: bool = True) -> None:
        """`counted` attempts lead to a lockout: of `known_key` if its secret was wrong, otherwise of unknown keys."""
        self.known_key = known_key
        self.counted = counted
        super().__init__(code=code)


class KeyRecord(msgspec.Struct, frozen=True):
    """An API key, its organization, and the principal that it authenticates."""

    key: ApiKey
    organization: Organization
    principal: Principal


class QueueRecord(msgspec.Struct, frozen=True, gc=False):
    """A queue, as publishing needs it."""

    organization: int
    id: int
    public_id: str
    alias: str
    config_version: int
    max_message_bytes: int
    quotas: Quotas | None = None
    """None: no quota limits publishing."""
    checker: SchemaValidator | None = None
    """None: the queue has no schema."""
    ordered: bool = False
    account: int = 0
    """The organization whose quotas apply."""
    is_system: bool = False
    """Whether clients may not publish to it."""
    has_known_types: bool = False
    """Whether messages must have types from the organization's catalogue."""


class EventTypeRecord(msgspec.Struct, frozen=True, gc=False):
    """An event type of a catalogue, as publishing needs it."""

    checker: SchemaValidator | None
    """None if the event type has no schema."""


class LruCache(Generic[Key, Item]):
    """An LRU cache with at most `limit` items. Each item has tags, which name what it depends on.

    The last tag is the organization. An organization with over half of a full cache evicts its own oldest item.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: OrderedDict[Key, Item] = OrderedDict()
        self._tags: dict[Key, frozenset[int]] = {}
        self._keys_by_tag: dict[int, dict[Key, None]] = {}

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: Key) -> Item | None:
        """Return an item and mark it as recently used; None if it is not cached."""
        item = self._items.get(key)
        if item is not None:
            self._items.move_to_end(key)
        return item

    def put(self, key: Key, item: Item, tags: tuple[int, ...]) -> None:
        """Add or replace an item. If the cache is full, evict the least recently used one."""
        # Remove a replaced item first, or it would keep its old tags.
        self._remove(key)
        self._items[key] = item
        self._tags[key] = frozenset(tags)
        for tag in self._tags[key]:
            self._keys_by_tag.setdefault(tag, {})[key] = None
        if len(self._items) > self._limit:
            own = self._keys_by_tag[tags[-1]]
            self._remove(next(iter(own if len(own) > self._limit // 2 else self._items)))

    def invalidate(self, tag: int) -> None:
        for key in tuple(self._keys_by_tag.get(tag, ())):
            self._remove(key)

    def clear(self) -> None:
        self._items.clear()
        self._tags.clear()
        self._keys_by_tag.clear()

    def _remove(self, key: Key) -> None:
        self._items.pop(key, None)
        for tag in self._tags.pop(key, ()):
            keys = self._keys_by_tag[tag]
            keys.pop(key, None)
            if not keys:
                del self._keys_by_tag[tag]


class Way(msgspec.Struct, frozen=True, gc=False):
    """A channel of a topic: the public id of its queue, and the pattern and filter of its messages (None: all)."""

    alias: str
    queue: str
    pattern: TypePattern | None
    filter: Filter | None

    def takes(self, event_type: str | None, entry: Entry) -> bool:
        """Return whether the channel accepts a message. A message without a type matches no pattern."""
        if self.pattern is not None and (event_type is None or not self.pattern.matches(event_type)):
            return False
        return self.filter is None or self.filter.accepts(entry)


class TopicRecord(msgspec.Struct, frozen=True, gc=False):
    """A topic and its routes, oldest first. `quotas` is None if no quota limits publishing."""

    organization: int
    id: int
    public_id: str
    alias: str
    routes_version: int
    ways: tuple[Way, ...]
    quotas: Quotas | None = None
    account: int = 0
    """The organization whose quotas apply."""
    has_known_types: bool = False
    """Whether messages must have types from the organization's catalogue."""


class ControlPlaneCache:
    """Keys, queues, topics and lockouts of one store. Used from one event loop."""

    def __init__(
        self, store: Store, clock: Clock, *, max_message_bytes: int, quotas: Quotas = NO_QUOTAS, entries: int = ENTRIES
    ) -> None:
        """`max_message_bytes` and `quotas` are the defaults of queues and organizations without their own."""
        self._store = store
        self._quotas = quotas
        self._clock = clock
        self._max_message_bytes = max_message_bytes
        self._keys: LruCache[bytes, KeyRecord] = LruCache(entries)
        self._queues: LruCache[tuple[int, str], QueueRecord] = LruCache(entries)
        self._topics: LruCache[tuple[int, str], TopicRecord] = LruCache(min(entries, TOPICS))
        self._checked_queues: LruCache[tuple[int, str], QueueRecord] = LruCache(min(entries, CHECKED_ENTRIES))
        self._event_types: LruCache[tuple[int, str], EventTypeRecord] = LruCache(min(entries, CHECKED_ENTRIES))
        self._names: LruCache[tuple[int, PublishedKind, str], str] = LruCache(entries)
        self._caches = (
            *(self._keys, self._queues, self._topics, self._checked_queues, self._event_types),
            self._names,
        )
        self._compiling = asyncio.Lock()
        self._compiling_for: weakref.WeakValueDictionary[int, asyncio.Lock] = weakref.WeakValueDictionary()
        self._used: dict[tuple[int, int], int] = {}
        self._followers: list[Follower] = []
        self._catching_up = asyncio.Lock()
        self._catch_ups_begun = 0
        self._caught_up_by = 0
        """The number of the last catch-up that has ended."""
        self.version = 0
        """The version of the change feed that the cache has followed."""
        self._epoch = ""
        self.locks = LockoutTable(LOCKS)

    async def open(self) -> None:
        """Drop what is cached, load the lockouts, and follow the feed from its current version."""
        now = self._clock.now()
        self._epoch, self.version, locks = await self._store.read(lambda tx: _present(tx, now))
        for cache in self._caches:
            cache.clear()
        self.locks.until.clear()
        self._hold(locks)

    def follow(self, follower: Follower) -> None:
        """Call the follower for each change, after it has taken effect in the cache."""
        self._followers.append(follower)

    def known(self, presented: str) -> KeyRecord | None:
        """Return the record of a key that was accepted before. Raises what `authenticate` raises.

        Accepted keys are cached by a digest of their whole text, so that the time of a lookup reveals nothing of the
        text.
        """
        record = self._keys.get(_digest(presented))
        return self._used_now(record) if record is not None else None

    async def authenticate(self, presented: str) -> KeyRecord:
        """Return the record of a key. Raises KeyRejected, and Locked if the organization is suspended."""
        return self.known(presented) or self._used_now(await self._identify(presented))

    def cached_queue(self, organization: int, public_id: str) -> QueueRecord | None:
        key = (organization, public_id)
        return self._queues.get(key) or self._checked_queues.get(key)

    async def queue(self, organization: int, public_id: str) -> QueueRecord:
        """Return the queue. Raises NotFound, and Unprocessable if its schema is not supported any more."""
        known = self.cached_queue(organization, public_id)
        if known is not None:
            return known
        schema: str | None = None
        checker: SchemaValidator | None = None
        while True:
            version, queue, owner = await self._store.read(lambda tx: _read_queue(tx, organization, public_id))
            if queue is None or owner is None:
                raise NotFound
            # Other changes may pass while a schema is compiled: compile it again only if it differs.
            if queue.schema != schema:
                schema = queue.schema
                checker = await self._compiled(organization, schema, queue.schema_language)
            record = self._queue_record(queue, owner, checker)
            if version >= self.version:
                kept = self._queues if record.checker is None else self._checked_queues
                kept.put((organization, public_id), record, (record.id, organization))
                return record

    async def topic(self, organization: int, public_id: str) -> TopicRecord:
        """Return the topic. Raises NotFound."""
        known = self._topics.get((organization, public_id))
        channels: list[Channel] = []
        ways: tuple[Way, ...] = ()
        while known is None:
            version, topic, found, owner = await self._store.read(lambda tx: _read_topic(tx, organization, public_id))
            if topic is None or owner is None:
                raise NotFound
            if found != channels:
                channels = found
                # Compiling the filters of 50 channels takes up to 1 s.
                is_long = any(channel.filter for channel in found)
                ways = await self._in_turn(organization, partial(_ways, found)) if is_long else _ways(found)
            if version >= self.version:
                quotas = quotas_of(owner.settings, self._quotas)
                known = TopicRecord(
                    topic.organization,
                    topic.id,
                    topic.public_id,
                    topic.alias,
                    topic.routes_version,
                    ways,
                    quotas if quotas.limit_publishing else None,
                    owner.account,
                    bool(owner.settings.get(REQUIRE_KNOWN_TYPES)),
                )
                self._topics.put((organization, public_id), known, (known.id, organization))
        return known

    async def event_type(self, organization: int, event_type: str) -> EventTypeRecord:
        """Return an event type of the catalogue. Raises NotFound."""
        known = self._event_types.get((organization, event_type))
        schema: str | None = None
        checker: SchemaValidator | None = None
        while known is None:
            version, found = await self._store.read(lambda tx: _read_event_type(tx, organization, event_type))
            if found is None:
                raise NotFound
            if found.json_schema != schema:
                schema = found.json_schema
                checker = await self._compiled(organization, schema, "json_schema")
            if version >= self.version:
                known = EventTypeRecord(checker)
                self._event_types.put((organization, event_type), known, (found.id, organization))
        return known

    async def id_of(self, organization: int, kind: PublishedKind, alias: str) -> str | None:
        """Return the public id of the queue or topic with this alias; None if there is none.

        What has had the alias may have been renamed or deleted since, as storing a message finds out.
        """
        known = self._names.get((organization, kind, alias))
        while known is None:
            version, named = await self._store.read(lambda tx: _read_name(tx, organization, kind, alias))
            if named is None:
                return None
            if version >= self.version:
                known = named.public_id
                self._names.put((organization, kind, alias), known, (named.id, organization))
        return known

    async def catch_up(self) -> None:
        """Evict everything that any worker has changed before this call, then notify the followers.

        However many callers wait, the next one does it for all of them.
        """
        begun_before = self._catch_ups_begun
        async with self._catching_up:
            if self._caught_up_by > begun_before:
                return
            self._catch_ups_begun += 1
            while await self._follow_some():
                pass
            self._caught_up_by = self._catch_ups_begun

    async def saw(self, epoch: str, version: int) -> None:
        """Catch up unless the feed is still at the known version."""
        if epoch != self._epoch or version != self.version:
            await self.catch_up()

    async def reset(self) -> None:
        """Drop all cached state: after a failover, the store may have a shorter history than the one that was read.

        Followers are not notified: their state is equally invalid, and the caller resets them as well.
        """
        async with self._catching_up:
            await self.open()

    async def flush_usage(self) -> bool:
        """Store the times of last use of at most 500 keys. Returns whether more are left."""
        waiting = list(self._used)
        uses = [(owner, self._used.pop(owner)) for owner in waiting[:_USES_AT_ONCE]]

        async def work(tx: Transaction) -> None:
            for (organization, key), at in uses:
                await api_keys.mark_used(tx, organization, key, at)

        try:
            if uses:
                await self._store.write(work)
        except Unavailable:
            for owner, at in uses:
                self._used.setdefault(owner, at)
            raise
        return len(waiting) > len(uses)

    def _hold(self, locks: Iterable[Lockout]) -> None:
        now = self._clock.now()
        for lock in locks:
            self.locks.set(lock.subject, lock.until, now)

    def _used_now(self, record: KeyRecord) -> KeyRecord:
        now = self._clock.now()
        if record.key.status != "enabled":
            raise KeyRejected(code="key_disabled", counted=False)
        if 0 < record.key.expires_at <= now:
            raise KeyRejected(code="key_expired", counted=False)
        if record.organization.state != "active":
            raise Locked
        self._used[record.key.organization, record.key.id] = now
        return record

    async def _identify(self, presented: str) -> KeyRecord:
        """Read the key from the store. Every wrong key costs the same work: the time must not reveal what is wrong."""
        parts = api_key.parse(presented)
        public_id, secret = parts or _NO_KEY
        while True:
            version, key, organization = await self._store.read(lambda tx: _read_key(tx, public_id))
            is_right = api_key.matches(secret, key.secret_hash if key is not None else _NO_HASH)
            if key is None or organization is None:
                raise KeyRejected
            if not is_right:
                raise KeyRejected(known_key=public_id)
            # A snapshot older than the feed may miss a change that was already followed, and would stay cached.
            if version >= self.version:
                principal = Principal(
                    organization=organization.id,
                    organization_public_id=organization.public_id,
                    key=key.id,
                    key_public_id=key.public_id,
                    scopes=parse_scopes(msgspec.json.decode(key.scopes)),
                    is_operator=organization.is_operator,
                    expires_at=key.expires_at,
                )
                record = KeyRecord(key, organization, principal)
                self._keys.put(_digest(presented), record, (key.id, key.organization))
                return record

    async def _compiled(
        self, organization: int, schema: str | None, language: SchemaLanguage
    ) -> SchemaValidator | None:
        # Compiling 200 patterns takes up to 0.3 s.
        compiled = partial(compile_schema, schema or "", language)
        return None if schema is None else await self._in_turn(organization, compiled)

    async def _in_turn(self, organization: int, compiled: Callable[[], Item]) -> Item:
        """Compile in a thread, one at a time. Organizations take turns, however much each has to compile."""
        own = self._compiling_for.setdefault(organization, asyncio.Lock())
        async with own, self._compiling:
            return await asyncio.to_thread(compiled)

    def _queue_record(self, queue: Queue, owner: Organization, checker: SchemaValidator | None) -> QueueRecord:
        limit = self._max_message_bytes if queue.max_message_bytes is None else queue.max_message_bytes
        quotas = quotas_of(owner.settings, self._quotas)
        return QueueRecord(
            queue.organization,
            queue.id,
            queue.public_id,
            queue.alias,
            queue.config_version,
            limit if checker is None else min(limit, checker.max_bytes),
            quotas=quotas if quotas.limit_publishing else None,
            checker=checker,
            ordered=queue.ordered,
            account=owner.account,
            is_system=queue.is_system,
            has_known_types=bool(owner.settings.get(REQUIRE_KNOWN_TYPES)),
        )

    async def _follow_some(self) -> bool:
        """Apply one batch of the feed. Returns whether there may be more."""
        version = self.version
        epoch, head, changes, locks = await self._store.read(lambda tx: _changes_since(tx, version))
        # A failover may have lost changes that were read, and trimming changes that were not: neither can be followed.
        expected = range(version + 1, version + 1 + len(changes))
        if epoch != self._epoch or head < version or [change.version for change in changes] != list(expected):
            await self.open()
            self._notify("everything", 0, 0)
            return False
        self.version = version + len(changes)
        self._hold(locks)
        # Row ids are unique across tables: one id evicts a key, a queue, a topic, or all of an organization.
        for change in changes:
            for cache in self._caches:
                cache.invalidate(change.ref)
        # Only now: a follower may read the cache at once, also for a later change of the batch. It learns of several
        # changes at the same place once: a queue may have thousands of lanes, and hundreds of deleted messages.
        for what in dict.fromkeys((change.kind, change.organization, change.ref) for change in changes):
            self._notify(*what)
        return self.version != head

    def _notify(self, what: ChangeKind, organization: int, ref: int) -> None:
        for follower in self._followers:
            follower(what, organization, ref)


def _digest(presented: str) -> bytes:
    """Return the cache key of a key. Any text has one, also one with lone surrogates, which no key contains."""
    return sha256(presented.encode(errors="surrogatepass")).digest()


async def _read_event_type(tx: Transaction, organization: int, event_type: str) -> tuple[int, EventType | None]:
    found = await event_types.of_type(tx, organization, event_type)
    return await feed.head(tx), found


async def _read_queue(
    tx: Transaction, organization: int, public_id: str
) -> tuple[int, Queue | None, Organization | None]:
    queue = await queues.get(tx, organization, public_id)
    owner = await organizations.get(tx, organization)
    return await feed.head(tx), queue, owner


async def _read_name(tx: Transaction, organization: int, kind: PublishedKind, alias: str) -> tuple[int, Named | None]:
    named = await aliases.find(tx, kind, organization, alias)
    return await feed.head(tx), named


async def _read_topic(
    tx: Transaction, organization: int, public_id: str
) -> tuple[int, Topic | None, list[Channel], Organization | None]:
    topic = await topics.get(tx, organization, public_id)
    found = await topics.channels_of(tx, topic) if topic is not None else []
    return await feed.head(tx), topic, found, await organizations.get(tx, organization)


def _ways(channels: Sequence[Channel]) -> tuple[Way, ...]:
    return tuple(
        Way(
            channel.alias,
            channel.queue_public_id,
            None if channel.pattern is None else parse_pattern(channel.pattern),
            None if channel.filter is None else compile_filter(channel.filter),
        )
        for channel in channels
    )


async def _read_key(tx: Transaction, public_id: str) -> tuple[int, ApiKey | None, Organization | None]:
    """Read a key and its organization. An unknown key reads the operator's, so that it costs the same work."""
    version = await feed.head(tx)
    key = await api_keys.by_public_id(tx, public_id)
    owner = await organizations.get(tx, key.organization) if key is not None else await organizations.operator(tx)
    return version, key, owner


async def _present(tx: Transaction, now: int) -> tuple[str, int, list[Lockout]]:
    return await feed.epoch(tx), await feed.head(tx), await lockouts.active(tx, now, _LOCKS_READ)


async def _changes_since(tx: Transaction, version: int) -> tuple[str, int, list[Change], list[Lockout]]:
    epoch, head = await feed.epoch(tx), await feed.head(tx)
    changes = await feed.since(tx, version, _CHANGES_AT_ONCE)
    subjects = {change.ref for change in changes if change.kind == "lockout"}
    return epoch, head, changes, await lockouts.locks_of(tx, subjects)
