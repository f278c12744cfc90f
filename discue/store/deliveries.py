"""The deliveries of messages: derived from cursors, delivery rows and attempts, never stored."""

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from discue.domain import waiting
from discue.domain.filters import compile_filter
from discue.domain.ids import event_id_of, row_id_up_to
from discue.domain.messages import StoredMessage
from discue.domain.model import Delivery, DeliveryState
from discue.domain.waiting import ListenerCondition
from discue.domain.window import Window
from discue.store.attempts import MAX_PER_MESSAGE
from discue.store.domains import VerifiedDomains, requires_verified_domains
from discue.store.engine import MissedRange, Row, Transaction, Value
from discue.store.listener_health import READ_HEALTH, parse_health
from discue.store.listeners import decode_delivery_options
from discue.store.message_log import entry_of_message
from discue.store.pagination import (
    CLOCKS_APART_MS,
    LARGEST,
    FilteredPages,
    Listing,
    ScanLimits,
    ScanStep,
    Selection,
    Span,
    browse,
    nearest_row_id,
)
from discue.store.tables import read_one, rows_among

SHOWN_LISTENERS: Final = 100
"""The largest number of deliveries that a message shows."""

_RECIPIENTS: Final = f"""
    SELECT listener.id, listener.public_id, cursor.position, cursor.ahead, listener.settings,
        listener.mode, listener.status, listener.disabled_by, listener.notify_url, organization.settings,
        listener.liveness_url, listener.config_version, {READ_HEALTH}
    FROM listener
    JOIN cursor ON cursor.organization = listener.organization AND cursor.listener = listener.id
        AND cursor.stream = 0
    JOIN organization ON organization.id = listener.organization
    LEFT JOIN liveness ON liveness.organization = listener.organization AND liveness.listener = listener.id
    WHERE listener.organization = $1 AND listener.queue = $2 AND listener.deleted_at IS NULL
        AND cursor.start_seq < $3"""
"""The listeners that a message is for, by its `origin_seq`."""

_OF_CUSTOMER: Final = f"{_RECIPIENTS} AND listener.customer = $4"
_FILTERS_OF_CUSTOMER: Final = """
    SELECT listener.settings FROM listener
    JOIN cursor ON cursor.organization = listener.organization AND cursor.listener = listener.id AND cursor.stream = 0
    WHERE listener.organization = $1 AND listener.customer = $2 AND listener.queue = $3
        AND listener.deleted_at IS NULL AND cursor.start_seq < $4 LIMIT $5"""
_OLDEST: Final = f"{_RECIPIENTS} ORDER BY listener.id LIMIT $4"
_STATE_ROWS_OF_MESSAGE: Final = """
    SELECT listener, state, attempts, reason, due_at FROM exception
    WHERE organization = $1 AND stream = 0 AND seq = $2 AND listener IN ({})"""
# Only the log has the key: one row of it, and then delivery rows of the key by an index.
_BLOCKING: Final = """
    SELECT e.listener, b.id FROM log JOIN exception e ON e.organization = log.organization AND e.queue = log.queue
        AND e.key_hash = log.key_hash
    LEFT JOIN log b ON b.organization = e.organization AND b.queue = e.queue AND b.seq = e.seq
    WHERE log.organization = $1 AND log.queue = $2 AND log.seq = $3 AND e.key_hash IS NOT NULL
        AND e.stream = 0 AND e.seq < $3 AND e.blocked > 0 AND e.listener IN ({})"""
_LAST_RANGE: Final = """
    FROM missed_range r WHERE r.organization = $1 AND r.listener = listener.id
        AND r.seq_from <= $2 ORDER BY r.seq_from DESC LIMIT 1"""
_RANGES_OF_MESSAGE: Final = f"""
    SELECT id, (SELECT r.seq_to {_LAST_RANGE}), (SELECT r.reason {_LAST_RANGE}) FROM listener
    WHERE organization = $1 AND id IN ({{}})"""
_ATTEMPTS: Final = """
    SELECT listener, number, id, status, error, detail FROM attempt
    WHERE organization = $1 AND queue = $2 AND seq = $3 AND replay IS NULL LIMIT $4"""


