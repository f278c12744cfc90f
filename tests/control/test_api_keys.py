import pytest

from discue.auth.control_plane_cache import KeyRejected
from discue.control import api_keys
from discue.control.api_keys import KeyFields, scopes_of
from discue.control.context import ControlContext
from discue.domain import api_key
from discue.domain.errors import Forbidden, NotFound, Unprocessable
from discue.domain.scopes import Principal, Scope
from discue.store import api_keys as rows
from tests.support.cast import Cast, present


async def test_key_text_is_returned_once_and_only_its_hash_is_stored(cast: Cast, control: ControlContext) -> None:
    made = await api_keys.create(control, cast.alice.principal, KeyFields("builds"))
    parts = api_key.parse(made.text)
    assert parts is not None
    assert parts.public_id == made.key.public_id
    assert len(parts.secret) == 32
    stored = await control.store.read(lambda tx: rows.by_public_id(tx, made.key.public_id))
    assert stored == made.key
    assert parts.secret not in repr(made)
    assert parts.secret.encode() not in stored.secret_hash
    assert (await present(control, made.text)).principal.key == made.key.id


async def test_key_cannot_grant_protected_scopes_or_more_than_it_has(cast: Cast, control: ControlContext) -> None:
    made = await api_keys.create(control, cast.alice.principal, KeyFields())
    with pytest.raises(Unprocessable):
        await api_keys.create(control, cast.alice.principal, KeyFields(scopes={"users": Scope("read")}))
    with pytest.raises(Unprocessable):
        await api_keys.change(
            control, cast.alice.principal, made.key.public_id, KeyFields(scopes={"api_keys": Scope("read")})
        )
    narrow = _narrow_manager(cast)
    with pytest.raises(Forbidden):
        await api_keys.create(control, narrow, KeyFields(scopes={"queues": Scope("write")}))
    with pytest.raises(Forbidden):
        await api_keys.change(control, narrow, made.key.public_id, KeyFields(scopes={"messages": Scope("read")}))


def _narrow_manager(cast: Cast) -> Principal:
    """Return a principal that manages keys and reads queues."""
    return Principal(
        organization=cast.alice.principal.organization,
        organization_public_id=cast.alice.principal.organization_public_id,
        key=0,
        key_public_id="0" * 21,
        scopes={"api_keys": Scope("write"), "queues": Scope("read")},
        is_operator=False,
    )


async def test_client_can_send_back_the_scopes_of_a_response(cast: Cast, control: ControlContext) -> None:
    own = cast.alice.principal.key_public_id
    shown = scopes_of((await api_keys.get(control, cast.alice.principal, own)).scopes)
    changed = await api_keys.change(control, cast.alice.principal, own, KeyFields("first", scopes=shown))
    assert (changed.alias, scopes_of(changed.scopes)) == ("first", shown)


async def test_key_is_rejected_after_its_expiry(cast: Cast, control: ControlContext) -> None:
    ends = cast.clock.now() + 1_000
    made = await api_keys.create(control, cast.alice.principal, KeyFields(expires_at=ends))
    await present(control, made.text)
    cast.clock.advance(1_000)
    with pytest.raises(KeyRejected) as refused:
        await present(control, made.text)
    assert not refused.value.counted
    kept = await api_keys.change(control, cast.alice.principal, made.key.public_id, KeyFields("ended", expires_at=ends))
    assert kept.expires_at == ends
    await api_keys.change(control, cast.alice.principal, made.key.public_id, KeyFields(expires_at=None))
    await present(control, made.text)


@pytest.mark.parametrize("expires_at", [-1, 1, 10**15])
async def test_expiry_must_be_in_the_future(cast: Cast, control: ControlContext, expires_at: int) -> None:
    with pytest.raises(Unprocessable) as refused:
        await api_keys.create(control, cast.alice.principal, KeyFields(expires_at=expires_at))
    assert [fault.pointer for fault in refused.value.faults] == ["/expires_at"]


ALICE = "com.example.alice"


async def test_command_line_grants_protected_scopes(cast: Cast, control: ControlContext) -> None:
    made = await api_keys.create_for(control, ALICE, "rescue", {"api_keys": Scope("write")})
    rescuer = (await present(control, made.text)).principal
    assert rescuer.organization == cast.alice.principal.organization
    assert rescuer.allows_all("api_keys", "write")
    with pytest.raises(Unprocessable):
        await api_keys.create_for(control, ALICE, "rescue", {})


async def test_command_line_lists_the_keys_of_one_organization(cast: Cast, control: ControlContext) -> None:
    await api_keys.create(control, cast.charlie.principal, api_keys.KeyFields())
    shown = await api_keys.page_for(control, ALICE)
    assert [key.public_id for key in shown.items] == [cast.alice.principal.key_public_id]


async def test_command_line_disables_and_deletes_the_last_key(cast: Cast, control: ControlContext) -> None:
    own = cast.alice.principal.key_public_id
    await api_keys.change_for(control, ALICE, own, "disabled")
    with pytest.raises(KeyRejected):
        await present(control, cast.alice.key)
    await api_keys.change_for(control, ALICE, own, "enabled")
    await present(control, cast.alice.key)
    await api_keys.change_for(control, ALICE, own, "deleted")
    with pytest.raises(KeyRejected):
        await present(control, cast.alice.key)


async def test_key_is_found_only_in_its_own_organization(cast: Cast, control: ControlContext) -> None:
    theirs = cast.charlie.principal.key_public_id
    for refused in (
        api_keys.change_for(control, ALICE, theirs, "disabled"),
        api_keys.change_for(control, ALICE, theirs, "deleted"),
        api_keys.create_for(control, "com.example.nobody", None, {}),
        api_keys.page_for(control, "com.example.nobody"),
    ):
        with pytest.raises(NotFound):
            await refused
    await present(control, cast.charlie.key)
