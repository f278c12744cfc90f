"""Which messages a list has: of a queue, of all queues, of a listener, and of those what the filters let through."""

from collections.abc import Collection, Sequence

from discue.domain.errors import BadRequest, Fault
from discue.store import queues
from discue.store.copies import EachOnce
from discue.store.engine import Row, Transaction
from discue.store.message_log import AcrossQueues, LiveQueues, OneLog, called_by_id, chosen_rows, common, span_of_times
from discue.store.pagination import LARGEST, InMemoryRows, Merged, RowPage, Selection, Source, browse
from discue.store.received import MessageSource, Picked, Received, Several, candidates_of
from discue.store.recipients import Recipient, recipient


async def of_queue(
    tx: Transaction, organization: int, queue: int, selection: Selection, only: Collection[str] | None
) -> RowPage:
    """A queue's messages, or those of `only` (ids).

    Raises BadRequest when the selection names a listener that is not one of the queue's.
    """
    if selection.listener is not None:
        of = await recipient(tx, organization, selection.listener)
        if of is None or of.queue != queue:
            raise _no_listener("must be the id of a listener of this queue")
        return await _of_recipient(tx, of, selection, only)
    return await browse(tx, await _of_log(tx, organization, queue, selection, only), selection)


async def of_organization(
    tx: Transaction, organization: int, live: LiveQueues, selection: Selection, only: Collection[str] | None
) -> RowPage:
    """The messages of all queues, or those of `only`: ids of messages and of queues.

    Raises BadRequest when the selection names a listener that is not one of the organization's.
    """
    if selection.listener is not None:
        of = await recipient(tx, organization, selection.listener)
        if of is None:
            raise _no_listener("must be the id of a listener")
        return await _of_recipient(tx, of, selection, only)
    if only is None:
        return await browse(tx, await _of_all(tx, organization, live, selection), selection)
    return await browse(tx, await _of_targets(tx, organization, live, selection, only), selection)


async def _of_log(
    tx: Transaction,
    organization: int,
    queue: int,
    selection: Selection,
    only: Collection[str] | None = None,
    floor: int = 0,
) -> Source:
    """What passes the filters in one queue, above a seq, or among the ids of `only` there."""
    within = common((floor, LARGEST), await span_of_times(tx, organization, queue, selection))
    log = OneLog(organization, queue, within, selection.alias, floor=floor)
    if only is not None:
        return InMemoryRows(_passing(await chosen_rows(tx, organization, only), selection, queue, floor), log)
    called = _passing(await called_by_id(tx, organization, selection.alias), selection, queue, floor)
    return Merged([log, InMemoryRows(called, log)], log) if called else log


async def _of_all(tx: Transaction, organization: int, live: LiveQueues, selection: Selection) -> Source:
    """What passes the filters in all queues."""
    everything = AcrossQueues(organization, live, selection)
    called = _passing(await called_by_id(tx, organization, selection.alias), selection)
    by_id = [(row[2], *row[1:]) for row in await _living(tx, called, live)]
    return Merged([everything, InMemoryRows(by_id, everything)], everything) if by_id else everything


async def _of_targets(
    tx: Transaction, organization: int, live: LiveQueues, selection: Selection, only: Collection[str]
) -> Source:
    """What passes the filters in the queues and among the messages that `only` names."""
    found = set(await queues.ids_of(tx, organization, only))

    async def listed(tx: Transaction, rows: Sequence[Row]) -> list[Row]:
        passing = await _living(tx, _passing(rows, selection), live)
        return [row for row in passing if row[2] in only or row[1][1] in found]

    anywhere = OneLog(organization, 0)
    rows = await listed(tx, await chosen_rows(tx, organization, only))
    logs = [await _of_log(tx, organization, queue, selection) for queue in sorted(found)]
    merged = Merged([InMemoryRows(rows, anywhere), *logs], anywhere)
    return EachOnce(organization, merged, len(logs) + 1, listed)


async def _of_recipient(tx: Transaction, of: Recipient, selection: Selection, only: Collection[str] | None) -> RowPage:
    """What was stored for a listener, and is in a state where one is asked for."""
    if only is not None and of.queue_public_id in only:
        only = None
    if selection.state is None:
        source = await _of_log(tx, of.organization, of.queue, selection, only, of.start_seq)
        return await browse(tx, source, selection)
    times = await span_of_times(tx, of.organization, of.queue, selection)
    candidates = await _candidates(tx, of, selection, only)
    received = Received(of, selection.state, candidates, common((of.start_seq, LARGEST), times))
    return await received.page(tx, selection)


async def _candidates(
    tx: Transaction, of: Recipient, selection: Selection, only: Collection[str] | None
) -> MessageSource:
    """Where what is asked for stands: among some ids, under an alias, or where a state has its place."""
    if only is not None:
        return Picked(_passing(await chosen_rows(tx, of.organization, only), selection, of.queue))
    if selection.alias is not None:
        called = _passing(await called_by_id(tx, of.organization, selection.alias), selection, of.queue)
        return Several(OneLog(of.organization, of.queue, alias=selection.alias), Picked(called))
    return candidates_of(of, selection.state or "acknowledged")


def _passing(rows: Sequence[Row], selection: Selection, queue: int | None = None, floor: int = 0) -> list[Row]:
    """Those of the rows that pass the filters, and are in the queue where one is given."""
    return [
        row
        for row in rows
        if queue in (None, row[1][1])
        and (row[8] or row[1][2]) > floor
        and selection.alias in (None, row[3] or row[2])
        and selection.admits(row[6] or row[1][0])
    ]


async def _living(tx: Transaction, rows: Sequence[Row], live: LiveQueues) -> list[Row]:
    return [row for row in rows if await live.public_id(tx, row[1][1]) is not None]


def _no_listener(rule: str) -> BadRequest:
    return BadRequest(f"The query parameter listener {rule}.", faults=(Fault("?listener", rule),))
