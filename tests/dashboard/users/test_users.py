"""Users: a password or an invitation, one email each, and an owner who always remains."""

import pytest

from discue.control import organizations, usage
from discue.control.usage import EventSelection
from discue.crypto.passwords import INVITATION_MS, verify_password
from discue.dashboard.users import command_line, users
from discue.dashboard.users.users import UserDetails, UserFields
from discue.domain.errors import Conflict, Locked, NotFound, Unprocessable
from discue.domain.model import User
from discue.store import events
from tests.support.cast import Cast
from tests.support.databases import on_sqlite_only

PASSWORD = "correct horse battery"


async def _user(cast: Cast, email: str = "ada@example.com", role: str = "developer", **fields: object) -> UserDetails:
    given = {"email": email, "role": role, **fields}
    return await users.create(cast.control, cast.alice.principal, UserFields(**given))  # type: ignore[arg-type]


async def _owner(cast: Cast, email: str) -> User:
    return (await _user(cast, email, "owner", password=PASSWORD)).user


def _token(made: UserDetails) -> str:
    assert made.invitation is not None
    return made.invitation.token


async def _change(cast: Cast, user: User, **fields: object) -> UserDetails:
    return await users.change(cast.control, cast.alice.principal, user.public_id, UserFields(**fields))  # type: ignore[arg-type]


async def test_user_without_a_password_is_invited_and_with_one_active(cast: Cast) -> None:
    invited, active = await _user(cast), await _user(cast, "bea@example.com", password=PASSWORD)
    assert (invited.user.state, active.user.state, active.invitation) == ("invited", "active", None)
    assert active.user.password_hash is not None
    assert verify_password(PASSWORD, active.user.password_hash)
    assert PASSWORD not in active.user.password_hash
    assert [user.email for user in (await users.page(cast.control, cast.alice.principal)).items] == [
        "bea@example.com",
        "ada@example.com",
    ]


async def test_invitation_expires(cast: Cast) -> None:
    made = await _user(cast)
    cast.clock.advance(INVITATION_MS)
    assert await users.accept(cast.control, _token(made), PASSWORD) is None


