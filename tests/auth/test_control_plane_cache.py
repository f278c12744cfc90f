import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from discue.auth import control_plane_cache
from discue.auth.control_plane_cache import ControlPlaneCache, KeyRejected, LruCache
from discue.control import api_keys, organizations, queues
from discue.control.api_keys import KeyFields
from discue.control.organizations import OrganizationFields
from discue.control.queues import QueueFields
from discue.domain.errors import NotFound, Unavailable
from discue.domain.schemas import compile_schema, parse_schema
from discue.domain.scopes import Scope
from discue.store import api_keys as key_rows
from discue.store import feed
from discue.store.engine import Transaction
from tests.support.cast import Cast, control_of


class Worker:
    """Another worker on the same database: its directory, and how often that asked the store."""

    def __init__(self, cast: Cast, monkeypatch: pytest.MonkeyPatch, entries: int = 100) -> None:
        store = cast.control.store
        self.store = store
        self.reads = 0
        self.before_answering: Callable[[], Any] | None = None
        read = store.read

        async def counted(work: Any) -> Any:
            self.reads += 1
            answer = await read(work)
            if self.before_answering is not None:
                meanwhile, self.before_answering = self.before_answering, None
                await meanwhile()
            return answer

        monkeypatch.setattr(store, "read", counted)
        self.cache = ControlPlaneCache(store, cast.clock, max_message_bytes=1_000, entries=entries)


