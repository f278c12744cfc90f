"""Lists of messages by key, header and state, for which no index has all that is asked for.

A page scans a limited number of messages: if it is cut short, it says where to continue.
"""

from collections.abc import Sequence
from typing import Final

from discue.domain.errors import malformed
from discue.domain.messages import decode_options
from discue.store.engine import Row, Transaction
from discue.store.filtered_pages import FilteredPages, ScanLimits, ScanStep
from discue.store.listener_messages import Accepts, MessageSource, scanned_position
from discue.store.message_log import LIST_COLUMNS, LiveQueues, cost_of, placed
from discue.store.message_states import LISTENERS_OF_ANY_QUEUE, listed_row, states_of_messages
from discue.store.pagination import LARGEST, Bounds, Listing, Selection, Span
from discue.store.tables import read_number

_ALL: Final = f"""
    SELECT {LIST_COLUMNS} FROM log
    WHERE organization = $1 AND (id, queue) > ($2, $3) AND (id, queue) < ($4, $5)
    ORDER BY id {{0}}, queue {{0}} LIMIT $6"""
_COPIES: Final = f"SELECT {LIST_COLUMNS} FROM log WHERE organization = $1 AND id = $2"
_LISTENERS: Final = """
    SELECT count(*) FROM (
        SELECT id FROM listener WHERE organization = $1 AND queue = $2 AND deleted_at IS NULL LIMIT $3) AS counted"""

_LIMITS: Final = ScanLimits(first=None, step=100, in_all=2_000, in_all_numbered=5_000)
# Each row is found by its id, which takes longer than reading a log in order.
_LIMITS_OF_ALL: Final = ScanLimits(first=None, step=100, in_all=1_000)
_DELIVERIES_AT_MOST: Final = 10_000
"""The largest number of deliveries that are read for one page of messages of a state."""
_DELIVERIES_A_ROW: Final = 8
"""The number of deliveries that cost as much to read as a message by its id."""


def has_filters(selection: Selection) -> bool:
    """Return whether a page needs the functions of this module."""
    return (selection.key, selection.header, selection.state) != (None, None, None)


def accepts(selection: Selection) -> Accepts:
    """Return whether a row has the key and the header of the selection."""
    key, header = selection.key, selection.header
    if header is None:
        return lambda row: key is None or decode_options(row[10]).key == key
    name, colon, value = header.partition(":")
    name, value = name.strip().lower(), value.strip()

    def has_both(row: Row) -> bool:
        options = decode_options(row[10])
        return key in (None, options.key) and any(
            given.lower() == name and (not colon or sent == value) for given, sent in options.headers
        )

    return has_both


