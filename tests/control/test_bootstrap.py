import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from discue.control.context import ControlContext
from discue.control.organizations import ensure_operator
from discue.domain.errors import SettingsInvalid, Unprocessable
from discue.domain.scopes import RESOURCES
from discue.store import organizations
from tests.support.cast import control_of
from tests.support.clocks import StandingClock
from tests.support.stores import opened_store

ALIAS = "com.example.operator"
CHOSEN = "dsk_" + "0UoCbelc05i7mdnOnUktk" + "s" * 22


@pytest.fixture
def empty(runner: asyncio.Runner, tmp_path: Path, engine_name: str) -> Iterator[ControlContext]:
    with opened_store(runner, engine_name, tmp_path) as store:
        yield control_of(store, StandingClock())


async def test_an_empty_database_gets_its_operator_and_a_key_that_may_do_everything(empty: ControlContext) -> None:
    organization, key = await ensure_operator(empty, ALIAS, None)
    assert (organization.alias, organization.is_operator) == (ALIAS, True)
    assert key is not None
    record = await empty.cache.authenticate(key)
    assert record.principal.is_operator
    assert all(record.principal.allows_all(resource, "write") for resource in RESOURCES)


async def test_the_second_time_nothing_changes(empty: ControlContext) -> None:
    organization, key = await ensure_operator(empty, ALIAS, None)
    assert key is not None
    assert await ensure_operator(empty, "com.example.other", CHOSEN) == (organization, None)
    await empty.cache.authenticate(key)
    assert await empty.store.read(lambda tx: organizations.by_alias(tx, "com.example.other")) is None


async def test_operator_is_created_once_by_concurrent_starts(empty: ControlContext) -> None:
    answers = await asyncio.gather(*(ensure_operator(empty, ALIAS, None) for _ in range(5)))
    assert [key is not None for _, key in answers].count(True) == 1
    assert len({organization.public_id for organization, _ in answers}) == 1


async def test_a_chosen_key_is_the_one_that_works(empty: ControlContext) -> None:
    _, key = await ensure_operator(empty, ALIAS, CHOSEN)
    assert key == CHOSEN
    assert (await empty.cache.authenticate(CHOSEN)).principal.is_operator


async def test_invalid_bootstrap_key_or_alias_is_refused_and_leaves_the_database_empty(empty: ControlContext) -> None:
    with pytest.raises(SettingsInvalid):
        await ensure_operator(empty, ALIAS, "dsk_short")
    with pytest.raises(Unprocessable):
        await ensure_operator(empty, "operator", None)
    assert await empty.store.read(organizations.operator) is None
