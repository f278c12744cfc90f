"""The deliveries of messages: derived from cursors, delivery rows and attempts, never stored.

No index has the listeners of a message by state, because only cursors show which listeners have received it. To find
the deliveries that need attention, an index has the delivery rows of the message and the missed ranges around it. Of
the cursors that have not reached the message, only the first ones of the queue are read.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from discue.domain import waiting
from discue.domain.filters import Criteria, filters_of
from discue.domain.ids import event_id_of, row_id_up_to
from discue.domain.messages import StoredMessage
from discue.domain.model import Delivery, DisabledBy, ListenerMode, ListenerStatus
from discue.domain.waiting import ListenerCondition, SendingDefaults
from discue.domain.window import Window
from discue.store.attempts import AttemptRow, rows_of_message
from discue.store.domains import VerifiedDomains, requires_verified_domains
from discue.store.engine import Row, Transaction, Value
from discue.store.listeners import READ_HEALTH, decode_delivery_options, parse_health
from discue.store.message_log import entry_of_message
from discue.store.pagination import (
    CLOCKS_APART_MS,
    Listing,
    Part,
    ScanLimits,
    ScanStep,
    Selection,
    Span,
    browse,
    browse_matching,
    nearest_row_id,
)
from discue.store.recipients import state_of_row
from discue.store.tables import prefixed, read_number, rows_among

SHOWN_LISTENERS: Final = 100
"""The largest number of deliveries that a message shows."""

_ROW: Final = "state, attempts, reason, due_at"
_LAST_RANGE: Final = """
    FROM missed_range r WHERE r.organization = $1 AND r.listener = listener.id
        AND r.seq_from <= $2 ORDER BY r.seq_from DESC LIMIT 1"""
RECIPIENTS: Final = f"""
    SELECT listener.id, listener.public_id, listener.alias, listener.notify_url, cursor.position, cursor.ahead,
        {prefixed("delivery", _ROW)}, (SELECT r.seq_to {_LAST_RANGE}), (SELECT r.reason {_LAST_RANGE}),
        listener.settings, listener.mode, listener.status, listener.disabled_by, organization.settings,
        listener.liveness_url, listener.config_version, {READ_HEALTH}
    FROM listener
    JOIN cursor ON cursor.organization = listener.organization AND cursor.listener = listener.id
        AND cursor.stream = 0
    JOIN organization ON organization.id = listener.organization
    LEFT JOIN liveness ON liveness.organization = listener.organization AND liveness.listener = listener.id
    LEFT JOIN delivery ON delivery.organization = listener.organization AND delivery.listener = listener.id
        AND delivery.stream = 0 AND delivery.seq = $2
    WHERE listener.organization = $1 AND listener.queue = $3 AND listener.deleted_at IS NULL
        AND cursor.start_seq < $4"""
"""The listeners that a message is for, by its `origin_seq`, and how far each is with it, by its seq."""

_OF_CUSTOMER: Final = f"{RECIPIENTS} AND listener.customer = $5"
_SETTINGS_OF_CUSTOMER: Final = """
    SELECT listener.settings FROM listener
    JOIN cursor ON cursor.organization = listener.organization AND cursor.listener = listener.id AND cursor.stream = 0
    WHERE listener.organization = $1 AND listener.customer = $2 AND listener.queue = $3
        AND listener.deleted_at IS NULL AND cursor.start_seq < $4 LIMIT $5"""
_OLDEST: Final = f"{RECIPIENTS} ORDER BY listener.id LIMIT $5"
# Only the log has the key: one row of it, and then delivery rows of the key by an index.
_BLOCKING: Final = """
    SELECT e.listener, b.id FROM log JOIN delivery e ON e.organization = log.organization AND e.queue = log.queue
        AND e.key_hash = log.key_hash
    LEFT JOIN log b ON b.organization = e.organization AND b.queue = e.queue AND b.seq = e.seq
    WHERE log.organization = $1 AND log.queue = $2 AND log.seq = $3 AND e.key_hash IS NOT NULL
        AND e.stream = 0 AND e.seq < $3 AND e.blocked > 0 AND e.listener IN ({})"""


_EVERYTHING: Final[Criteria] = (None, None)


class LastAttempt(NamedTuple):
    """The last attempt to deliver a message to a listener."""

    number: int = 0
    """The number of attempts."""
    status: int = 0
    error: str = ""
    detail: str = ""


class FilterDecisions:
    """The decisions of listeners on one message, by their types and the text of their filter.

    Evaluating many filters takes long. A read with `asks_later` only notes the filters, and its caller evaluates them
    outside the transaction. Until then, such a filter counts as accepting the message.
    """

    def __init__(self, *, asks_later: bool = False) -> None:
        self._asks_later = asks_later
        self._rejected: dict[Criteria, bool] = {_EVERYTHING: False}
        self._undecided: dict[str, Criteria] = {}
        """The filters of deliveries that were read before it was asked, by the public id of the listener."""
        self.unasked: dict[Criteria, None] = {}

    def rejects(self, message: StoredMessage, settings: str, listener_public_id: str = "") -> bool:
        """Return whether a listener's current types or filter reject the message."""
        criteria = decode_delivery_options(settings).criteria
        if criteria not in self._rejected:
            if self._asks_later:
                self.unasked[criteria] = None
                self._undecided[listener_public_id] = criteria
                return False
            self.ask(message, criteria)
        return self._rejected[criteria]

    def ask(self, message: StoredMessage, criteria: Criteria) -> None:
        """Evaluate types and a filter."""
        entry = entry_of_message(message)
        self._rejected[criteria] = not all(each.accepts(entry) for each in filters_of(criteria))
        self.unasked.pop(criteria, None)

    def applied(self, delivery: Delivery) -> Delivery:
        """Return a delivery that was read before its filter was asked as the decision makes it."""
        is_rejected = self._rejected.get(self._undecided.get(delivery.listener_public_id, _EVERYTHING), False)
        return msgspec.structs.replace(delivery, state="filtered") if is_rejected else delivery