class LastAttempt(NamedTuple):
    """The last attempt to deliver a message to a listener."""

    number: int = 0
    """The number of attempts."""
    status: int = 0
    error: str = ""
    detail: str = ""


LastAttempts = dict[int, LastAttempt]
"""The last attempt of each listener."""


class FilterDecisions:
    """The decisions of listeners' filters on one message, by the text of the filter.

    Asking many filters takes long. So a read with `asks_later` only notes those that it would ask, and its caller asks
    them outside of the transaction and reads again. Until then, a filter counts as one that accepts the message.
    """

    def __init__(self, *, asks_later: bool = False) -> None:
        self._asks_later = asks_later
        self._rejected: dict[str, bool] = {}
        self.unasked: dict[str, None] = {}

    def rejects(self, message: StoredMessage, settings: str) -> bool:
        """Return whether a listener's current filter rejects the message."""
        text = decode_delivery_options(settings).filter
        if text is None:
            return False
        if text not in self._rejected:
            if self._asks_later:
                self.unasked[text] = None
                return False
            self.ask(message, text)
        return self._rejected[text]

    def ask(self, message: StoredMessage, text: str) -> None:
        """Let a filter decide."""
        self._rejected[text] = not compile_filter(text).accepts(entry_of_message(message))
        self.unasked.pop(text, None)


async def list_of_message(
    tx: Transaction, message: StoredMessage, filters: FilterDecisions | None = None
) -> list[Delivery]:
    """Read the deliveries to listeners that existed when the message was published, oldest listener first."""
    filters = filters or FilterDecisions()
    last = await last_attempts(tx, message)
    rows = await tx.rows(_OLDEST, message.organization, message.queue, message.origin_seq, SHOWN_LISTENERS)
    return await _read_deliveries(tx, message, rows, last, filters=filters)


async def concerns(tx: Transaction, message: StoredMessage, customer: str, filters: FilterDecisions) -> bool:
    """Return whether the message is for a listener of the customer: one that existed, and whose filter matches it."""
    values = (message.organization, customer, message.queue, message.origin_seq, SHOWN_LISTENERS)
    rows = await tx.rows(_FILTERS_OF_CUSTOMER, *values)
    # All are asked, also after a match: `filters` notes those that are to be asked later.
    decisions = [not filters.rejects(message, settings) for (settings,) in rows]
    return any(decisions)


async def last_attempts(tx: Transaction, message: StoredMessage) -> LastAttempts:
    """Read the last attempts of a message, without those of replays.

    Beyond `MAX_PER_MESSAGE` some are left out.
    """
    rows = await tx.rows(_ATTEMPTS, message.organization, message.queue, message.seq, MAX_PER_MESSAGE)
    # Numbers start again at 1 when a missed delivery is made due again, so the highest one may be less than the count.
    counts: Counter[int] = Counter()
    last: dict[int, tuple[int, int, str, str]] = {}
    highest: dict[int, int] = {}
    for listener, number, row_id, status, error, detail in rows:
        counts[listener] += 1
        highest[listener] = max(highest.get(listener, 0), number)
        last[listener] = max(last.get(listener, (0, 0, "", "")), (row_id, status, error, detail))
    return {
        listener: LastAttempt(max(counts[listener], highest[listener]), status, error, detail)
        for listener, (_, status, error, detail) in last.items()
    }


async def _read_deliveries(
    tx: Transaction, message: StoredMessage, recipients: Sequence[Row], last: LastAttempts, *, filters: FilterDecisions
) -> list[Delivery]:
    """Read the deliveries to some recipients of the message, in a few statements for any number of them."""
    states = await _States.read(tx, message, recipients)
    found = []
    for recipient in recipients:
        attempt = last.get(recipient[0], LastAttempt())
        delivery = await _state(tx, message, recipient, attempt, filters=filters, states=states)
        found.append(msgspec.structs.replace(delivery, last_error=attempt.error, last_detail=attempt.detail))
    return found


