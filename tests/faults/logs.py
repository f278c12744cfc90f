"""All that the logs of an installation hold in the end."""

import msgspec

from discue.domain.headers import Headers
from discue.domain.messages import decode_options
from discue.store.engine import Engine, Transaction
from discue.store.message_log import BODY
from discue.store.postgres.engine import PostgresEngine
from discue.store.sqlite.engine import SqliteEngine
from tests.faults.product import Product
from tests.support.tallied import drift

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


async def stored_by(product: Product, database: str) -> list[Stored]:
    """Read the log of a stopped product. Asserts that tallies and the use counts of shared bodies are exact."""

    async def work(tx: Transaction) -> list[Stored]:
        assert await drift(tx) == {}
        for row in await tx.rows(_UNCOUNTED):
            assert row[1] == row[2], tuple(row)
        rows = await tx.rows(_LOG)
        return [
            Stored(queue, id_, bytes(body).decode(), decode_options(extra).headers) for queue, id_, body, extra in rows
        ]

    engine = _engine_of(product, database)
    await engine.open()
    try:
        return await engine.read(work)
    finally:
        await engine.close()


def _engine_of(product: Product, database: str) -> Engine:
    def report(_place: str, error: BaseException) -> None:
        raise error

    if database.startswith("postgresql"):
        return PostgresEngine(database, report=report)
    return SqliteEngine(product.database, report=report)
