"""What became of one message for each listener: read from cursors, exceptions and attempts, never stored."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from discue.domain.filters.filters import compile_filter
from discue.domain.model import Delivery, DeliveryState, StoredMessage
from discue.domain.window import Window
from discue.store.attempts import MAX_PER_MESSAGE
from discue.store.engine import Row, Transaction
from discue.store.listeners import decode_delivery_options
from discue.store.message_log import entry_like

SHOWN_LISTENERS: Final = 100

RECIPIENTS: Final = """
    SELECT listener.id, listener.public_id, cursor.position, cursor.ahead, listener.settings FROM listener
    JOIN cursor ON cursor.organization = listener.organization AND cursor.listener = listener.id
        AND cursor.stream = 0
    WHERE listener.organization = $1 AND listener.queue = $2 AND listener.deleted_at IS NULL
        AND cursor.start_seq < $3"""
"""The listeners that a message is for, by its `origin_seq`."""

_OLDEST: Final = f"{RECIPIENTS} ORDER BY listener.id LIMIT $4"
_EXCEPTION: Final = """
    SELECT state, attempts, reason, due_at FROM exception
    WHERE organization = $1 AND listener = $2 AND stream = 0 AND seq = $3"""
_MISSED_RANGE: Final = """
    SELECT seq_to, reason FROM missed_range WHERE organization = $1 AND listener = $2 AND seq_from <= $3
    ORDER BY seq_from DESC LIMIT 1"""
# The key stands in the log alone: a row there, and those of its key by an index.
_BLOCKED: Final = """
    SELECT b.id FROM log JOIN exception e ON e.organization = log.organization AND e.queue = log.queue
        AND e.key_hash = log.key_hash
    LEFT JOIN log b ON b.organization = e.organization AND b.queue = e.queue AND b.seq = e.seq
    WHERE log.organization = $1 AND log.queue = $2 AND log.seq = $3 AND e.key_hash IS NOT NULL AND e.listener = $4
        AND e.stream = 0 AND e.seq < $3 AND e.blocked > 0 LIMIT 1"""
_ATTEMPTS: Final = """
    SELECT listener, number, status, id FROM attempt
    WHERE organization = $1 AND queue = $2 AND seq = $3 AND replay IS NULL LIMIT $4"""

LastAttempts = dict[int, tuple[int, int]]
"""How many attempts were made for each listener, and the status of the last one."""


async def of_message(tx: Transaction, message: StoredMessage) -> list[Delivery]:
    """For each listener that was there when the message was published, oldest first: at most 100 of them."""
    last = await last_attempts(tx, message)
    rows = await tx.rows(_OLDEST, message.organization, message.queue, message.origin_seq, SHOWN_LISTENERS)
    return [await delivery(tx, message, row, last) for row in rows]


async def last_attempts(tx: Transaction, message: StoredMessage) -> LastAttempts:
    """Those of replays are left out, and of a message with more attempts than are read for a list of them, some."""
    return _last(await tx.rows(_ATTEMPTS, message.organization, message.queue, message.seq, MAX_PER_MESSAGE))


def _last(rows: Iterable[Row]) -> LastAttempts:
    """A delivery that was missed and is due again has its attempts counted from 1 again."""
    counts: Counter[int] = Counter()
    last: LastAttempts = {}
    highest: dict[int, int] = {}
    for listener, number, status, row_id in rows:
        counts[listener] += 1
        highest[listener] = max(highest.get(listener, 0), number)
        last[listener] = max(last.get(listener, (0, 0)), (row_id, status))
    return {listener: (max(counts[listener], highest[listener]), status) for listener, (_, status) in last.items()}


async def delivery(tx: Transaction, message: StoredMessage, recipient: Row, last: LastAttempts) -> Delivery:
    """How it stands with one of the message's recipients."""
    listener, public_id, position, ahead, settings = recipient
    if message.waits:
        return Delivery(public_id, "pending", 0, 0)
    number, status = last.get(listener, (0, 0))
    key = (message.organization, listener, message.seq)
    exception = await tx.row(_EXCEPTION, *key)
    if exception is not None:
        *settled, due_at = exception
        state, counted = of_exception(*settled)
        waits_until = due_at if (state, exception[0]) == ("retrying", "retry") else 0
        reason = exception[2] if state == "missed" else ""
        return Delivery(public_id, state, max(number, counted), status, waits_until, reason)
    if not Window.decode(position, ahead).is_settled(message.seq):
        return Delivery(public_id, "pending", number, status)
    blocking = await _blocking(tx, message, listener)
    if blocking is not None:
        return Delivery(public_id, "pending", number, status, blocked_by=blocking[0] or "")
    missed = await tx.row(_MISSED_RANGE, *key)
    if missed is not None and missed[0] >= message.seq:
        return Delivery(public_id, "missed", number, status, reason=missed[1])
    state = "filtered" if not number and _is_filtered(message, settings) else "acknowledged"
    return Delivery(public_id, state, number, status)


async def is_blocked(tx: Transaction, message: StoredMessage, listener: int) -> bool:
    """Whether the listener's cursor has passed it, and it waits behind an exception of its key."""
    return await _blocking(tx, message, listener) is not None


async def _blocking(tx: Transaction, message: StoredMessage, listener: int) -> Row | None:
    """The id of the message whose exception that is; None for it where it was deleted a moment ago."""
    return await tx.row(_BLOCKED, message.organization, message.queue, message.seq, listener)


def _is_filtered(message: StoredMessage, settings: str) -> bool:
    """Whether the listener's filter, as it is now, does not let a message through."""
    text = decode_delivery_options(settings).filter
    return text is not None and not compile_filter(text).takes(entry_like(message))


def of_exception(state: str, attempts: int, reason: str) -> tuple[DeliveryState, int]:
    """The state, and how many attempts were made.

    An attempt that is under way, or handed out, has not been made yet; one that has ended is only not counted yet.
    """
    if state == "ended":
        return "missed" if reason else "acknowledged", attempts
    if state == "missed":
        return "missed", attempts
    made = attempts - (state in {"sending", "leased"})
    return "retrying" if made else "pending", made