class _States(NamedTuple):
    """The rows that decide on the states of a message's deliveries, by listener."""

    rows: dict[int, Row]
    """Delivery rows: state, attempts, reason and time."""
    blocking: dict[int, str]
    """The ids of the messages that hold the key; "" for one that was just deleted."""
    ranges: dict[int, str]
    """The reasons of missed ranges that contain the message."""

    @classmethod
    async def read(cls, tx: Transaction, message: StoredMessage, recipients: Sequence[Row]) -> "_States":
        organization, seq = message.organization, message.seq
        if message.is_delayed:
            return cls({}, {}, {})
        ids = [recipient[0] for recipient in recipients]
        rows = {row[0]: row[1:] for row in await rows_among(tx, _STATE_ROWS_OF_MESSAGE, (organization, seq), ids)}
        # The cursor may have passed a message that waits for a retry, or was missed: then it has a row.
        settled = [
            listener
            for listener, _, position, ahead, *_ in recipients
            if listener not in rows and Window.decode(position, ahead).is_settled(seq)
        ]
        # A blocked message counts as settled, since the cursor has passed it, and still waits.
        values = (organization, message.queue, seq)
        blocking = {listener: found or "" for listener, found in await rows_among(tx, _BLOCKING, values, settled)}
        passed = [listener for listener in settled if listener not in blocking]
        ranges = {
            listener: reason
            for listener, last, reason in await rows_among(tx, _RANGES_OF_MESSAGE, (organization, seq), passed)
            if last is not None and last >= seq
        }
        return cls(rows, blocking, ranges)


async def _state(
    tx: Transaction,
    message: StoredMessage,
    recipient: Row,
    last: LastAttempt,
    *,
    filters: FilterDecisions,
    states: _States,
) -> Delivery:
    listener, public_id, position, ahead, settings, *_ = recipient
    if message.is_delayed:
        return Delivery(public_id, "pending", 0, 0, waits_for=waiting.not_due(message.options.deliver_at or 0))
    number, status = last.number, last.status
    exception = states.rows.get(listener)
    if exception is not None:
        *settled, due_at = exception
        state, counted = state_of_row(*settled)
        waits_until = due_at if (state, exception[0]) == ("retrying", "retry") else 0
        reason = exception[2] if state == "missed" else ""
        waits_for = ""
        if state in {"pending", "retrying"}:
            waits_for = waiting.waits_for(await _condition(tx, message.organization, recipient), exception[0], due_at)
        return Delivery(public_id, state, max(number, counted), status, waits_until, reason, waits_for=waits_for)
    if not Window.decode(position, ahead).is_settled(message.seq):
        waits_for = waiting.waits_for(await _condition(tx, message.organization, recipient))
        return Delivery(public_id, "pending", number, status, waits_for=waits_for)
    blocked_by = states.blocking.get(listener)
    if blocked_by is not None:
        waits_for = waiting.blocked(blocked_by)
        return Delivery(public_id, "pending", number, status, blocked_by=blocked_by, waits_for=waits_for)
    if listener in states.ranges:
        return Delivery(public_id, "missed", number, status, reason=states.ranges[listener])
    state = "filtered" if not number and filters.rejects(message, settings) else "acknowledged"
    return Delivery(public_id, state, number, status)


async def _condition(tx: Transaction, organization: int, recipient: Row) -> ListenerCondition:
    """Return what decides whether a recipient receives messages."""
    mode, status, disabled_by, notify_url, owner, *health = recipient[5:]
    liveness = parse_health(health[2:], *health[:2]).liveness
    is_verified = mode == "pull" or not requires_verified_domains(owner)
    is_verified = is_verified or await VerifiedDomains(tx).has(organization, notify_url)
    rate_limit = decode_delivery_options(recipient[4]).rate_limit
    return ListenerCondition(mode, status, disabled_by, is_verified, liveness, rate_limit)


def state_of_row(state: str, attempts: int, reason: str) -> tuple[DeliveryState, int]:
    """Return the state of a delivery row, and the number of attempts that were made.

    An attempt that is in flight or leased does not count yet; an ended one is only not counted by the cursor yet.
    """
    if state == "ended":
        return "missed" if reason else "acknowledged", attempts
    if state == "missed":
        return "missed", attempts
    made = attempts - (state in {"sending", "leased"})
    return "retrying" if made else "pending", made


