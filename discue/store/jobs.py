"""Work that is done in small steps after its cause was answered."""

from typing import Final, Literal

import msgspec

from discue.store.engine import Row, Transaction

JobKind = Literal["purge_listener", "purge_queue", "purge_organization", "purge_replay"]

_COLUMNS: Final = "organization, id, kind, listener, spec"
_INSERT: Final = f"INSERT INTO job ({_COLUMNS}, progress, state) VALUES ($1, $2, $3, $4, $5, '', 'waiting')"
_PROGRESS: Final = "SELECT progress FROM job WHERE organization = $1 AND id = $2"
_ADVANCE: Final = "UPDATE job SET progress = $1 WHERE organization = $2 AND id = $3"
_NEXT: Final = f"SELECT {_COLUMNS} FROM job WHERE state = 'waiting' AND id > $1 ORDER BY id LIMIT 1"


class Job(msgspec.Struct, frozen=True):
    """What is to be done. `queue` and `listener` are row ids, None where the kind does not need them, and
    `stream` is that of one cursor of the listener."""

    organization: int
    id: int
    kind: JobKind
    listener: int | None = None
    queue: int | None = None
    stream: int = 0


class _Spec(msgspec.Struct, omit_defaults=True):
    queue: int | None = None
    stream: int = 0


async def insert(tx: Transaction, job: Job) -> None:
    spec = msgspec.json.encode(_Spec(job.queue, job.stream)).decode()
    await tx.execute(_INSERT, job.organization, job.id, job.kind, job.listener, spec)


async def next_after(tx: Transaction, job_id: int = 0) -> Job | None:
    """The oldest job with a higher id."""
    row = await tx.row(_NEXT, job_id)
    return _from_row(row) if row is not None else None


async def progress(tx: Transaction, job: Job) -> str:
    """How far it came: what `advance` was told last, "" before that."""
    row = await tx.row(_PROGRESS, job.organization, job.id)
    return row[0] if row is not None else ""


async def advance(tx: Transaction, job: Job, reached: str) -> None:
    await tx.execute(_ADVANCE, reached, job.organization, job.id)


async def finish(tx: Transaction, job: Job) -> None:
    await tx.execute("DELETE FROM job WHERE organization = $1 AND id = $2", job.organization, job.id)


def _from_row(row: Row) -> Job:
    organization, job, kind, listener, spec = row
    read = msgspec.json.decode(spec, type=_Spec)
    return Job(organization, job, kind, listener, read.queue, read.stream)
