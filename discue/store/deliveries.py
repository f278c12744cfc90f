"""What became of one message for each listener: read from cursors, exceptions and attempts, never stored."""

from collections.abc import Iterable
from typing import Final

from discue.message_filter.filters import filter_of
from discue.model import Delivery, DeliveryState, StoredMessage
from discue.store.engine import Row, Transaction
from discue.store.entries import entry_like
from discue.store.listeners import read_options
from discue.window import Window

SHOWN_LISTENERS: Final = 100
_ATTEMPTS_READ: Final = 2_000

_LISTENERS: Final = """
    SELECT listener.id, listener.public_id, cursor.position, cursor.ahead, listener.settings FROM listener
    JOIN cursor ON cursor.organization = listener.organization AND cursor.listener = listener.id
        AND cursor.stream = 0
    WHERE listener.organization = $1 AND listener.queue = $2 AND listener.deleted_at IS NULL
        AND cursor.start_seq < $3
    ORDER BY listener.id LIMIT $4"""
_EXCEPTION: Final = """
    SELECT state, attempts, reason FROM exception
    WHERE organization = $1 AND listener = $2 AND stream = 0 AND seq = $3"""
_MISSED_RANGE: Final = """
    SELECT seq_to FROM missed_range WHERE organization = $1 AND listener = $2 AND seq_from <= $3
    ORDER BY seq_from DESC LIMIT 1"""
# The key stands in the log alone: a row there, and those of its key by an index.
_BLOCKED: Final = """
    SELECT 1 FROM log JOIN exception e ON e.organization = log.organization AND e.queue = log.queue
        AND e.key_hash = log.key_hash
    WHERE log.organization = $1 AND log.queue = $2 AND log.seq = $3 AND e.key_hash IS NOT NULL AND e.listener = $4
        AND e.stream = 0 AND e.seq < $3 AND e.blocked > 0 LIMIT 1"""
_ATTEMPTS: Final = """
    SELECT listener, number, status FROM attempt
    WHERE organization = $1 AND queue = $2 AND seq = $3 LIMIT $4"""


async def of_message(tx: Transaction, message: StoredMessage) -> list[Delivery]:
    """For each listener that was there when the message was stored, oldest first: at most 100 of them."""
    values = (message.organization, message.queue, message.seq)
    last_attempts = _last_attempts(await tx.rows(_ATTEMPTS, *values, _ATTEMPTS_READ))
    deliveries = []
    for listener, public_id, position, ahead, settings in await tx.rows(_LISTENERS, *values, SHOWN_LISTENERS):
        number, status = last_attempts.get(listener, (0, 0))
        settled = Window.decode(position, ahead).is_settled(message.seq)
        state, counted = await _state(tx, message, listener, settled=settled)
        if state == "acknowledged" and not number and _is_filtered(message, settings):
            state = "filtered"
        deliveries.append(Delivery(public_id, state, max(number, counted), status))
    return deliveries


def _last_attempts(rows: Iterable[Row]) -> dict[int, tuple[int, int]]:
    """Number and status of each listener's last attempt."""
    last: dict[int, tuple[int, int]] = {}
    for listener, number, status in rows:
        last[listener] = max(last.get(listener, (0, 0)), (number, status))
    return last


async def _state(tx: Transaction, message: StoredMessage, listener: int, *, settled: bool) -> tuple[DeliveryState, int]:
    """The state, and how many attempts the exception has counted."""
    values = (message.organization, listener, message.seq)
    exception = await tx.row(_EXCEPTION, *values)
    if exception is not None:
        return of_exception(*exception)
    if not settled or await is_blocked(tx, message, listener):
        return "pending", 0
    missed = await tx.row(_MISSED_RANGE, *values)
    return ("missed" if missed is not None and missed[0] >= message.seq else "acknowledged"), 0


async def is_blocked(tx: Transaction, message: StoredMessage, listener: int) -> bool:
    """Whether the listener's cursor has passed it, and it waits behind an exception of its key."""
    key = (message.organization, message.queue, message.seq, listener)
    return await tx.row(_BLOCKED, *key) is not None


def _is_filtered(message: StoredMessage, settings: str) -> bool:
    """Whether the listener's filter, as it is now, does not let a message through."""
    text = read_options(settings).filter
    return text is not None and not filter_of(text).takes(entry_like(message))


def of_exception(state: str, attempts: int, reason: str) -> tuple[DeliveryState, int]:
    """An attempt that is under way has not been made yet; one that has ended is only not counted yet."""
    if state == "ended":
        return "missed" if reason else "acknowledged", attempts
    if state == "missed":
        return "missed", attempts
    made = attempts - (state == "sending")
    return "retrying" if made else "pending", made
