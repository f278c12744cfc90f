"""Sources, and the requests that they refused."""

from collections.abc import Callable, Collection
from operator import attrgetter
from typing import Any, Final

import msgspec

from discue.domain.model import RefusedRequest, WebhookSource
from discue.domain.providers import HmacOptions
from discue.domain.system_events import REPORT_INTERVAL_MS, ResourceName, SourceRefusing
from discue.store import system_events
from discue.store.engine import Row, Transaction
from discue.store.pagination import Bounds, InMemoryRows, Listing, Selection, Table, browse, listed
from discue.store.resource_table import ResourceTable
from discue.store.tables import read_number, read_one

MAX_PER_ORGANIZATION: Final = 100
KEPT_REFUSALS: Final = 100
"""The number of refused requests that a source keeps."""
_MOST_NOTED: Final = 1_000
"""The number of refused requests of all sources together that wait in memory."""

_COLUMNS: Final = (
    "source.id, source.organization, source.public_id, source.alias, source.provider, source.queue, queue.public_id, "
    "source.created_at, source.updated_at, source.secrets, source.options, source.refused, source.refused_at"
)
_SOURCES: Final = f"""
    SELECT {_COLUMNS} FROM source
    JOIN queue ON queue.organization = source.organization AND queue.id = source.queue WHERE """
_LIST: Final = f"{_SOURCES} source.organization = $1"
_BY_PUBLIC_ID: Final = f"{_SOURCES} source.public_id = $1"
_COUNT: Final = "SELECT count(*) FROM source WHERE organization = $1"
_DELETE_INTO: Final = "DELETE FROM source WHERE organization = $1 AND queue = $2"
_REFUSALS: Final = "SELECT refusals FROM source WHERE organization = $1 AND id = $2"
_KEEP_REFUSALS: Final = """
    UPDATE source SET refused = refused + $1, refused_at = $2, refusals = $3 WHERE organization = $4 AND id = $5"""


class Refusals(msgspec.Struct):
    """The refused requests of a source: those that are kept, and those that no system event has reported yet."""

    newest: list[RefusedRequest] = msgspec.field(default_factory=list)
    """At most `KEPT_REFUSALS`, the newest last."""
    reasons: dict[str, int] = msgspec.field(default_factory=dict)
    """The number of unreported requests by reason."""
    last_at: int = 0
    reported_at: int = 0
    """When the last event was recorded, in milliseconds since the epoch; 0: never."""

    def add(self, later: "Refusals") -> None:
        self.newest = [*self.newest, *later.newest][-KEPT_REFUSALS:]
        for reason, count in later.reasons.items():
            self.reasons[reason] = self.reasons.get(reason, 0) + count
        self.last_at = max(self.last_at, later.last_at)


class RefusedRequests:
    """The refused requests that this worker has not stored yet, so that strangers do not cause a write for each."""

    def __init__(self) -> None:
        self._by_source: dict[str, Refusals] = {}

    def note(self, source: str, refused: RefusedRequest) -> None:
        """Note a request. `source` is the public id of an existing source."""
        fresh = self._by_source.setdefault(source, Refusals())
        fresh.reasons[refused.reason] = fresh.reasons.get(refused.reason, 0) + 1
        fresh.last_at = refused.created_at
        fresh.newest.append(refused)
        del fresh.newest[:-KEPT_REFUSALS]
        if sum(len(each.newest) for each in self._by_source.values()) > _MOST_NOTED:
            # The request is still counted.
            del fresh.newest[0]

    def take(self, most: int) -> list[tuple[str, Refusals]]:
        """Remove and return the requests of the sources that have waited longest."""
        return [(source, self._by_source.pop(source)) for source in list(self._by_source)[:most]]

    def put_back(self, source: str, refusals: Refusals) -> None:
        """Note requests that could not be stored."""
        refusals.add(self._by_source.get(source, Refusals()))
        self._by_source[source] = refusals


