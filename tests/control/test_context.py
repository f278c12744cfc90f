"""Creations with an idempotency key and conditional changes: atomic."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from discue.control import queues
from discue.control.context import ControlContext, IdempotentWrite, changed_settings
from discue.control.queues import QueueDetails, QueueFields
from discue.domain.errors import PreconditionFailed, Unprocessable
from discue.domain.etags import EntityTag, EntityTags, version_of
from discue.domain.idempotency import IdempotencyKey, idempotency_key
from discue.domain.model import Authentication, DeliveryOptions, Listener, Organization, Queue, User
from discue.store import idempotency
from discue.store.engine import AlreadyDone
from discue.store.idempotency import StoredResponse
from tests.support.cast import Cast


def a_key(cast: Cast) -> IdempotencyKey:
    return idempotency_key(cast.alice.principal.organization, "a", "POST", "/queues", body=b"")


def keeping(cast: Cast) -> ControlContext:
    """The control plane for a request that came with the key."""
    return replace(
        cast.control,
        once=IdempotentWrite(a_key(cast), lambda made: made.queue.public_id.encode(), cast.control.row_ids.next()),
    )


async def kept(cast: Cast) -> StoredResponse | None:
    key = a_key(cast)
    return await cast.control.store.read(lambda tx: idempotency.read_response(tx, key.organization, key.hash))


async def aliases(cast: Cast) -> list[str]:
    found = (await queues.page(cast.control, cast.alice.principal)).items
    return [item.queue.alias for item in found if not item.queue.is_system]


async def test_idempotency_key_is_stored_with_its_response(cast: Cast) -> None:
    made = await queues.create(keeping(cast), cast.alice.principal, QueueFields("orders"))
    assert isinstance(made, QueueDetails)
    assert await kept(cast) == StoredResponse(a_key(cast).fingerprint, made.queue.public_id.encode(), cast.clock.now())


async def test_known_idempotency_key_changes_nothing(cast: Cast) -> None:
    await queues.create(keeping(cast), cast.alice.principal, QueueFields("orders"))
    with pytest.raises(AlreadyDone):
        await queues.create(keeping(cast), cast.alice.principal, QueueFields("others"))
    assert await aliases(cast) == ["orders"]


async def test_rejected_operation_stores_no_idempotency_key(cast: Cast) -> None:
    await queues.create(cast.control, cast.alice.principal, QueueFields("orders"))
    with pytest.raises(Unprocessable):
        await queues.create(keeping(cast), cast.alice.principal, QueueFields("orders"))
    assert await kept(cast) is None


async def test_failing_response_rolls_the_operation_back(cast: Cast) -> None:
    def broken(_made: Any) -> bytes:
        raise ZeroDivisionError

    control = replace(cast.control, once=IdempotentWrite(a_key(cast), broken, 1))
    with pytest.raises(ZeroDivisionError):
        await queues.create(control, cast.alice.principal, QueueFields("orders"))
    assert (await kept(cast), await aliases(cast)) == (None, [])


async def test_change_with_a_stale_if_match_changes_nothing(cast: Cast) -> None:
    made = await queues.create(cast.control, cast.alice.principal, QueueFields("orders"))
    public_id, seen = made.queue.public_id, EntityTags((EntityTag(f"{version_of(made.queue)}.whatever"),))
    bound = replace(cast.control, match=seen)
    await queues.change(bound, cast.alice.principal, public_id, QueueFields("others"))
    with pytest.raises(PreconditionFailed):
        await queues.change(bound, cast.alice.principal, public_id, QueueFields("third"))
    with pytest.raises(PreconditionFailed):
        await queues.delete(bound, cast.alice.principal, public_id)
    assert await aliases(cast) == ["others"]


_LISTENER = Listener(1, 2, "l", 3, "q", "billing", "enabled", "https://example.com/a", "", 1, 5, 5)
_QUEUE = Queue(1, 2, "q", "orders", None, None, 1, 5, 5, schema="{}", schema_id="a")
_USER = User(1, 2, "u", "ada@example.com", "Ada", "admin", 5, 5)
_ORGANIZATION = Organization(1, "o", "com.example", "active", False, {"queues": 5, "retention_seconds": 60}, 5, 5)


@pytest.mark.parametrize(
    ("stored", "changes", "names"),
    [
        (_LISTENER, {"config_version": 2, "updated_at": 6}, ()),
        (_LISTENER, {"status": "disabled", "disabled_by": "request", "status_changed_at": 6}, ("disabled",)),
        (_LISTENER, {"alias": "paid", "notify_url": "https://example.com/b?token=secret"}, ("name", "notify_url")),
        (
            _LISTENER,
            {
                "options": DeliveryOptions(
                    headers=(("x-token", "secret"),), timeout_seconds=5, authentication=Authentication("basic")
                ),
                "customer": "acme",
            },
            ("headers", "timeout", "authentication", "customer"),
        ),
        (_QUEUE, {"schema": "true", "schema_id": "b", "schema_language": "json_schema"}, ("schema",)),
        (_QUEUE, {"retention_seconds": 1}, ("retention",)),
        (_USER, {"password_hash": "secret", "role": "owner"}, ("role", "password")),
        (_ORGANIZATION, {"state": "suspended", "settings": {"queues": 6}}, ("suspended", "queues", "retention")),
    ],
)
def test_changed_settings_are_named_without_their_values(
    stored: msgspec.Struct, changes: dict[str, object], names: tuple[str, ...]
) -> None:
    assert changed_settings(stored, msgspec.structs.replace(stored, **changes)) == names