@pytest.fixture
def worker(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> Worker:
    return Worker(cast, monkeypatch)


async def test_key_is_read_once_and_then_cached(cast: Cast, worker: Worker) -> None:
    first = await worker.cache.authenticate(cast.alice.key)
    reads = worker.reads
    assert await worker.cache.authenticate(cast.alice.key) is first
    assert worker.reads == reads
    assert first.principal.organization == cast.alice.principal.organization


@pytest.mark.parametrize(
    "presented",
    ["", "dsk_", "x" * 57, "dsk_" + "a" * 42, "dsk_" + "a" * 129, "dsk_" + "a" * 52 + "é", "dsk_" + "0" * 53],
)
async def test_malformed_or_unknown_key_is_read_every_time(worker: Worker, presented: str) -> None:
    """Neither must take another time than a key that exists."""
    for reads in (1, 2):
        with pytest.raises(KeyRejected) as refused:
            await worker.cache.authenticate(presented)
        assert (refused.value.counted, refused.value.known_key, worker.reads) == (True, None, reads)


async def look(worker: Worker) -> None:
    """Poll the change feed, like a worker."""
    polled = await worker.store.engine.poll(())
    await worker.cache.saw(polled.epoch, polled.feed_version)


async def test_wrong_secret_error_names_the_key(cast: Cast, worker: Worker) -> None:
    expected = (True, cast.alice.principal.key_public_id)
    for wrong in (cast.alice.key[:-4] + "0000", cast.alice.key + "0"):
        with pytest.raises(KeyRejected) as refused:
            await worker.cache.authenticate(wrong)
        assert (refused.value.counted, refused.value.known_key) == expected


async def test_key_revoked_by_another_worker_is_rejected_after_a_poll(cast: Cast, worker: Worker) -> None:
    bob = await cast.bob({"queues": Scope("write")})
    await worker.cache.authenticate(bob.key)
    await look(worker)
    fields = KeyFields(scopes={})
    await api_keys.change(cast.control, cast.alice.principal, bob.principal.key_public_id, fields)
    await look(worker)
    record = await worker.cache.authenticate(bob.key)
    assert not record.principal.may("queues", "read")
    await api_keys.delete(cast.control, cast.alice.principal, bob.principal.key_public_id)
    await look(worker)
    with pytest.raises(KeyRejected):
        await worker.cache.authenticate(bob.key)


async def test_queue_created_by_another_worker_is_found_at_once(cast: Cast, worker: Worker) -> None:
    principal = cast.alice.principal
    made = (await queues.create(cast.control, principal, QueueFields())).queue
    assert worker.cache.cached_queue(principal.organization, made.public_id) is None
    found = await worker.cache.queue(principal.organization, made.public_id)
    assert (found.id, found.config_version, found.max_message_bytes) == (made.id, 1, 1_000)
    assert worker.cache.cached_queue(principal.organization, made.public_id) is found


async def test_changed_queue_is_read_again(cast: Cast, worker: Worker) -> None:
    principal = cast.alice.principal
    made = (await queues.create(cast.control, principal, QueueFields())).queue
    await worker.cache.queue(principal.organization, made.public_id)
    await look(worker)
    await queues.change(cast.control, principal, made.public_id, QueueFields(max_message_bytes=7))
    await look(worker)
    found = await worker.cache.queue(principal.organization, made.public_id)
    assert (found.config_version, found.max_message_bytes) == (2, 7)


async def test_queue_is_cached_for_its_own_organization_only(cast: Cast, worker: Worker) -> None:
    made = (await queues.create(cast.control, cast.alice.principal, QueueFields())).queue
    await worker.cache.queue(made.organization, made.public_id)
    stranger = cast.charlie.principal.organization
    assert worker.cache.cached_queue(stranger, made.public_id) is None
    with pytest.raises(NotFound):
        await worker.cache.queue(stranger, made.public_id)


async def test_change_of_an_organization_evicts_all_its_keys_and_queues(cast: Cast, worker: Worker) -> None:
    bob = await cast.bob({})
    made = (await queues.create(cast.control, cast.alice.principal, QueueFields())).queue
    await worker.cache.catch_up()
    for key in (cast.alice.key, bob.key, cast.charlie.key):
        await worker.cache.authenticate(key)
    await worker.cache.queue(made.organization, made.public_id)
    fields = OrganizationFields("com.example.renamed")
    own = cast.alice.principal.organization_public_id
    await organizations.change(cast.control, cast.alice.principal, own, fields)
    await worker.cache.catch_up()
    assert worker.cache.cached_queue(made.organization, made.public_id) is None
    for key in (cast.alice.key, bob.key):
        assert (await worker.cache.authenticate(key)).organization.alias == "com.example.renamed"
    reads = worker.reads
    await worker.cache.authenticate(cast.charlie.key)
    assert worker.reads == reads


async def test_key_read_from_an_outdated_snapshot_is_read_again(cast: Cast, worker: Worker) -> None:
    bob = await cast.bob({"queues": Scope("write")})
    await worker.cache.catch_up()

    async def narrow() -> None:
        fields = KeyFields(scopes={})
        await api_keys.change(cast.control, cast.alice.principal, bob.principal.key_public_id, fields)
        await worker.cache.catch_up()

    worker.before_answering = narrow
    record = await worker.cache.authenticate(bob.key)
    assert not record.principal.may("queues", "read")


async def test_callers_that_wait_to_catch_up_share_one_read_of_the_feed(cast: Cast, worker: Worker) -> None:
    principal = cast.alice.principal
    made = (await queues.create(cast.control, principal, QueueFields())).queue
    await worker.cache.catch_up()
    await worker.cache.queue(principal.organization, made.public_id)
    waiting: list[asyncio.Task[None]] = []

    async def change_and_wait() -> None:
        # The read that runs may have begun before this change: the callers need another one.
        await queues.change(cast.control, principal, made.public_id, QueueFields(max_message_bytes=7))
        waiting.extend(asyncio.ensure_future(worker.cache.catch_up()) for _ in range(20))
        # They begin to wait before the read that runs has ended.
        await asyncio.sleep(0)

    worker.before_answering = change_and_wait
    await worker.cache.catch_up()
    reads = worker.reads
    await asyncio.gather(*waiting)
    assert worker.reads == reads + 1
    assert (await worker.cache.queue(principal.organization, made.public_id)).max_message_bytes == 7


async def test_failed_read_of_the_feed_is_repeated_by_the_next_caller(cast: Cast, worker: Worker) -> None:
    principal = cast.alice.principal
    made = (await queues.create(cast.control, principal, QueueFields())).queue
    await worker.cache.catch_up()
    await worker.cache.queue(principal.organization, made.public_id)
    await queues.change(cast.control, principal, made.public_id, QueueFields(max_message_bytes=7))

    async def fail() -> None:
        raise Unavailable

    worker.before_answering = fail
    results = await asyncio.gather(worker.cache.catch_up(), worker.cache.catch_up(), return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable, type(None)]
    assert worker.cache.cached_queue(principal.organization, made.public_id) is None


async def test_followers_get_changes_in_order_after_they_took_effect(cast: Cast, worker: Worker) -> None:
    heard: list[tuple[str, int, int]] = []
    principal = cast.alice.principal
    made = (await queues.create(cast.control, principal, QueueFields())).queue
    await worker.cache.catch_up()
    await worker.cache.queue(principal.organization, made.public_id)

    def follower(kind: str, organization: int, ref: int) -> None:
        assert worker.cache.cached_queue(principal.organization, made.public_id) is None
        heard.append((kind, organization, ref))

    worker.cache.follow(follower)
    await queues.delete(cast.control, principal, made.public_id)
    key = (await api_keys.create(cast.control, principal, KeyFields())).key
    await look(worker)
    await look(worker)
    assert heard == [
        ("queue", principal.organization, made.id),
        ("api_key", principal.organization, key.id),
    ]


@pytest.mark.parametrize(
    "rewrite",
    [
        "UPDATE meta SET value = 'another' WHERE key = 'epoch'",
        "DELETE FROM feed WHERE version > 1; UPDATE feed_head SET version = 1",
        "DELETE FROM feed WHERE version = (SELECT max(version) - 1 FROM feed)",
    ],
    ids=["another history", "a shorter history", "a hole"],
)
async def test_different_feed_evicts_everything(cast: Cast, worker: Worker, rewrite: str) -> None:
    await worker.cache.catch_up()
    heard: list[str] = []
    worker.cache.follow(lambda kind, _organization, _ref: heard.append(kind))
    await worker.cache.authenticate(cast.alice.key)
    principal = cast.charlie.principal
    for _ in range(2):
        await queues.create(cast.control, principal, QueueFields())

    async def lose_the_key(tx: Transaction) -> None:
        await key_rows.delete(tx, cast.alice.principal.organization, cast.alice.principal.key)
        await tx.execute(rewrite)

    await cast.control.store.write(lose_the_key)
    await worker.cache.catch_up()
    assert heard == ["everything"]
    with pytest.raises(KeyRejected):
        await worker.cache.authenticate(cast.alice.key)
    await worker.cache.catch_up()
    assert heard == ["everything"]


async def test_long_feed_is_followed_to_its_end(cast: Cast, worker: Worker) -> None:
    await worker.cache.catch_up()
    heard: list[int] = []
    worker.cache.follow(lambda _kind, _organization, ref: heard.append(ref))

    async def many(tx: Transaction) -> None:
        for ref in range(1_200):
            await tx.execute(
                "INSERT INTO feed (shard, version, kind, organization, ref) "
                "SELECT 0, version + 1, 'listener', 1, $1 FROM feed_head",
                ref,
            )
            await tx.execute("UPDATE feed_head SET version = version + 1")

    await cast.control.store.write(many)
    await look(worker)
    assert heard == list(range(1_200))


async def test_followers_hear_once_of_several_changes_at_one_place(cast: Cast, worker: Worker) -> None:
    """A queue with thousands of lanes may lose hundreds of messages at once."""
    await worker.cache.catch_up()
    heard: list[int] = []
    worker.cache.follow(lambda _kind, _organization, ref: heard.append(ref))

    async def many(tx: Transaction) -> None:
        for ref in (1, 2, 1, 1, 2):
            await feed.record(tx, "message", 1, ref)

    await cast.control.store.write(many)
    await look(worker)
    assert heard == [1, 2]


async def test_cache_evicts_the_least_recently_used_entries(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(cast, monkeypatch, entries=2)
    for key in (cast.alice.key, cast.charlie.key, cast.alice.key, cast.olga.key):
        await worker.cache.authenticate(key)
    reads = worker.reads
    await worker.cache.authenticate(cast.alice.key)
    assert worker.reads == reads
    await worker.cache.authenticate(cast.charlie.key)
    assert worker.reads == reads + 1


async def test_times_of_last_use_are_stored_in_one_write(cast: Cast) -> None:
    worker = control_of(cast.control.store, cast.clock)
    cast.clock.advance(60_000)
    for person in (cast.alice, cast.charlie, cast.alice):
        await worker.cache.authenticate(person.key)
    assert not await worker.cache.flush_usage()
    for person in (cast.alice, cast.charlie):
        own = person.principal.key_public_id
        assert (await api_keys.get(cast.control, person.principal, own)).last_used_at == cast.clock.now()
    own = cast.olga.principal.key_public_id
    assert (await api_keys.get(cast.control, cast.olga.principal, own)).last_used_at < cast.clock.now()


async def test_rejected_key_is_not_marked_as_used(cast: Cast) -> None:
    worker = control_of(cast.control.store, cast.clock)
    with pytest.raises(KeyRejected):
        await worker.cache.authenticate(cast.alice.key + "0")
    await worker.cache.flush_usage()
    own = cast.alice.principal.key_public_id
    assert (await api_keys.get(cast.control, cast.alice.principal, own)).last_used_at == 0


KEYS = st.integers(0, 7)
TAGS = st.integers(100, 103)
LIMIT = 4


class CacheBesideAModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.cache: LruCache[int, tuple[int, ...]] = LruCache(LIMIT)
        self.model: OrderedDict[int, tuple[int, ...]] = OrderedDict()
        self.put_at: dict[int, int] = {}
        self.puts = 0

    @rule(key=KEYS, tags=st.lists(TAGS, min_size=1, max_size=2).map(tuple))
    def put(self, key: int, tags: tuple[int, ...]) -> None:
        self.cache.put(key, tags, tags)
        self.model.pop(key, None)
        self.model[key] = tags
        self.puts += 1
        self.put_at[key] = self.puts
        if len(self.model) > LIMIT:
            own = [each for each, known in self.model.items() if tags[-1] in known]
            is_most = len(own) > LIMIT // 2
            del self.model[min(own, key=self.put_at.__getitem__) if is_most else next(iter(self.model))]

    @rule(key=KEYS)
    def get(self, key: int) -> None:
        assert self.cache.get(key) == self.model.get(key)
        if key in self.model:
            self.model.move_to_end(key)

    @rule(tag=TAGS)
    def drop(self, tag: int) -> None:
        self.cache.invalidate(tag)
        for key in [key for key, tags in self.model.items() if tag in tags]:
            del self.model[key]

    @rule()
    def clear(self) -> None:
        self.cache.clear()
        self.model.clear()

    @invariant()
    def as_many_as_there_should_be(self) -> None:
        assert len(self.cache) == len(self.model) <= LIMIT

    @invariant()
    def nothing_is_remembered_of_what_was_forgotten(self) -> None:
        assert set(self.cache._tags) == set(self.model)
        assert set(self.cache._keys_by_tag) == {tag for tags in self.model.values() for tag in tags}


TestLruCache = CacheBesideAModel.TestCase
TestLruCache.settings = settings(max_examples=30)


async def test_schema_is_compiled_once_while_other_changes_pass(
    cast: Cast, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = QueueFields(schema=parse_schema(b'{"type": "number"}', "json_schema"))
    queue = (await queues.create(cast.control, cast.alice.principal, fields)).queue
    compiled: list[str] = []

    async def change_another() -> None:
        await queues.create(cast.control, cast.charlie.principal, QueueFields())
        await worker.cache.catch_up()

    def counted(schema: str, language: Any) -> Any:
        compiled.append(schema)
        asyncio.run_coroutine_threadsafe(change_another(), loop).result()
        return compile_schema(schema, language)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(control_plane_cache, "compile_schema", counted)
    record = await worker.cache.queue(queue.organization, queue.public_id)
    assert record.checker is not None
    assert len(compiled) == 1


async def test_organizations_take_turns_to_compile(worker: Worker) -> None:
    order: list[int] = []
    others_wait = threading.Event()

    def compiled(organization: int) -> None:
        assert others_wait.wait(timeout=30)
        order.append(organization)

    waiting = asyncio.gather(*[worker.cache._in_turn(each, partial(compiled, each)) for each in (1, 1, 1, 2)])
    asyncio.get_running_loop().call_soon(others_wait.set)
    await waiting
    assert order == [1, 2, 1, 1]


def test_organization_with_over_half_of_a_cache_evicts_its_own_items() -> None:
    cache: LruCache[str, int] = LruCache(4)
    for key, organization in (("a", 1), ("b", 2), ("c", 2), ("d", 2), ("e", 2)):
        cache.put(key, organization, (ord(key), organization))
    assert [key for key in "abcde" if cache.get(key)] == ["a", "c", "d", "e"]
