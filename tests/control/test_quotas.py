"""Quotas of what is created, and who may change them."""

import asyncio
from typing import Any

import pytest

from discue.control import listeners, organizations, queues, usage
from discue.control.context import ControlContext
from discue.control.listeners import ListenerFields
from discue.control.organizations import OrganizationFields
from discue.control.queues import QueueFields
from discue.domain.errors import Forbidden, NotFound, QuotaExceeded, Unprocessable
from tests.support.cast import Cast

ENDPOINT = ListenerFields(notify_url="https://example.com/", liveness_url="https://example.com/")


async def _allow(cast: Cast, **limits: int | None) -> None:
    """Set the quotas of alice's organization, by the names of the settings."""
    await organizations.set_limits(cast.control, "com.example.alice", limits)


async def _settings(cast: Cast) -> dict[str, int | bool]:
    alice = cast.alice.principal
    return (await organizations.get(cast.control, alice, alice.organization_public_id)).settings


def _refused(answers: list[Any]) -> int:
    return sum(isinstance(answer, QuotaExceeded) for answer in answers)


async def test_last_queue_of_a_quota_is_created_once(cast: Cast, control: ControlContext) -> None:
    alice = cast.alice.principal
    await _allow(cast, quota_queues=2)
    await queues.create(control, alice, QueueFields())
    answers = await asyncio.gather(
        *(queues.create(control, alice, QueueFields()) for _ in range(5)), return_exceptions=True
    )
    assert _refused(answers) == 4
    await queues.create(control, cast.charlie.principal, QueueFields())


async def test_listeners_count_over_all_queues(cast: Cast, control: ControlContext) -> None:
    alice = cast.alice.principal
    await _allow(cast, quota_listeners=2)
    made = [(await queues.create(control, alice, QueueFields())).queue.public_id for _ in range(3)]
    answers = await asyncio.gather(
        *(listeners.create(control, alice, queue, ENDPOINT) for queue in made), return_exceptions=True
    )
    assert _refused(answers) == 1
    with pytest.raises(QuotaExceeded, match="2 of 2 listeners"):
        await listeners.create(control, alice, made[0], ENDPOINT)


async def test_deletion_frees_quota_at_once(cast: Cast, control: ControlContext) -> None:
    alice = cast.alice.principal
    await _allow(cast, quota_queues=1, quota_listeners=1)
    queue = (await queues.create(control, alice, QueueFields())).queue.public_id
    await listeners.create(control, alice, queue, ENDPOINT)
    await queues.delete(control, alice, queue)
    queue = (await queues.create(control, alice, QueueFields())).queue.public_id
    await listeners.create(control, alice, queue, ENDPOINT)


async def test_usage_is_reported_with_and_without_quotas(cast: Cast, control: ControlContext) -> None:
    alice = cast.alice.principal
    queue = (await queues.create(control, alice, QueueFields())).queue.public_id
    await listeners.create(control, alice, queue, ENDPOINT)
    expected = {"queues": 1, "listeners": 1, "messages_a_day": 0, "bytes_stored": 0}
    assert (await usage.used_quotas(control, alice)).used == expected
    await _allow(cast, quota_queues=5)
    use = await usage.used_quotas(control, alice)
    assert (use.used, use.quotas.queues, use.quotas.listeners) == (expected, 5, None)


async def test_the_operator_changes_limits_field_by_field(cast: Cast, control: ControlContext) -> None:
    olga, own = cast.olga.principal, cast.alice.principal.organization_public_id

    async def change(**fields: Any) -> dict[str, int | bool]:
        return (await organizations.change(control, olga, own, OrganizationFields(**fields))).settings

    assert await change(quotas={"queues": 5, "bytes_stored": 0}) == {"quota_queues": 5, "quota_bytes_stored": 0}
    assert await change(quotas={"bytes_stored": None}, rate_limit=7) == {"quota_queues": 5, "rate_limit": 7}
    assert await change(retention_seconds=60) == {"quota_queues": 5, "rate_limit": 7, "retention_seconds": 60}
    assert await change(quotas=None, retention_seconds=None) == {"rate_limit": 7}
    assert await change() == {"rate_limit": 7}


async def test_only_the_operator_changes_quotas_but_current_values_may_be_repeated(
    cast: Cast, control: ControlContext
) -> None:
    alice = cast.alice.principal
    await _allow(cast, quota_queues=5, rate_limit=7)
    same = OrganizationFields(quotas={"queues": 5, "listeners": None}, rate_limit=7)
    await organizations.change(control, alice, alice.organization_public_id, same)
    for fields in (
        OrganizationFields(quotas={"queues": 6}),
        OrganizationFields(quotas=None),
        OrganizationFields(rate_limit=None),
        OrganizationFields(retention_seconds=1),
    ):
        with pytest.raises(Forbidden):
            await organizations.change(control, alice, alice.organization_public_id, fields)
        with pytest.raises(Forbidden):
            await organizations.create(control, alice, OrganizationFields(quotas={"queues": 6}))
    assert await _settings(cast) == {"quota_queues": 5, "rate_limit": 7}


async def test_a_value_out_of_its_range_is_named_and_changes_nothing(cast: Cast, control: ControlContext) -> None:
    olga, own = cast.olga.principal, cast.alice.principal.organization_public_id
    fields = OrganizationFields(rate_limit=-1, quotas={"queues": 100_001, "listeners": 3})
    with pytest.raises(Unprocessable) as refused:
        await organizations.change(control, olga, own, fields)
    assert [fault.pointer for fault in refused.value.faults] == ["/rate_limit", "/quotas/queues"]
    assert await _settings(cast) == {}


async def test_command_requires_an_existing_organization(cast: Cast, control: ControlContext) -> None:
    with pytest.raises(NotFound):
        await organizations.set_limits(control, "com.example.nobody", {"rate_limit": 5})
