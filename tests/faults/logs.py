"""All that the logs of an installation hold in the end."""

from typing import TypeVar

import msgspec

from discue.config.settings import Settings
from discue.domain.clock import SystemClock
from discue.domain.headers import Headers
from discue.domain.messages import decode_options
from discue.observability.logs import Log
from discue.server.installation import open_engine
from discue.store.engine import Transaction, Work
from discue.store.message_log import BODY
from tests.support.tallied import drift

T = TypeVar("T")

_LOG = f"""
    SELECT q.public_id, l.id, {BODY}, l.extra
    FROM log l JOIN queue q ON q.organization = l.organization AND q.id = l.queue"""
_UNCOUNTED = """
    SELECT b.id, b.uses, (SELECT count(*) FROM log l WHERE l.organization = b.organization AND l.body_id = b.id)
    FROM body b"""


class Stored(msgspec.Struct, frozen=True):
    """A message in a queue, as its log has it."""

    queue: str
    id: str
    body: str
    headers: Headers = ()


async def read_from(database: str, work: Work[T]) -> T:
    """Read the database of stopped servers. Asserts that their tallies are exact, whatever was killed."""

    async def checked(tx: Transaction) -> T:
        assert await drift(tx) == {}
        return await work(tx)

    async with open_engine(Settings(database=database), SystemClock(), Log()) as engine:
        return await engine.read(checked)


async def stored_in(database: str) -> list[Stored]:
    """Read the logs. Asserts that the use counts of shared bodies are exact."""

    async def work(tx: Transaction) -> list[Stored]:
        for row in await tx.rows(_UNCOUNTED):
            assert row[1] == row[2], tuple(row)
        rows = await tx.rows(_LOG)
        return [
            Stored(queue, id_, bytes(body).decode(), decode_options(extra).headers) for queue, id_, body, extra in rows
        ]

    return await read_from(database, work)