class MessageFacts(NamedTuple):
    """The facts about a message that decide the states of its deliveries, in addition to the rows of recipients."""

    message: StoredMessage
    last: dict[int, LastAttempt]
    """By the row id of the listener."""
    filters: FilterDecisions
    defaults: SendingDefaults


async def read_facts(
    tx: Transaction, message: StoredMessage, filters: FilterDecisions, defaults: SendingDefaults
) -> MessageFacts:
    """Read the facts about a message. Beyond `MAX_PER_MESSAGE`, some attempts are left out."""
    return MessageFacts(message, last_of(await rows_of_message(tx, message)), filters, defaults)


async def list_of_message(tx: Transaction, facts: MessageFacts) -> list[Delivery]:
    """Read the deliveries to listeners that existed when the message was published, oldest listener first."""
    rows = await tx.rows(_OLDEST, *recipients_key(facts.message), SHOWN_LISTENERS)
    return [each.delivery for each in await named_deliveries(tx, facts, list(map(MessageRecipient.of, rows)))]


async def settings_of_customer(
    tx: Transaction, message: StoredMessage, customer: str, filters: FilterDecisions
) -> list[str]:
    """Read the stored settings of a customer's listeners that existed when the message was published.

    The message was for the listeners whose types and filter accept it. Filters to ask later are noted.
    """
    values = (message.organization, customer, message.queue, message.origin_seq, SHOWN_LISTENERS)
    found = [settings for (settings,) in await tx.rows(_SETTINGS_OF_CUSTOMER, *values)]
    for settings in found:
        filters.rejects(message, settings)
    return found


def recipients_key(message: StoredMessage) -> tuple[Value, ...]:
    """Return the values of `RECIPIENTS`."""
    return message.organization, message.seq, message.queue, message.origin_seq


def last_of(rows: Iterable[AttemptRow]) -> dict[int, LastAttempt]:
    """Return the last attempt of each listener, given `rows_of_message`, without those of replays."""
    # Numbers start again at 1 when a missed delivery is made due again, so the highest one may be less than the count.
    counts: Counter[int] = Counter()
    last: dict[int, AttemptRow] = {}
    highest: dict[int, int] = {}
    for row in rows:
        if row.replay is None:
            counts[row.of] += 1
            highest[row.of] = max(highest.get(row.of, 0), row.number)
            last[row.of] = max(last.get(row.of, row), row)
    return {
        listener: LastAttempt(max(counts[listener], highest[listener]), row.status, row.error, row.detail)
        for listener, row in last.items()
    }


