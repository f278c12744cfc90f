"""Invariants of the control plane under concurrent changes by several processes."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from discue.config.settings import Settings
from discue.control import api_keys, organizations
from discue.control.context import ControlContext
from discue.domain.clock import SystemClock
from discue.domain.errors import Conflict
from discue.domain.scopes import Principal
from discue.observability.logs import Log
from discue.server.installation import open_installation
from discue.store.pagination import FIRST_PAGE
from tests.support.databases import database

__all__ = ["database"]

ALIAS = "com.example.operator"
TOGETHER = 4


@asynccontextmanager
async def _opened(address: str) -> AsyncIterator[list[ControlContext]]:
    async with AsyncExitStack() as stack:
        settings = Settings(database=address)
        controls = [
            await stack.enter_async_context(open_installation(settings, SystemClock(), Log())) for _ in range(TOGETHER)
        ]
        # Each worker needs a slot of its own, as the database gives it: random ones can collide.
        for slot, control in enumerate(controls):
            control.row_ids.slot = slot
        yield controls


@pytest.fixture
def workers(runner: asyncio.Runner, database: str) -> Iterator[list[ControlContext]]:
    """Several on one database, each with connections of its own."""
    opening = _opened(database)
    controls = runner.run(opening.__aenter__())
    yield controls
    runner.run(opening.__aexit__(None, None, None))


async def operator(workers: list[ControlContext]) -> Principal:
    _, key = await organizations.ensure_operator(workers[0], ALIAS, None)
    assert key is not None
    return (await workers[0].cache.authenticate(key)).principal


async def test_concurrent_workers_create_one_operator(workers: list[ControlContext]) -> None:
    answers = await asyncio.gather(*(organizations.ensure_operator(control, ALIAS, None) for control in workers))

    assert [key is not None for _, key in answers].count(True) == 1
    assert len({organization.public_id for organization, _ in answers}) == 1


async def test_concurrent_deletions_leave_one_key_that_manages_keys(workers: list[ControlContext]) -> None:
    principal = await operator(workers)
    organization = principal.organization
    keys = [
        await api_keys.create_for(workers[0], ALIAS, None, principal.scopes, expires_at=0) for _ in range(TOGETHER - 1)
    ]
    first = (await api_keys.page(workers[0], principal, FIRST_PAGE)).items[-1]
    ids = [first.public_id, *(made.key.public_id for made in keys)]
    answers = await asyncio.gather(
        *(api_keys.delete(control, principal, key) for control, key in zip(workers, ids, strict=True)),
        return_exceptions=True,
    )

    assert [type(answer) for answer in answers].count(Conflict) == 1
    assert answers.count(None) == TOGETHER - 1
    (left,) = (await api_keys.page(workers[0], principal, FIRST_PAGE)).items
    assert left.organization == organization
    assert api_keys.manages_keys(left, workers[0].clock.now())