_RECIPIENT: Final = """
    SELECT listener.id, listener.queue, queue.public_id, cursor.start_seq, cursor.position, cursor.ahead
    FROM listener
    JOIN cursor ON cursor.organization = listener.organization AND cursor.listener = listener.id
        AND cursor.stream = 0
    JOIN queue ON queue.organization = listener.organization AND queue.id = listener.queue
    WHERE listener.organization = $1 AND listener.public_id = $2 AND listener.deleted_at IS NULL
        AND queue.deleted_at IS NULL"""
_STATE_ROWS: Final = """
    SELECT seq, state, attempts, reason FROM exception
    WHERE organization = $1 AND listener = $2 AND stream = 0 AND seq IN ({})"""
_BLOCKED: Final = """
    SELECT log.seq FROM log JOIN exception e ON e.organization = log.organization AND e.queue = log.queue
        AND e.key_hash = log.key_hash AND e.seq < log.seq
    WHERE log.organization = $1 AND log.queue = $2 AND e.listener = $3 AND e.stream = 0 AND e.blocked > 0
        AND e.key_hash IS NOT NULL AND log.seq IN ({})"""
_MISSED_RANGE: Final = """
    SELECT seq_from, seq_to, reason, missed_at FROM missed_range
    WHERE organization = $1 AND listener = $2 AND seq_from <= $3
    ORDER BY seq_from DESC LIMIT 1"""
_NO_RANGE: Final = MissedRange(0, -1, "", 0)


class Recipient(msgspec.Struct, frozen=True):
    """A listener, and its live cursor."""

    organization: int
    listener: int
    queue: int
    queue_public_id: str
    start_seq: int
    """The listener receives messages with higher seqs."""
    window: Window

    @property
    def key(self) -> tuple[int, int]:
        """The organization and the listener."""
        return self.organization, self.listener


async def find_recipient(tx: Transaction, organization: int, public_id: str) -> Recipient | None:
    row = await tx.row(_RECIPIENT, organization, public_id)
    if row is None:
        return None
    listener, queue, queue_public_id, start_seq, position, ahead = row
    window = Window.decode(position, ahead)
    return Recipient(organization, listener, queue, queue_public_id, start_seq, window)


async def states_of(tx: Transaction, of: Recipient, seqs: Sequence[int]) -> dict[int, DeliveryState]:
    """Read the delivery states of messages for one listener."""
    rows = await rows_among(tx, _STATE_ROWS, of.key, seqs)
    delivery_rows = {seq: state_of_row(*row)[0] for seq, *row in rows}
    passed = [seq for seq in seqs if seq not in delivery_rows and of.window.is_settled(seq)]
    # The cursor has passed a blocked message, which waits for another one of its key.
    blocked = {row[0] for row in await rows_among(tx, _BLOCKED, (of.organization, of.queue, of.listener), passed)}
    states: dict[int, DeliveryState] = {}
    settled: DeliveryState = "acknowledged"
    lowest = LARGEST
    for seq in sorted(seqs, reverse=True):
        if seq in delivery_rows:
            states[seq] = delivery_rows[seq]
        elif seq in blocked or not of.window.is_settled(seq):
            states[seq] = "pending"
        else:
            # Going down from a message without a row, all others to the end of its range have the same state: one read
            # serves them.
            if seq < lowest:
                found = await missed_range(tx, of.key, seq) or _NO_RANGE
                settled = "missed" if found.seq_to >= seq else "acknowledged"
                lowest = found.seq_from if settled == "missed" else found.seq_to + 1
            states[seq] = settled
    return states


async def missed_range(tx: Transaction, listener: tuple[int, int], seq: int) -> MissedRange | None:
    """Read the last missed range that begins at or before the seq. It may end before the seq."""
    return await read_one(tx, lambda row: MissedRange(*row), _MISSED_RANGE, *listener, seq)