class MessageRecipient(NamedTuple):
    """A row of `RECIPIENTS`."""

    listener: int
    public_id: str
    alias: str
    notify_url: str
    position: int
    ahead: bytes | None
    state: str | None
    """The state of the delivery row, like the next three fields; None without a row."""
    attempts: int
    reason: str
    due_at: int
    range_to: int | None
    """The end of the last missed range that begins at or before the message; None: there is none."""
    range_reason: str
    settings: str
    mode: ListenerMode
    status: ListenerStatus
    disabled_by: DisabledBy
    owner_settings: str
    liveness_url: str
    config_version: int
    health: Row

    @classmethod
    def of(cls, row: Row) -> "MessageRecipient":
        """Convert a row, which ends with the columns of the health."""
        plain = len(cls._fields) - 1
        return cls._make((*row[:plain], row[plain:]))

    def is_settled(self, seq: int) -> bool:
        """Return whether the cursor has passed a message."""
        return Window.decode(self.position, self.ahead).is_settled(seq)

    def unsettled_before(self, seq: int) -> int:
        """Return the number of seqs before a message that the cursor has not settled."""
        window = Window.decode(self.position, self.ahead)
        before = seq - window.position - 1
        return before - (window.ahead & ((1 << before) - 1)).bit_count()


class NamedDelivery(NamedTuple):
    """A delivery, with the row id, the alias and the URL of its listener."""

    delivery: Delivery
    listener: int
    alias: str
    notify_url: str


async def named_deliveries(
    tx: Transaction, facts: MessageFacts, recipients: Sequence[MessageRecipient]
) -> list[NamedDelivery]:
    """Read the deliveries to some recipients of the message, in one more statement for any number of them."""
    message = facts.message
    # The cursor may have passed a message that waits for a retry, or was missed: then it has a row. A blocked message
    # counts as settled, since the cursor has passed it, and still waits.
    passed = [each.listener for each in recipients if each.state is None and each.is_settled(message.seq)]
    values = (message.organization, message.queue, message.seq)
    blocking: dict[int, str | None] = {}
    if not message.is_delayed:
        blocking.update(await rows_among(tx, _BLOCKING, values, passed))
    found = []
    for each in recipients:
        attempt = facts.last.get(each.listener, LastAttempt())
        if message.is_delayed:
            wait = waiting.not_due(message.options.deliver_at or 0)
            delivery = Delivery(each.public_id, "pending", 0, 0, waits_for=wait)
        elif each.listener in blocking:
            # "" for a message that was just deleted.
            by = blocking[each.listener] or ""
            delivery = Delivery(each.public_id, "pending", *attempt[:2], blocked_by=by, waits_for=waiting.blocked(by))
        else:
            delivery = await _state(tx, facts, each, attempt)
        delivery = msgspec.structs.replace(delivery, last_error=attempt.error, last_detail=attempt.detail)
        found.append(NamedDelivery(delivery, each.listener, each.alias, each.notify_url))
    return found


async def _state(tx: Transaction, facts: MessageFacts, recipient: MessageRecipient, last: LastAttempt) -> Delivery:
    """Return a delivery that no other message blocks."""
    message, public_id, (number, status, *_) = facts.message, recipient.public_id, last
    if recipient.state is not None:
        state, counted = state_of_row(recipient.state, recipient.attempts, recipient.reason)
        waits_until = recipient.due_at if (state, recipient.state) == ("retrying", "retry") else 0
        reason = recipient.reason if state == "missed" else ""
        waits_for = ""
        if state in {"pending", "retrying"}:
            condition = await _condition(tx, facts, recipient)
            waits_for = waiting.waits_for(condition, recipient.state, recipient.due_at, recipient.reason)
        return Delivery(public_id, state, max(number, counted), status, waits_until, reason, waits_for=waits_for)
    if not recipient.is_settled(message.seq):
        condition = await _condition(tx, facts, recipient)
        waits_for = waiting.waits_for(condition, before=recipient.unsettled_before(message.seq))
        return Delivery(public_id, "pending", number, status, waits_for=waits_for)
    if recipient.range_to is not None and recipient.range_to >= message.seq:
        return Delivery(public_id, "missed", number, status, reason=recipient.range_reason)
    is_filtered = not number and facts.filters.rejects(message, recipient.settings, public_id)
    return Delivery(public_id, "filtered" if is_filtered else "acknowledged", number, status)


async def _condition(tx: Transaction, facts: MessageFacts, recipient: MessageRecipient) -> ListenerCondition:
    """Return what decides whether a recipient receives messages."""
    mode, url = recipient.mode, recipient.notify_url
    liveness = parse_health(recipient.health, recipient.liveness_url, recipient.config_version).liveness
    is_verified = mode == "pull" or not requires_verified_domains(recipient.owner_settings)
    is_verified = is_verified or await VerifiedDomains(tx).has(facts.message.organization, url)
    options = decode_delivery_options(recipient.settings)
    return ListenerCondition(
        mode,
        recipient.status,
        recipient.disabled_by,
        is_verified,
        liveness,
        options.rate_limit,
        options.max_in_flight or facts.defaults.max_in_flight,
        options.timeout_seconds or facts.defaults.timeout_seconds,
    )


