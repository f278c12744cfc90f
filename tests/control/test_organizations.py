"""Organizations, and the operator's organization of an empty database."""

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from discue.auth.control_plane_cache import KeyRejected
from discue.control import organizations, queues
from discue.control.context import ControlContext
from discue.control.organizations import OrganizationFields, ensure_operator
from discue.control.queues import QueueFields
from discue.domain.errors import Conflict, Locked, NotFound, SettingsInvalid, Unprocessable
from discue.domain.message_data import JSON_VALUE
from discue.domain.scopes import RESOURCES, Scope
from discue.store import organizations as stored_organizations
from discue.store import purge
from discue.store.engine import Append, NewEntry, QueueClosed, Row, Transaction
from tests.support.cast import Cast, control_of
from tests.support.clocks import StandingClock
from tests.support.stores import opened_store


async def test_deleted_organization_is_unreachable(cast: Cast, control: ControlContext) -> None:
    alice, own = cast.alice, cast.alice.principal.organization_public_id
    bob = await cast.bob({"queues": Scope("write")})
    queue = (await queues.create(control, alice.principal, QueueFields())).queue
    await control.cache.queue(queue.organization, queue.public_id)
    await organizations.delete(control, cast.olga.principal, own)
    for person in (alice, bob):
        with pytest.raises(KeyRejected):
            await control.cache.authenticate(person.key)
    with pytest.raises(NotFound):
        await control.cache.queue(queue.organization, queue.public_id)
    entry = NewEntry("m" * 21, JSON_VALUE, b"1")
    late = Append(queue.organization, queue.id, queue.config_version, 0, (entry,))
    with pytest.raises(QueueClosed):
        await control.store.append(late)
    with pytest.raises(NotFound):
        await organizations.get(control, cast.olga.principal, own)
    await control.cache.authenticate(cast.charlie.key)
    await organizations.create(control, cast.olga.principal, OrganizationFields("com.example.alice"))


async def test_purge_removes_only_rows_of_the_deleted_organization(cast: Cast, control: ControlContext) -> None:
    kept = (await queues.create(control, cast.charlie.principal, QueueFields())).queue
    await queues.create(control, cast.alice.principal, QueueFields())
    await organizations.delete(control, cast.alice.principal, cast.alice.principal.organization_public_id)
    job = await control.store.read(purge.next_after)
    assert job is not None
    while not await control.store.write(lambda tx: purge.step(tx, job)):
        pass
    for table in ("queue", "queue_head", "api_key", "job"):
        sql = f"SELECT count(*) FROM {table} WHERE organization = $1"
        for person, count in ((cast.alice, 0), (cast.charlie, {"api_key": 1, "job": 0}.get(table, 2))):
            owner = person.principal.organization
            assert await control.store.read(partial(_first_row, sql=sql, value=owner)) == (count,), table
    assert (await queues.get(control, cast.charlie.principal, kept.public_id)).queue == kept


async def _first_row(tx: Transaction, sql: str, value: int) -> Row | None:
    return await tx.row(sql, value)


async def test_suspended_organization_is_locked_until_it_is_resumed(cast: Cast, control: ControlContext) -> None:
    await organizations.set_state(control, "com.example.alice", "suspended")
    with pytest.raises(Locked):
        await control.cache.authenticate(cast.alice.key)
    await control.cache.authenticate(cast.charlie.key)
    await organizations.set_state(control, "com.example.alice", "active")
    await control.cache.authenticate(cast.alice.key)


async def test_operators_organization_cannot_be_suspended(cast: Cast, control: ControlContext) -> None:
    operator = await organizations.get(control, cast.olga.principal, cast.olga.principal.organization_public_id)
    with pytest.raises(Conflict):
        await organizations.set_state(control, operator.alias, "suspended")
    await control.cache.authenticate(cast.olga.key)


ALIAS = "com.example.operator"
CHOSEN = "dsk_" + "0UoCbelc05i7mdnOnUktk" + "s" * 22


@pytest.fixture
def empty(runner: asyncio.Runner, tmp_path: Path, engine_name: str) -> Iterator[ControlContext]:
    with opened_store(runner, engine_name, tmp_path) as store:
        yield control_of(store, StandingClock())


async def test_empty_database_gets_the_operator_and_a_key_with_every_scope(empty: ControlContext) -> None:
    organization, key = await ensure_operator(empty, ALIAS, None)
    assert (organization.alias, organization.is_operator) == (ALIAS, True)
    assert key is not None
    record = await empty.cache.authenticate(key)
    assert record.principal.is_operator
    assert all(record.principal.allows_all(resource, "write") for resource in RESOURCES)


async def test_second_bootstrap_changes_nothing(empty: ControlContext) -> None:
    organization, key = await ensure_operator(empty, ALIAS, None)
    assert key is not None
    assert await ensure_operator(empty, "com.example.other", CHOSEN) == (organization, None)
    await empty.cache.authenticate(key)
    assert await empty.store.read(lambda tx: stored_organizations.by_alias(tx, "com.example.other")) is None


async def test_chosen_bootstrap_key_is_accepted(empty: ControlContext) -> None:
    _, key = await ensure_operator(empty, ALIAS, CHOSEN)
    assert key == CHOSEN
    assert (await empty.cache.authenticate(CHOSEN)).principal.is_operator


async def test_invalid_bootstrap_key_or_alias_leaves_the_database_empty(empty: ControlContext) -> None:
    with pytest.raises(SettingsInvalid):
        await ensure_operator(empty, ALIAS, "dsk_short")
    with pytest.raises(Unprocessable):
        await ensure_operator(empty, "operator", None)
    assert await empty.store.read(stored_organizations.operator) is None