async def test_users_who_accept_invitations_do_not_block_others(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_A_PERIOD", 0)
    monkeypatch.setattr(events, "MOST_BEYOND", 1)
    made = [await _user(cast, f"user{number}@example.com") for number in range(3)]
    for each in made:
        accepted = await users.accept(cast.control, _token(each), PASSWORD)
        assert (accepted and accepted.public_id) == each.user.public_id
    recorded = (await usage.page_of_events(cast.control, cast.alice.principal, EventSelection())).events
    authors = {event.ref: event.user for event in recorded if event.type == "user_updated"}
    assert authors == {each.user.public_id: each.user.public_id for each in made}


async def test_new_invitation_or_password_voids_the_old_invitation(cast: Cast) -> None:
    made = await _user(cast)
    again = await _change(cast, made.user, invite=True)
    assert await users.accept(cast.control, _token(made), PASSWORD) is None
    assert (await _change(cast, made.user, password=PASSWORD)).user.state == "active"
    assert await users.accept(cast.control, _token(again), PASSWORD) is None
    assert (await _change(cast, made.user, display_name="Ada")).invitation is None


async def test_active_user_stays_active_when_invited_again(cast: Cast) -> None:
    made = await _user(cast, password=PASSWORD)
    again = await _change(cast, made.user, invite=True)
    assert again.user.state == "active"
    assert await users.accept(cast.control, _token(again), "another password") is not None


async def test_invalid_password_is_rejected_for_any_token(cast: Cast) -> None:
    made = await _user(cast)
    for token in (_token(made), "another"):
        with pytest.raises(Unprocessable):
            await users.accept(cast.control, token, "short")
    assert await users.accept(cast.control, _token(made), PASSWORD) is not None


async def test_invitation_fails_while_the_organization_is_suspended_or_deleted(cast: Cast) -> None:
    made = await _user(cast)
    await organizations.set_state(cast.control, "com.example.alice", "suspended")
    with pytest.raises(Locked):
        await users.accept(cast.control, _token(made), PASSWORD)
    alice = cast.alice.principal.organization_public_id
    await organizations.delete(cast.control, cast.olga.principal, alice)
    assert await users.accept(cast.control, _token(made), PASSWORD) is None


async def test_email_is_taken_in_any_letter_case(cast: Cast) -> None:
    made = await _user(cast)
    other = await _user(cast, "bea@example.com")
    for attempt in (_user(cast, "ADA@example.com"), _change(cast, other.user, email="Ada@Example.com")):
        with pytest.raises(Unprocessable) as taken:
            await attempt
        assert taken.value.faults[0].pointer == "/email"
    assert (await _change(cast, made.user, email="ADA@example.com")).user.email == "ADA@example.com"
    await users.create(cast.control, cast.charlie.principal, UserFields("ada@example.com", role="viewer"))


async def test_last_active_owner_is_kept(cast: Cast) -> None:
    first = await _owner(cast, "ada@example.com")
    invited = await _user(cast, "bea@example.com", "owner")
    with pytest.raises(Conflict):
        await users.delete(cast.control, cast.alice.principal, first.public_id)
    with pytest.raises(Conflict):
        await _change(cast, first, role="admin")
    await _change(cast, first, display_name="Ada", role="owner")
    assert await users.accept(cast.control, _token(invited), PASSWORD) is not None
    await users.delete(cast.control, cast.alice.principal, first.public_id)
    with pytest.raises(Conflict):
        await users.delete(cast.control, cast.alice.principal, invited.user.public_id)


@on_sqlite_only
@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"email": "ada"}, "/email"),
        ({"email": "a@b@c"}, "/email"),
        ({"email": "a b@c"}, "/email"),
        ({"email": "a\0@c"}, "/email"),
        ({"email": "@c"}, "/email"),
        ({"email": "a@" + "c" * 253}, "/email"),
        ({"role": "king"}, "/role"),
        ({"display_name": "x" * 129}, "/display_name"),
        ({"display_name": "a\nb"}, "/display_name"),
        ({"password": "short"}, "/password"),
        ({"password": PASSWORD, "invite": True}, "/password"),
    ],
)
async def test_invalid_values_are_rejected_and_change_nothing(
    cast: Cast, fields: dict[str, object], pointer: str
) -> None:
    made = await _user(cast)
    fresh = {"email": "bea@example.com", **fields}
    for attempt in (_change(cast, made.user, **fields), _user(cast, **fresh)):  # type: ignore[arg-type]
        with pytest.raises(Unprocessable) as refused:
            await attempt
        assert refused.value.faults[0].pointer == pointer
    assert (await users.page(cast.control, cast.alice.principal)).items == (made.user,)


def test_repr_contains_neither_password_nor_token() -> None:
    fields = UserFields("ada@example.com", role="viewer", password=PASSWORD)
    assert PASSWORD not in repr(fields)


async def test_command_line_makes_the_first_owner_and_a_link_for_the_last(cast: Cast) -> None:
    control, alice = cast.control, "com.example.alice"
    made = await command_line.create_user(control, alice, "ada@example.com", "owner")
    again = await command_line.invite_user(control, alice, "ADA@example.com")
    assert made.invitation is not None
    assert again.invitation is not None
    assert await users.accept(control, made.invitation.token, PASSWORD) is None
    accepted = await users.accept(control, again.invitation.token, PASSWORD)
    assert accepted is not None
    assert (accepted.organization, accepted.role) == (cast.alice.principal.organization, "owner")
    listed = await command_line.page_of_users(control, alice)
    assert [user.public_id for user in listed.items] == [accepted.public_id]
    with pytest.raises(NotFound):
        await command_line.invite_user(control, "com.example.charlie", "ada@example.com")
