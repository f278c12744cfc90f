"""Publishing: messages are checked, numbered and durable when this returns; delivering them is the lanes' work."""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from discue.auth.control_plane_cache import ControlPlaneCache, QueueRecord
from discue.domain.clock import Clock
from discue.domain.errors import Fault, NotFound, PayloadTooLarge, Unavailable, Unprocessable
from discue.domain.idempotency import IdempotencyKey
from discue.domain.ids import PublicIds, RowIds
from discue.domain.messages import NO_KEY_HASH, Entry, MessageOptions, encode_options, hash_key
from discue.domain.quotas import PublishUsage
from discue.domain.schemas.validator import MAX_FAULTS, SchemaValidator
from discue.publishing.quota_gate import QuotaGate
from discue.store.engine import (
    AlreadyDone,
    Append,
    Appended,
    IdempotencyRecord,
    NewEntry,
    QueueClosed,
    StaleConfiguration,
    UniqueViolation,
)
from discue.store.store import Store

_TRIES = 5
_NO_OPTIONS = MessageOptions()

_pack: Callable[[object], bytes] = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[tuple[str, str | None]]).decode


class NewMessage(msgspec.Struct, frozen=True, gc=False):
    """A message as its producer gave it, and checked. What was not given is None.

    `pointer` says where in the request its data stands.
    """

    body: bytes
    is_json: bool
    alias: str | None = None
    pointer: str = "/data"
    expires_at: int | None = None
    options: MessageOptions | None = None

    @property
    def place(self) -> str:
        """Where in the request the message stands."""
        return self.pointer.removesuffix("/data")


class Publisher(msgspec.Struct, frozen=True):
    """What publishing needs."""

    store: Store
    cache: ControlPlaneCache
    clock: Clock
    public_ids: PublicIds
    quotas: QuotaGate
    row_ids: RowIds


async def publish(
    publisher: Publisher, queue: QueueRecord, drafts: Sequence[NewMessage], *, once: IdempotencyKey | None = None
) -> tuple[Entry, ...]:
    """Store messages of one queue, all or none, and return them as they stand in its log.

    With an idempotency key they are stored at most once: AlreadyDone says that they, or others, were.
    Raises NotFound when the queue is gone, PayloadTooLarge (with a pointer for a batch), Unprocessable
    with one for each violation of the queue's schema (100 at most), QuotaUsedUp, Overloaded,
    and StoreUnavailable: then whether they were stored is unknown, as after any lost answer.
    """
    if queue.quotas is None:
        return await _publish(publisher, queue, drafts, once)
    more = PublishUsage(len(drafts), sum(len(draft.body) for draft in drafts))
    async with publisher.quotas.room(queue.organization, queue.quotas, more):
        return await _publish(publisher, queue, drafts, once)


async def _publish(
    publisher: Publisher, queue: QueueRecord, drafts: Sequence[NewMessage], once: IdempotencyKey | None
) -> tuple[Entry, ...]:
    new = tuple(entry_for(publisher.public_ids.next(), draft, ordered=queue.ordered) for draft in drafts)
    kept = None if once is None else _kept(publisher, once, new)
    for _ in range(_TRIES):
        check_messages(drafts, queue.max_message_bytes, queue.checker)
        now = publisher.clock.now()
        append = Append(queue.organization, queue.id, queue.config_version, now, new, kept)
        try:
            appended: Appended = await publisher.store.append(append)
        except StaleConfiguration:
            await publisher.cache.catch_up()
            queue = await publisher.cache.queue(queue.organization, queue.public_id)
        except QueueClosed as error:
            raise NotFound from error
        except UniqueViolation as error:
            if once is None:
                raise
            # Another worker kept the key at the same moment.
            raise AlreadyDone from error
        else:
            return appended.entries
    raise Unavailable("The queue's configuration keeps changing. Try again soon.")


def _kept(publisher: Publisher, once: IdempotencyKey, new: tuple[NewEntry, ...]) -> IdempotencyRecord:
    content = _pack([(each.id, each.alias) for each in new])
    return IdempotencyRecord(once.hash, once.fingerprint, content, publisher.row_ids.next())


def entry_for(public_id: str, draft: NewMessage, *, ordered: bool = False, body_id: int | None = None) -> NewEntry:
    """The message as it is appended, to an `ordered` queue or to another one."""
    if draft.options is None and not ordered:
        return NewEntry(public_id, draft.is_json, draft.body, draft.alias, body_id=body_id)
    options = draft.options or _NO_OPTIONS
    without = NO_KEY_HASH if ordered else None
    return NewEntry(
        public_id,
        draft.is_json,
        draft.body,
        draft.alias,
        expires_at=draft.expires_at,
        key_hash=without if options.key is None else hash_key(options.key),
        extra=encode_options(options),
        due_at=options.deliver_at,
        body_id=body_id,
    )


def check_messages(drafts: Sequence[NewMessage], limit: int, checker: SchemaValidator | None) -> None:
    """Raises PayloadTooLarge and Unprocessable unless they fit a queue: its largest message, and its schema if any."""
    _check_sizes(limit, drafts)
    if checker is not None:
        _check_schema(checker, drafts)


def stored_messages(content: bytes) -> list[tuple[str, str | None]]:
    """Ids and aliases of the messages that an idempotency key was used for, from what is kept with it.

    It is not sealed: the same stands beside it in the log.
    """
    return _unpack(content)


def _check_schema(checker: SchemaValidator, drafts: Sequence[NewMessage]) -> None:
    faults = violations_of(checker, drafts)
    if faults:
        first = faults[0]
        sentence = f"The queue's schema does not allow this: {first.pointer} {first.detail}."
        raise Unprocessable(sentence, faults=faults)


def violations_of(checker: SchemaValidator, drafts: Iterable[NewMessage]) -> tuple[Fault, ...]:
    """What a queue's schema has against messages: 100 at most."""
    faults: list[Fault] = []
    for draft in drafts:
        if not draft.is_json:
            faults.append(Fault(draft.pointer, "must be JSON: the queue has a schema"))
        else:
            faults.extend(checker.violations(draft.body, draft.pointer))
        if len(faults) >= MAX_FAULTS:
            break
    return tuple(faults[:MAX_FAULTS])


def _check_sizes(limit: int, drafts: Sequence[NewMessage]) -> None:
    for draft in drafts:
        if len(draft.body) > limit:
            raise PayloadTooLarge(
                f"A message of this queue has at most {limit} bytes.", faults=(size_fault(draft, limit),)
            )


def size_fault(draft: NewMessage, limit: int) -> Fault:
    """What is wrong with a message that is larger than its queue's limit."""
    return Fault(draft.pointer, f"has {len(draft.body)} bytes; at most {limit} are allowed")