_pack: Callable[[Refusals], bytes] = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Refusals).decode
_read_options = msgspec.json.Decoder(HmacOptions).decode


def _values(source: WebhookSource) -> Row:
    if source.hmac is None:
        return (*_plain_values(source), None)
    return (*_plain_values(source), msgspec.json.encode(source.hmac).decode())


_PLAIN: Final = "id, organization, public_id, alias, provider, queue, created_at, updated_at, secrets"
_plain_values: Callable[[WebhookSource], Row] = attrgetter(*_PLAIN.split(", "))
_TABLE: Final = ResourceTable(
    "source",
    WebhookSource,
    f"{_PLAIN}, options",
    changed="alias, provider, queue, updated_at, secrets, options",
    values=_values,
)
insert, update, delete = _TABLE.insert, _TABLE.update, _TABLE.delete


async def get(tx: Transaction, organization: int, public_id: str) -> WebhookSource | None:
    source = await by_public_id(tx, public_id)
    return source if source is not None and source.organization == organization else None


async def by_public_id(tx: Transaction, public_id: str) -> WebhookSource | None:
    """Read a source of any organization."""
    return await read_one(tx, _from_row, _BY_PUBLIC_ID, public_id)


async def page(
    tx: Transaction, organization: int, selection: Selection, only: Collection[str] | None = None
) -> Listing[WebhookSource]:
    """Read a page of the organization's sources, or of those in `only` (public ids)."""
    table = Table("source", _LIST, (organization,), "source.id", prefix="source.")
    return await listed(tx, table, selection, _from_row, only=only)


async def has_room(tx: Transaction, organization: int) -> bool:
    return await read_number(tx, _COUNT, organization) < MAX_PER_ORGANIZATION


async def delete_into(tx: Transaction, organization: int, queue: int) -> None:
    """Delete all sources of a queue."""
    await tx.execute(_DELETE_INTO, organization, queue)


async def refused_page(tx: Transaction, source: WebhookSource, selection: Selection) -> Listing[RefusedRequest]:
    """Read a page of the latest requests that a source refused."""
    newest = (await _refusals(tx, source)).newest
    rows = [(each.id, each) for each in newest if selection.admits(each.created_at)]

    async def locate(_: Transaction, public_id: str) -> Bounds:
        return public_id, public_id

    found = await browse(tx, InMemoryRows(rows, locate), selection)
    return found.with_items(each for _, each in found.items)


async def keep_refusals(
    tx: Transaction, public_id: str, fresh: Refusals, *, event_id: int, now: int
) -> SourceRefusing | None:
    """Add refused requests to those of a source, in an exclusive transaction.

    Records a system event with this id, and returns it, unless there was one for the source within the last minute.
    """
    source = await by_public_id(tx, public_id)
    if source is None:
        return None
    kept = await _refusals(tx, source)
    kept.add(fresh)
    event = None
    if now - kept.reported_at >= REPORT_INTERVAL_MS:
        name, reasons = ResourceName(source.public_id, source.alias), dict(kept.reasons)
        event = SourceRefusing(at=now, source=name, count=sum(reasons.values()), reasons=reasons)
        kept.reasons, kept.reported_at = {}, now
    values = (sum(fresh.reasons.values()), kept.last_at, _pack(kept))
    await tx.execute(_KEEP_REFUSALS, *values, source.organization, source.id)
    if event is not None:
        await system_events.record(tx, source.organization, event_id, event)
    return event


async def _refusals(tx: Transaction, source: WebhookSource) -> Refusals:
    row = await tx.row(_REFUSALS, source.organization, source.id)
    return _unpack(row[0]) if row is not None and row[0] else Refusals()


def _from_row(row: Row) -> WebhookSource:
    source, organization, *rest, options, refused, refused_at = row
    fields: list[Any] = rest
    fields += [None if options is None else _read_options(options), refused, refused_at]
    return WebhookSource(organization, source, *fields)
