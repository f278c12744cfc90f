"""Accounts: a session alone changes neither the password nor the second factor."""

from base64 import b32decode
from collections.abc import Awaitable, Callable

import pytest

from discue.dashboard.users import second_factor, sign_in, users
from discue.dashboard.users.account import Account
from discue.dashboard.users.second_factor import STEP_MS
from discue.dashboard.users.sign_in import Browser
from discue.dashboard.users.users import UserFields
from discue.domain.errors import Forbidden, LockedOut, NotFound, Unprocessable
from discue.domain.lockout import FAILURES
from tests.dashboard.users.signing_in import ADA, PASSWORD, Door, a_user
from tests.support.cast import Cast

NEW = "another password"


@pytest.fixture
def door(cast: Cast) -> Door:
    return Door(cast.control)


async def _account(cast: Cast, door: Door, token: str = "") -> Account:
    details = await door.see(await door.sign_in(token=token))
    assert details is not None
    return Account(cast.control, door.authenticator, details)


async def test_new_password_ends_the_other_sessions(cast: Cast, door: Door) -> None:
    await a_user(cast)
    other, own = await door.sign_in(), await door.sign_in()
    details = await door.see(own)
    assert details is not None
    await Account(cast.control, door.authenticator, details).change_password(PASSWORD, NEW)
    assert [await door.see(each) is None for each in (other, own)] == [True, False]
    assert await door.try_in() is None
    assert await door.try_in(password=NEW) is not None


ACTIONS: dict[str, Callable[[Account, str], Awaitable[object]]] = {
    "change": lambda account, password: account.change_password(password, NEW),
    "begin": lambda account, password: account.begin_second_factor(password),
    "remove": lambda account, password: account.remove_second_factor(password),
}


@pytest.mark.parametrize("action", ACTIONS)
async def test_wrong_password_changes_nothing_and_counts_against_the_session_alone(
    cast: Cast, door: Door, action: str
) -> None:
    await a_user(cast)
    account, other = await _account(cast, door), await _account(cast, door)
    for _ in range(FAILURES):
        with pytest.raises(Unprocessable, match="/password is wrong"):
            await ACTIONS[action](account, NEW)
    with pytest.raises(LockedOut):
        await ACTIONS[action](account, PASSWORD)
    await other.require_password(PASSWORD)
    assert await door.try_in() is not None


async def test_lock_of_the_email_does_not_apply_to_a_session(cast: Cast, door: Door) -> None:
    await a_user(cast)
    account = await _account(cast, door)
    for number in range(FAILURES):
        assert await door.try_in(password=NEW, address=f"198.51.100.{number}") is None
    with pytest.raises(LockedOut):
        await door.try_in()
    await account.require_password(PASSWORD)


async def test_invalid_new_password_is_refused(cast: Cast, door: Door) -> None:
    await a_user(cast)
    with pytest.raises(Unprocessable) as refused:
        await (await _account(cast, door)).change_password(PASSWORD, "short")
    assert refused.value.faults[0].pointer == "/new_password"


async def test_password_that_was_reset_meanwhile_is_not_overwritten(cast: Cast, door: Door) -> None:
    user = await a_user(cast)
    account = await _account(cast, door)
    fields = UserFields(password="of the reset")
    await users.change(cast.control, cast.alice.principal, user.public_id, fields)
    with pytest.raises(NotFound):
        await account.change_password(PASSWORD, NEW)
    assert await door.try_in(password="of the reset") is not None


async def test_password_that_was_changed_meanwhile_confirms_no_session(cast: Cast, door: Door) -> None:
    await a_user(cast)
    opened = await door.sign_in()
    copied, own = await door.see(opened), await door.see(opened)
    assert copied is not None
    assert own is not None
    thief = Account(cast.control, door.authenticator, copied)
    await Account(cast.control, door.authenticator, own).change_password(PASSWORD, NEW)
    with pytest.raises(NotFound, match="has ended"):
        await thief.confirm(PASSWORD, Browser("192.0.2.9", "a browser", opened.token))
    assert await door.see(opened) is not None


async def test_second_factor_is_set_up_and_removed(cast: Cast, door: Door) -> None:
    await a_user(cast)
    account = await _account(cast, door)
    assert not await account.has_second_factor()
    secret = b32decode((await account.begin_second_factor(PASSWORD)).secret)
    code = second_factor.code_at(secret, cast.clock.now() // STEP_MS)
    codes = await second_factor.confirm(cast.control, account._principal, account.user, code)
    assert (len(codes), await account.has_second_factor()) == (10, True)
    # Where there is a password, nothing less confirms.
    with pytest.raises(Unprocessable, match="is wrong"):
        await account.confirm_by_code(codes[0], Browser("192.0.2.1"))
    await account.remove_second_factor(PASSWORD)
    assert not await account.has_second_factor()
    assert (await door.sign_in()).session.state == "active"


async def test_user_without_a_password_cannot_set_one_with_a_session(cast: Cast, door: Door) -> None:
    invited = await users.create(cast.control, cast.alice.principal, UserFields(ADA, role="viewer"))
    code = await sign_in.one_time_code(cast.control, invited.user.organization, user=invited.user.id)
    opened = await sign_in.redeem(cast.control, code, Browser("192.0.2.1"))
    assert opened is not None
    details = await door.see(opened)
    assert details is not None
    with pytest.raises(Unprocessable, match="identity provider"):
        await Account(cast.control, door.authenticator, details).change_password("", NEW)


async def test_session_of_the_command_line_has_no_account(cast: Cast, door: Door) -> None:
    code = await sign_in.one_time_code(cast.control, cast.alice.principal.organization)
    opened = await sign_in.redeem(cast.control, code, Browser("192.0.2.1"))
    assert opened is not None
    details = await door.see(opened)
    assert details is not None
    with pytest.raises(Forbidden):
        Account(cast.control, door.authenticator, details)
