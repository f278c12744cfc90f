"""The content of an installation in the end."""

from typing import TypeVar

from discue.config.settings import Settings
from discue.observability.logs import Log
from discue.server.installation import Machine, open_engine
from discue.store.engine import Transaction, Work
from tests.support.tallied import drift

T = TypeVar("T")

_UNCOUNTED = """
SELECT b.id, b.uses, count(l.id) FROM body b
LEFT JOIN log l ON l.organization = b.organization AND l.body_id = b.id
GROUP BY b.organization, b.id, b.uses HAVING b.uses <> count(l.id)
"""


async def read_from(database: str, work: Work[T], machine: Machine | None = None) -> T:
    """Read the database of stopped servers.

    Asserts that their tallies, and the use counts of shared bodies, are exact, whatever was killed.
    """

    async def checked(tx: Transaction) -> T:
        assert (found := await drift(tx)) == {}, found
        assert (uncounted := await tx.rows(_UNCOUNTED)) == [], uncounted
        return await work(tx)

    machine = machine or Machine()
    async with open_engine(Settings(database=database), Log(), machine) as engine:
        return await engine.read(checked)
