"""The rows of redeliveries and replays: jobs that send messages to a listener again."""

from collections.abc import Callable
from operator import attrgetter
from typing import Final, Generic, TypeVar

import msgspec

from discue.domain.model import JobListener, MissedSelection, Redelivery, Replay
from discue.store.engine import Row, Transaction
from discue.store.pagination import Listing, Selection, Table, listed
from discue.store.tables import placeholders, prefixed, read_one, row_reader

Job = TypeVar("Job", Redelivery, Replay)

_JOINED: Final = """
    JOIN listener l ON l.organization = j.organization AND l.id = j.listener
    JOIN queue q ON q.organization = l.organization AND q.id = l.queue
    WHERE j.organization = $1 AND l.deleted_at IS NULL AND q.deleted_at IS NULL"""


class JobPreview(msgspec.Struct, frozen=True):
    """The number of messages that a job selects, and the ids of the first and last one; empty if there are none."""

    selected: int
    first: str
    last: str
    is_at_least: bool = False
    """Whether there may be more than were counted."""


class JobTable(Generic[Job]):
    """The jobs of one kind."""

    def __init__(self, name: str, job: type[Job], spec_field: str, spec: type[object]) -> None:
        """`spec_field` is the field that the column `spec` has as JSON, and `spec` its type."""
        fields: list[str] = [field.name for field in msgspec.structs.fields(job)]
        columns = ", ".join(["id", *(name for name in fields if name not in {"id", spec_field})])
        selected = f"SELECT {columns}, spec FROM {name} WHERE organization = $1"
        self.name = name
        self._get = f"{selected} AND public_id = $2"
        self._of_listener = f"{selected} AND listener = $2"
        self._open = f"{self._of_listener} AND ended_at IS NULL ORDER BY id LIMIT $3"
        self._of_organization = f"""
            SELECT {prefixed("j", columns)}, j.spec, l.public_id, l.alias, q.public_id FROM {name} j {_JOINED}"""
        self._insert = f"INSERT INTO {name} ({columns}, spec) VALUES ({placeholders(1, len(fields))})"
        self._delete = f"DELETE FROM {name} WHERE organization = $1 AND id = $2"
        decode = msgspec.json.Decoder(spec).decode
        self._from_row: Callable[[Row], Job] = row_reader(job, f"{columns}, {spec_field}", **{spec_field: decode})
        self._values: Callable[[Job], Row] = attrgetter(*columns.split(", "))
        self._spec: Callable[[Job], object] = attrgetter(spec_field)

    async def get(self, tx: Transaction, organization: int, public_id: str) -> Job | None:
        return await read_one(tx, self._from_row, self._get, organization, public_id)

    async def page(self, tx: Transaction, organization: int, listener: int, selection: Selection) -> Listing[Job]:
        table = Table(self.name, self._of_listener, (organization, listener), alias_column="public_id")
        return await listed(tx, table, selection, self._from_row)

    async def page_of_organization(
        self, tx: Transaction, organization: int, selection: Selection
    ) -> Listing[tuple[Job, JobListener]]:
        """Read the jobs of all listeners."""
        sql, values = self._of_organization, (organization,)
        table = Table(self.name, sql, values, "j.id", prefix="j.", alias_column="public_id")
        return await listed(tx, table, selection, lambda row: (self._from_row(row[:-3]), JobListener(*row[-3:])))

    async def list_open(self, tx: Transaction, organization: int, listener: int, limit: int) -> list[Job]:
        """Read jobs that have not ended, oldest first."""
        return [self._from_row(row) for row in await tx.rows(self._open, organization, listener, limit)]

    async def insert(self, tx: Transaction, made: Job) -> None:
        await tx.execute(self._insert, *self._values(made), msgspec.json.encode(self._spec(made)).decode())

    async def delete(self, tx: Transaction, job: Job, purge_id: int) -> bool:
        """Delete a job. Returns whether it existed. A batch in progress is still stored, but not counted.

        `purge_id` is the id for the job that removes what a replay leaves.
        """
        del purge_id
        return await tx.execute(self._delete, job.organization, job.id) == 1


REDELIVERY_TABLE: Final = JobTable("redelivery", Redelivery, "chosen", MissedSelection)