async def page_of_queue(
    tx: Transaction, key: tuple[int, int], source: MessageSource, *, within: Span, selection: Selection
) -> Listing[Row]:
    """Read a page of a queue's messages, among those of a source and between two seqs.

    `key` is the organization and the queue. Raises BadRequest for a numbered page that is too far from the first, and
    for a state if the queue has too many listeners.
    """
    limits = _LIMITS
    if selection.state is not None:
        listeners = await read_number(tx, _LISTENERS, *key, LISTENERS_OF_ANY_QUEUE)
        in_all = min(_LIMITS.in_all, _DELIVERIES_AT_MOST // max(listeners, 1))
        limits = ScanLimits(None, min(_LIMITS.step, in_all), in_all)
    return await FilteredPages(_OfQueue(key, source, selection), within, limits).page(tx, selection)


async def page_of_all(
    tx: Transaction, live: LiveQueues, selection: Selection, *, within: Bounds, passes: Accepts
) -> Listing[Row]:
    """Read a page of an organization's messages that also pass a test, each once.

    `within` are ids, the key of this list. Raises what `page_of_queue` raises.
    """
    return await FilteredPages(_OfAll(live, selection, passes), within, _LIMITS_OF_ALL).page(tx, selection)


class _OfQueue:
    """A scan of messages of one queue, by seq."""

    def __init__(self, key: tuple[int, int], source: MessageSource, selection: Selection) -> None:
        self._key = key
        self._source = source
        self._accepts = accepts(selection)
        self._state = selection.state
        self._after = -1 if selection.created_after is None else selection.created_after

    async def scan(self, tx: Transaction, span: Span, count: int, wanted: int, *, newest_first: bool) -> ScanStep:
        del wanted
        rows = await self._source.read_span(tx, span, count, newest_first=newest_first)
        # Times never fall along a log.
        late = [row for row in rows if row[1][0] > self._after]
        found = [row for row in late if self._accepts(row)]
        if self._state is not None and found:
            found = await _in_state(tx, self._key, found, self._state)
        if len(rows) < count or (newest_first and len(late) < len(rows)):
            return ScanStep(found, None)
        return ScanStep(found, self.key_of(rows[-1]), rows[-1][2], cost_of(rows))

    async def position(self, tx: Transaction, public_id: str) -> Span:
        return await scanned_position(tx, self._key, public_id)

    def key_of(self, row: Row) -> int:
        return int(row[1][2])


class _OfAll:
    """A scan of messages of all queues, by id."""

    def __init__(self, live: LiveQueues, selection: Selection, passes: Accepts) -> None:
        self._live = live
        self._passes = passes
        self._accepts = accepts(selection)
        self._state = selection.state
        self._listeners: dict[int, int] = {}

    async def scan(self, tx: Transaction, span: Bounds, count: int, wanted: int, *, newest_first: bool) -> ScanStep:
        del wanted
        organization, sql = self._live.organization, _ALL.format("DESC" if newest_first else "ASC")
        rows = [placed(row) for row in await tx.rows(sql, organization, span[0], LARGEST, span[1], 0, count)]
        last = rows[-1][2] if len(rows) == count else None
        if last is not None:
            # The rest of its copies would be left out: the next step begins behind its id.
            copies = [placed(row) for row in await tx.rows(_COPIES, organization, last)]
            rows = [*[row for row in rows if row[2] != last], *copies]
        # Of several copies the one in the queue that was made last is shown.
        rows.sort(key=lambda row: (row[2], row[1][1]), reverse=newest_first)
        found = [row for row in rows if self._passes(row) and self._accepts(row)]
        found = [row for row in found if await self._live.public_id(tx, row[1][1]) is not None]
        cost = cost_of(rows)
        if self._state is not None:
            found, deliveries = await self._in_state(tx, found, self._state)
            cost += deliveries // _DELIVERIES_A_ROW
        shown: dict[str, Row] = {}
        for row in found:
            if row[2] not in shown or not newest_first:
                shown[row[2]] = row
        return ScanStep(list(shown.values()), last, last or "", cost)

    async def position(self, tx: Transaction, public_id: str) -> Bounds:
        del tx
        return public_id, public_id

    def key_of(self, row: Row) -> str:
        return str(row[2])

    async def _in_state(self, tx: Transaction, rows: Sequence[Row], state: str) -> tuple[list[Row], int]:
        """Return the messages in a state, and how many deliveries were read."""
        of_queues: dict[int, list[Row]] = {}
        for row in rows:
            of_queues.setdefault(row[1][1], []).append(row)
        matching, deliveries = set(), 0
        for queue, those in of_queues.items():
            key = (self._live.organization, queue)
            if queue not in self._listeners:
                self._listeners[queue] = await read_number(tx, _LISTENERS, *key, LISTENERS_OF_ANY_QUEUE)
            deliveries += self._listeners[queue] * len(those)
            matching |= {row[1] for row in await _in_state(tx, key, those, state)}
        return [row for row in rows if row[1] in matching], deliveries


async def _in_state(tx: Transaction, key: tuple[int, int], rows: Sequence[Row], state: str) -> list[Row]:
    """Return the messages of one queue that are in a state. Raises BadRequest if that would take too long."""
    listed = [listed_row(row) for row in rows]
    states = await states_of_messages(tx, *key, listed, listeners_at_most=LISTENERS_OF_ANY_QUEUE)
    if states is None:
        rule = f"needs the parameter listener in a queue with more than {LISTENERS_OF_ANY_QUEUE} listeners"
        raise malformed("?state", rule, code="invalid_parameter")
    return [row for row in rows if states[row[1][2]] == state]
