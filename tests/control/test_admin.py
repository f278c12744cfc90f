import pytest

from discue.auth.control_plane_cache import KeyRejected
from discue.control import admin, api_keys
from discue.control.context import ControlContext
from discue.dashboard.users import command_line, users
from discue.domain.errors import NotFound, Unprocessable
from discue.domain.scopes import Scope
from tests.support.cast import Cast, present

ALICE = "com.example.alice"


async def test_command_line_grants_protected_scopes(cast: Cast, control: ControlContext) -> None:
    made = await admin.create_key(control, ALICE, "rescue", {"api_keys": Scope("write")})
    rescuer = (await present(control, made.text)).principal
    assert rescuer.organization == cast.alice.principal.organization
    assert rescuer.allows_all("api_keys", "write")
    with pytest.raises(Unprocessable):
        await admin.create_key(control, ALICE, "rescue", {})


async def test_command_line_lists_the_keys_of_one_organization(cast: Cast, control: ControlContext) -> None:
    await api_keys.create(control, cast.charlie.principal, api_keys.KeyFields())
    shown = await admin.page_of_keys(control, ALICE)
    assert [key.public_id for key in shown.items] == [cast.alice.principal.key_public_id]


async def test_command_line_disables_and_deletes_the_last_key(cast: Cast, control: ControlContext) -> None:
    own = cast.alice.principal.key_public_id
    await admin.change_key(control, ALICE, own, "disabled")
    with pytest.raises(KeyRejected):
        await present(control, cast.alice.key)
    await admin.change_key(control, ALICE, own, "enabled")
    await present(control, cast.alice.key)
    await admin.change_key(control, ALICE, own, "deleted")
    with pytest.raises(KeyRejected):
        await present(control, cast.alice.key)


async def test_key_is_found_only_in_its_own_organization(cast: Cast, control: ControlContext) -> None:
    theirs = cast.charlie.principal.key_public_id
    for refused in (
        admin.change_key(control, ALICE, theirs, "disabled"),
        admin.change_key(control, ALICE, theirs, "deleted"),
        admin.create_key(control, "com.example.nobody", None, {}),
        admin.page_of_keys(control, "com.example.nobody"),
    ):
        with pytest.raises(NotFound):
            await refused
    await present(control, cast.charlie.key)


async def test_command_line_makes_the_first_owner_and_a_link_for_the_last(cast: Cast, control: ControlContext) -> None:
    made = await command_line.create_user(control, ALICE, "ada@example.com", "owner")
    again = await command_line.invite_user(control, ALICE, "ADA@example.com")
    assert made.invitation is not None
    assert again.invitation is not None
    assert await users.accept(control, made.invitation.token, "correct horse battery") is None
    accepted = await users.accept(control, again.invitation.token, "correct horse battery")
    assert accepted is not None
    assert (accepted.organization, accepted.role) == (cast.alice.principal.organization, "owner")
    listed = await command_line.page_of_users(control, ALICE)
    assert [user.public_id for user in listed.items] == [accepted.public_id]
    with pytest.raises(NotFound):
        await command_line.invite_user(control, "com.example.charlie", "ada@example.com")