_LIMITS: Final = ScanLimits(first=100, step=100, in_all=300)
"""Each delivery needs several rows."""

_ANCHOR: Final = "SELECT id FROM listener WHERE organization = $1 AND public_id = $2"


async def page_of_message(tx: Transaction, facts: MessageFacts, selection: Selection) -> Listing[Delivery]:
    """Read a page of deliveries to listeners that existed when the message was stored, or to those of a customer.

    Times in the selection are compared with that moment. Raises BadRequest for a numbered page too far from the first.
    """
    if not selection.admits(facts.message.stored_at):
        return Listing((), has_next=False, has_previous=False)
    if selection.state is None:
        named = await named_page_of_message(tx, facts, selection)
        return named.with_items(each.delivery for each in named.items)
    recipients = _Recipients(facts.message, selection.customer)
    found = await browse_matching(tx, _InState(recipients, selection.state, facts), selection, _LIMITS)
    return found.with_items(item for _, item in found.items)


async def named_page_of_message(tx: Transaction, facts: MessageFacts, selection: Selection) -> Listing[NamedDelivery]:
    """Read a page like `page_of_message`, of deliveries in any state."""
    found = await browse(tx, _Recipients(facts.message, selection.customer), selection)
    return found.with_items(await named_deliveries(tx, facts, found.items))


def within_of(message: StoredMessage) -> Span:
    """Return the row ids that listeners of a message can have."""
    # Listeners made later do not receive it. Where clocks differ, the start of the cursor decides.
    return 0, nearest_row_id(message.stored_at + CLOCKS_APART_MS)


class _Recipients:
    """The listeners that a message is for, by row id; with a customer, only theirs."""

    def __init__(self, message: StoredMessage, customer: str | None) -> None:
        self.message = message
        self._customer = customer
        self._within = within_of(message)

    async def locate(self, tx: Transaction, public_id: str) -> Span:
        key = row_id_up_to(public_id)
        # Scans and timelines continue at ids that encode row ids.
        if event_id_of(key) != public_id:
            key = await read_number(tx, _ANCHOR, self.message.organization, public_id) or key
        return key, key

    async def read(self, tx: Transaction, part: Part) -> Sequence[MessageRecipient]:
        sql, values = RECIPIENTS, recipients_key(self.message)
        if self._customer is not None:
            sql, values = _OF_CUSTOMER, (*values, self._customer)
        low, high, most, skipped = (len(values) + number for number in (1, 2, 3, 4))
        order = f"ORDER BY listener.id {part.order} LIMIT ${most} OFFSET ${skipped}"
        sql = f"{sql} AND listener.id > ${low} AND listener.id < ${high} {order}"
        rows = await tx.rows(sql, *values, *part.within(self._within).span, part.limit, part.offset)
        return list(map(MessageRecipient.of, rows))


class _InState:
    """A scan of deliveries for those in one state: rows of a listener's row id and the delivery."""

    def __init__(self, recipients: _Recipients, state: str, facts: MessageFacts) -> None:
        self._recipients = recipients
        self._state = state
        self._facts = facts
        self.locate = recipients.locate

    async def scan(self, tx: Transaction, part: Part, wanted: int) -> ScanStep[tuple[int, Delivery]]:
        del wanted
        recipients = await self._recipients.read(tx, part)
        named = await named_deliveries(tx, self._facts, recipients)
        found = [(each.listener, each.delivery) for each in named if each.delivery.state == self._state]
        if len(named) < part.limit:
            return ScanStep(found, None)
        return ScanStep(found, named[-1].listener, event_id_of(named[-1].listener))


ATTENTION: Final = 5
"""The largest number of deliveries that are shown before the others."""
URGENCY: Final = ("missed", "retrying", "pending")
"""The states that need attention, the most urgent first."""
_LOOKED_AT: Final = 2_000
"""The largest number of rows of each kind that are looked at: a few milliseconds."""