_LIMITS: Final = ScanLimits(first=100, step=100, in_all=300)
"""Each delivery needs several rows."""

_ANCHOR: Final = "SELECT id FROM listener WHERE organization = $1 AND public_id = $2"


async def page_of_message(
    tx: Transaction, message: StoredMessage, selection: Selection, filters: FilterDecisions | None = None
) -> Listing[Delivery]:
    """Read a page of deliveries to listeners that existed when the message was stored, or to those of a customer.

    Times in the selection are compared with that moment. Raises BadRequest for a numbered page too far from the first.
    """
    if not selection.admits(message.stored_at):
        return Listing((), has_next=False, has_previous=False)
    filters = filters or FilterDecisions()
    recipients = _Recipients(message, selection.customer)
    last = await last_attempts(tx, message)
    if selection.state is None:
        found = await browse(tx, recipients, selection)
        return found.with_items(await _read_deliveries(tx, message, found.items, last, filters=filters))
    pages = FilteredPages(_InState(recipients, selection.state, last, filters), recipients.within, _LIMITS)
    found = await pages.page(tx, selection)
    return found.with_items(item for _, item in found.items)


class _Recipients:
    """The listeners that a message is for, by row id; with a customer, only theirs."""

    def __init__(self, message: StoredMessage, customer: str | None) -> None:
        self.message = message
        self._customer = customer
        # Listeners made later do not receive the message. Where clocks differ, the start of the cursor decides.
        self.within = (0, nearest_row_id(message.stored_at + CLOCKS_APART_MS))

    async def locate(self, tx: Transaction, public_id: str) -> int:
        row = await tx.row(_ANCHOR, self.message.organization, public_id)
        return int(row[0]) if row is not None else row_id_up_to(public_id)

    async def older(self, tx: Transaction, bound: int | None, limit: int, offset: int = 0) -> Sequence[Row]:
        high = self.within[1] if bound is None else min(bound, self.within[1])
        return await self.between(tx, (0, high), limit, offset, newest_first=True)

    async def newer(self, tx: Transaction, bound: int, limit: int) -> Sequence[Row]:
        return await self.between(tx, (bound, self.within[1]), limit, newest_first=False)

    async def between(
        self, tx: Transaction, span: Span, limit: int, offset: int = 0, *, newest_first: bool
    ) -> Sequence[Row]:
        message = self.message
        values: tuple[Value, ...] = (message.organization, message.queue, message.origin_seq)
        recipients = _RECIPIENTS
        if self._customer is not None:
            recipients, values = _OF_CUSTOMER, (*values, self._customer)
        low, high, most, skipped = (len(values) + number for number in (1, 2, 3, 4))
        order = f"ORDER BY listener.id {'DESC' if newest_first else 'ASC'} LIMIT ${most} OFFSET ${skipped}"
        sql = f"{recipients} AND listener.id > ${low} AND listener.id < ${high} {order}"
        return await tx.rows(sql, *values, *span, limit, offset)


class _InState:
    """A scan of deliveries for those in one state: rows of a listener's row id and the delivery."""

    def __init__(self, recipients: _Recipients, state: str, last: LastAttempts, filters: FilterDecisions) -> None:
        self._recipients = recipients
        self._state = state
        self._last = last
        self._filters = filters

    async def scan(self, tx: Transaction, span: Span, count: int, wanted: int, *, newest_first: bool) -> ScanStep:
        found: list[Row] = []
        rows = await self._recipients.between(tx, span, count, newest_first=newest_first)
        items = await _read_deliveries(tx, self._recipients.message, rows, self._last, filters=self._filters)
        for row, item in zip(rows, items, strict=True):
            if item.state == self._state:
                found.append((row[0], item))
            if len(found) == wanted:
                break
        if len(rows) < count:
            return ScanStep(found, None)
        return ScanStep(found, rows[-1][0], event_id_of(rows[-1][0]))

    async def position(self, tx: Transaction, public_id: str) -> Span:
        key = await self._recipients.locate(tx, public_id)
        return key, key

    def key_of(self, row: Row) -> int:
        return int(row[0])