# Adding 0 to the stream keeps the planner from the primary key, by which it would pass all rows of the organization.
_WITH_ROW: Final = f"""
    SELECT looked_at.listener FROM (
        SELECT e.listener, e.state, e.reason FROM delivery e
        WHERE e.organization = $1 AND e.queue = $3 AND e.seq = $2 AND e.stream + 0 = 0
        LIMIT {_LOOKED_AT}) AS looked_at
    WHERE {{}} LIMIT {ATTENTION}"""
_MISSED: Final = _WITH_ROW.format(
    "looked_at.state = 'missed' OR (looked_at.state = 'ended' AND looked_at.reason <> '')"
)
_FAILING: Final = _WITH_ROW.format("looked_at.state <> 'missed' AND looked_at.state <> 'ended'")
_IN_RANGES: Final = f"""
    SELECT looked_at.listener FROM (
        SELECT r.listener, r.seq_from FROM missed_range r
        WHERE r.organization = $1 AND r.queue = $3 AND r.seq_to >= $2
        ORDER BY r.seq_to LIMIT {_LOOKED_AT}) AS looked_at
    WHERE looked_at.seq_from <= $2 LIMIT {ATTENTION}"""
_WAITING: Final = f"""
    SELECT looked_at.listener FROM (
        SELECT c.listener, c.stream, c.position, c.start_seq FROM cursor c
        WHERE c.organization = $1 AND c.queue = $3 LIMIT {_LOOKED_AT}) AS looked_at
    WHERE looked_at.stream = 0 AND looked_at.position < $2 AND looked_at.start_seq < $4 LIMIT {ATTENTION}"""
# Materialized: else PostgreSQL may look for them once more for each listener of the queue.
_FIRST_PAGE: Final = f"""
    SELECT looked_at.*, 0 FROM (
        {RECIPIENTS} AND listener.id > $5 AND listener.id < $6 ORDER BY listener.id DESC LIMIT $7) AS looked_at
    UNION ALL
    SELECT looked_at.*, 1 FROM (
        WITH urgent (listener) AS MATERIALIZED (
            SELECT listener FROM ({_MISSED}) AS looked_at
            UNION ALL SELECT listener FROM ({_FAILING}) AS looked_at
            UNION ALL SELECT listener FROM ({_IN_RANGES}) AS looked_at
            UNION ALL SELECT listener FROM ({_WAITING}) AS looked_at)
        {RECIPIENTS} AND listener.id IN (SELECT listener FROM urgent)) AS looked_at"""


class TimelinePage(NamedTuple):
    """Deliveries of a message to some of its listeners."""

    attention: tuple[NamedDelivery, ...]
    """The deliveries that need attention, of all listeners, on the first of several pages: the page has the others."""
    page: Listing[NamedDelivery]


async def timeline_page(tx: Transaction, facts: MessageFacts, selection: Selection) -> TimelinePage:
    """Read a page of deliveries, with those that need attention: as many as the selection says.

    A customer, who has few listeners, gets the page only.
    """
    if selection.customer is not None or selection.after is not None or selection.before is not None:
        return TimelinePage((), _with_places(await named_page_of_message(tx, facts, selection)))
    message, size = facts.message, selection.per_page
    rows = await tx.rows(_FIRST_PAGE, *recipients_key(message), *within_of(message), size + 1)
    read = [(MessageRecipient.of(row[:-1]), row[-1]) for row in rows]
    in_order = sorted((each for each, is_candidate in read if not is_candidate), reverse=True)
    has_next = len(in_order) > size
    candidates = [each for each, is_candidate in read if is_candidate] if has_next else []
    by_listener = {each.listener: each for each in [*in_order, *candidates]}
    found = {each.listener: each for each in await named_deliveries(tx, facts, list(by_listener.values()))}
    urgent = [found[each.listener] for each in candidates if found[each.listener].delivery.state in URGENCY]
    urgent.sort(key=lambda each: (URGENCY.index(each.delivery.state), -each.listener))
    # At least one of the others is shown, after which the next page goes on.
    attention = tuple(urgent[: min(ATTENTION, size - 1)])
    first = {each.listener for each in attention}
    others = [each for each in in_order if each.listener not in first][: size - len(first)]
    page = Listing(tuple(found[each.listener] for each in others), has_next, has_previous=False)
    return TimelinePage(attention, _with_places(page))


def _with_places(page: Listing[NamedDelivery]) -> Listing[NamedDelivery]:
    """Return the page with ids for its links that encode row ids, so that following a link needs no lookup."""
    if not page.items:
        return page
    before, after = (event_id_of(page.items[place].listener) for place in (0, -1))
    return msgspec.structs.replace(page, resumes_after=after, resumes_before=before)
