"""The second factor: without its code a password opens nothing, and each code works once."""

import asyncio
import dataclasses
from base64 import b32decode

import pytest

from discue.control import encryption
from discue.crypto.keyring import key_id_of
from discue.dashboard.users import command_line, second_factor, sessions, sign_in, users
from discue.dashboard.users.second_factor import STEP_MS
from discue.dashboard.users.session_table import UNFINISHED_MS
from discue.dashboard.users.sign_in import Browser, NewSession
from discue.dashboard.users.users import UserFields
from discue.domain.errors import Forbidden, LockedOut, NotFound, Unprocessable
from discue.domain.lockout import FAILURES, FIRST_REFUSAL_MS, WINDOW_MS, WRONG_CODES, Lockout, LockoutSubject
from discue.domain.model import User
from discue.domain.scopes import Principal
from tests.control.test_encryption import with_keys
from tests.dashboard.users.signing_in import ADA, PASSWORD, Door, a_user
from tests.support.cast import Cast

KEY, OTHER_KEY = b"k" * 32, b"o" * 32


class App:
    """An authenticator app, and the recovery codes that its user keeps."""

    def __init__(self, cast: Cast, secret: str) -> None:
        self._clock = cast.clock
        self._secret = b32decode(secret)
        self.recovery: tuple[str, ...] = ()

    def code(self, steps_later: int = 0) -> str:
        return second_factor.code_at(self._secret, self._clock.now() // STEP_MS + steps_later)


@pytest.fixture
def door(cast: Cast) -> Door:
    return Door(cast.control)


async def _enrolled(cast: Cast, door: Door, user: User) -> App:
    """Set up the second factor of a user who has none yet."""
    principal = await door.principal(await door.sign_in(user.email))
    app = App(cast, (await second_factor.begin(cast.control, user)).secret)
    app.recovery = await second_factor.confirm(cast.control, principal, user, app.code())
    cast.clock.advance(STEP_MS)
    return app


async def _enter(door: Door, opened: NewSession, code: str) -> NewSession | None:
    return await sign_in.enter_code(door.control, door.authenticator, code, Browser("192.0.2.1", token=opened.token))


async def test_password_alone_opens_an_unfinished_session_that_grants_nothing(cast: Cast, door: Door) -> None:
    user = await a_user(cast)
    app = await _enrolled(cast, door, user)
    half = await door.sign_in()
    assert half.session.state == "unfinished"
    assert await door.see(half) is None
    opened = await _enter(door, half, app.code())
    assert opened is not None
    assert opened.token != half.token
    assert await door.see(opened) is not None
    assert [await door.see(half), await sign_in.unfinished_of(cast.control, half.token)] == [None, None]


@pytest.mark.parametrize("first", [0, 1, 255])
async def test_secret_may_begin_with_any_byte(cast: Cast, first: int) -> None:
    user = await a_user(cast)
    control = dataclasses.replace(cast.control, random_bytes=lambda count: bytes([first]) * count)
    door = Door(control)
    principal = await door.principal(await door.sign_in(user.email))
    app = App(cast, (await second_factor.begin(control, user)).secret)
    assert len(await second_factor.confirm(control, principal, user, app.code())) > 0


async def test_factor_that_was_never_confirmed_is_not_asked_for(cast: Cast, door: Door) -> None:
    user = await a_user(cast)
    app = App(cast, (await second_factor.begin(cast.control, user)).secret)
    opened = await door.sign_in()
    assert opened.session.state == "active"
    principal = await door.principal(opened)
    with pytest.raises(Unprocessable):
        await second_factor.confirm(cast.control, principal, user, app.code(steps_later=9))
    assert (await door.sign_in()).session.state == "active"


async def test_code_is_accepted_once_also_by_simultaneous_requests(cast: Cast, door: Door) -> None:
    user = await a_user(cast)
    app = await _enrolled(cast, door, user)
    first, second = await door.sign_in(), await door.sign_in()
    code = app.code()
    entered = await asyncio.gather(_enter(door, first, code), _enter(door, second, code))
    assert [each is None for each in entered].count(True) == 1
    assert await _enter(door, await door.sign_in(), code) is None
    cast.clock.advance(STEP_MS)
    assert await _enter(door, await door.sign_in(), app.code()) is not None


async def test_code_that_confirmed_the_factor_does_not_sign_in(cast: Cast, door: Door) -> None:
    user = await a_user(cast)
    app = await _enrolled(cast, door, user)
    assert await _enter(door, await door.sign_in(), app.code(steps_later=-1)) is None


async def test_recovery_code_signs_in_once(cast: Cast, door: Door) -> None:
    user = await a_user(cast)
    app = await _enrolled(cast, door, user)
    assert await _enter(door, await door.sign_in(), app.recovery[4]) is not None
    assert await _enter(door, await door.sign_in(), app.recovery[4]) is None
    assert await _enter(door, await door.sign_in(), app.recovery[5].upper()) is not None


async def test_guessed_codes_lock_out_the_user(cast: Cast, door: Door) -> None:
    user = await a_user(cast)
    app = await _enrolled(cast, door, user)
    half = await door.sign_in()
    for _ in range(FAILURES):
        assert await _enter(door, half, "000000") is None
    with pytest.raises(LockedOut):
        await _enter(door, half, app.code())
    with pytest.raises(LockedOut):
        await door.try_in(address="198.51.100.1")


async def test_browser_is_known_once_the_code_is_right_and_strangers_do_not_lock_it_out(cast: Cast, door: Door) -> None:
    app = await _enrolled(cast, door, await a_user(cast))
    half = await door.sign_in()
    opened = await _enter(door, half, app.recovery[0])
    assert opened is not None
    assert [bool(each.device) for each in (half, opened)] == [False, True]
    half = await door.sign_in(device=opened.device)
    for number in range(FAILURES):
        assert await door.try_in(password="another password", address=f"198.51.100.{number}") is None
    browser = Browser("192.0.2.1", token=half.token)
    with pytest.raises(LockedOut):
        await sign_in.enter_code(cast.control, door.authenticator, app.recovery[1], browser)
    browser = Browser("192.0.2.1", token=half.token, device=opened.device)
    assert await sign_in.enter_code(cast.control, door.authenticator, app.recovery[1], browser) is not None


async def _guess(cast: Cast, door: Door, times: int) -> NewSession:
    """Enter wrong codes, too slowly for a lockout of the email. Returns the last unfinished session."""
    half = await door.sign_in()
    for _ in range(times):
        cast.clock.advance(WINDOW_MS)
        half = await door.sign_in()
        assert await _enter(door, half, "000000") is None
    return half


async def test_slowly_guessed_codes_refuse_all_codes_for_longer_each_time(cast: Cast, door: Door) -> None:
    user = await a_user(cast)
    app = await _enrolled(cast, door, user)
    active = await _enter(door, await door.sign_in(), app.code())
    assert active is not None
    for refusal_ms in (FIRST_REFUSAL_MS, 2 * FIRST_REFUSAL_MS):
        half = await _guess(cast, door, WRONG_CODES)
        with pytest.raises(NotFound):
            await _enter(door, half, app.code())
        cast.clock.advance(refusal_ms - 1)
        for code in (app.code(), app.recovery[0]):
            with pytest.raises(LockedOut, match="again in 1 seconds"):
                await _enter(door, await door.sign_in(), code)
        cast.clock.advance(1)
    assert await _enter(door, await door.sign_in(), app.recovery[0]) is not None
    assert await door.see(active) is not None
    found = await cast.control.store.read(lambda tx: tx.rows("SELECT ref, name FROM event WHERE kind = 'lockout'"))
    assert [tuple(row) for row in found] == [(user.public_id, user.email)] * 2


async def test_right_code_ends_the_count_of_wrong_ones(cast: Cast, door: Door) -> None:
    app = await _enrolled(cast, door, await a_user(cast))
    for recovery in app.recovery[:2]:
        await _guess(cast, door, WRONG_CODES - 1)
        cast.clock.advance(WINDOW_MS)
        assert await _enter(door, await door.sign_in(), recovery) is not None
    await _guess(cast, door, WRONG_CODES - 1)
    cast.clock.advance(STEP_MS)
    assert await _enter(door, await door.sign_in(), app.code()) is not None
    await _guess(cast, door, WRONG_CODES - 1)
    assert await _enter(door, await door.sign_in(), app.code()) is not None


@pytest.mark.parametrize("every", [False, True], ids=["one user", "all"])
async def test_unlocked_user_can_enter_a_code_at_once(cast: Cast, door: Door, *, every: bool) -> None:
    control, subject = cast.control, LockoutSubject.user(ADA)
    app = await _enrolled(cast, door, await a_user(cast))
    await _guess(cast, door, WRONG_CODES)
    refusal = [Lockout(subject, cast.clock.now() + FIRST_REFUSAL_MS)]
    assert await command_line.active_lockouts(control, 10) == refusal
    assert await (command_line.unlock_all(control) if every else command_line.unlock_user(control, ADA)) == refusal
    assert await command_line.active_lockouts(control, 10) == []
    assert await _enter(door, await door.sign_in(), app.code()) is not None


async def test_unfinished_session_ends_soon_and_with_a_new_password(cast: Cast, door: Door) -> None:
    user = await a_user(cast)
    app = await _enrolled(cast, door, user)
    late, overtaken = await door.sign_in(), await door.sign_in()
    fields = UserFields(password="another password")
    await users.change(cast.control, cast.alice.principal, user.public_id, fields)
    with pytest.raises(NotFound):
        await _enter(door, overtaken, app.code())
    late = await door.sign_in(password="another password")
    cast.clock.advance(UNFINISHED_MS)
    with pytest.raises(NotFound):
        await _enter(door, late, app.code())
    with pytest.raises(NotFound):
        await _enter(door, NewSession("", late.session), app.code())


async def test_end_of_an_unfinished_session_is_not_recorded(cast: Cast, door: Door) -> None:
    user = await a_user(cast)
    await _enrolled(cast, door, user)
    owner, organization = cast.alice.principal, cast.alice.principal.organization
    # The session in which the app was added.
    assert await sessions.revoke_all(cast.control, owner, user.public_id) == 1
    half = await door.sign_in()
    await sessions.revoke(cast.control, owner, half.session.public_id)
    await door.sign_in()
    assert await sessions.revoke_all(cast.control, owner, user.public_id) == 0
    assert await sessions.sessions_of(cast.control, owner, user.public_id) == []
    sql = "SELECT ref FROM event WHERE organization = $1 AND kind = 'session_deleted'"
    assert await cast.control.store.read(lambda tx: tx.rows(sql, organization)) == [(user.public_id,)]


async def test_finished_session_is_no_unfinished_one(cast: Cast, door: Door) -> None:
    await a_user(cast)
    with pytest.raises(NotFound):
        await _enter(door, await door.sign_in(), "000000")


async def test_reset_password_still_needs_the_second_factor(cast: Cast, door: Door) -> None:
    user = await a_user(cast)
    await _enrolled(cast, door, user)
    reset = await users.change(cast.control, cast.alice.principal, user.public_id, UserFields(invite=True))
    assert reset.invitation is not None
    await users.accept(cast.control, reset.invitation.token, PASSWORD)
    assert (await door.sign_in()).session.state == "unfinished"


async def test_second_factor_cannot_be_replaced_while_there_is_one(cast: Cast, door: Door) -> None:
    user = await a_user(cast)
    await _enrolled(cast, door, user)
    with pytest.raises(Unprocessable, match="Remove it"):
        await second_factor.begin(cast.control, user)


async def test_second_factor_is_removed_by_its_user_or_an_admin_alone(cast: Cast, door: Door) -> None:
    user = await a_user(cast)
    app = await _enrolled(cast, door, user)
    for email, role in (("viewer@example.com", "viewer"), ("admin@example.com", "admin")):
        await a_user(cast, email, role)
    with pytest.raises(Forbidden):
        await _remove(cast, await _principal(door, "viewer@example.com"), user)
    with pytest.raises(NotFound):
        await _remove(cast, cast.charlie.principal, user)
    assert (await door.sign_in()).session.state == "unfinished"
    await _remove(cast, await _principal(door, "admin@example.com"), user)
    opened = await door.sign_in()
    assert opened.session.state == "active"
    app = await _enrolled(cast, door, user)
    half = await door.sign_in()
    opened_again = await _enter(door, half, app.code())
    assert opened_again is not None
    await _remove(cast, await door.principal(opened_again), user)
    assert (await door.sign_in()).session.state == "active"


async def test_secret_is_encrypted_moved_to_another_key_and_lost_with_it(cast: Cast) -> None:
    user, control = await a_user(cast), with_keys(cast.control, KEY)
    await encryption.begin(control, key_id_of(KEY))
    door = Door(control)
    enrolled = await second_factor.begin(control, user)
    app = App(cast, enrolled.secret)
    await second_factor.confirm(control, await door.principal(await door.sign_in()), user, app.code())
    rows = await control.store.read(lambda tx: tx.rows("SELECT secrets FROM second_factor"))
    assert b32decode(enrolled.secret) not in rows[0][0]

    both, other = with_keys(control, OTHER_KEY, KEY), with_keys(control, OTHER_KEY)
    await encryption.begin(both, key_id_of(OTHER_KEY))
    assert (await encryption.step(both, key_id_of(OTHER_KEY), None)).moved == 1
    cast.clock.advance(STEP_MS)
    assert await second_factor.check(other, user, app.code())

    done = await encryption.step(with_keys(control, KEY), key_id_of(KEY), None, replace_lost=True)
    assert done.unreadable == ((user.organization, user.id),)
    assert (await Door(control).sign_in()).session.state == "active"


async def test_deleted_user_leaves_no_second_factor(cast: Cast, door: Door) -> None:
    user = await a_user(cast)
    await _enrolled(cast, door, user)
    await users.delete(cast.control, cast.alice.principal, user.public_id)
    assert await cast.control.store.read(lambda tx: tx.rows("SELECT 1 FROM second_factor")) == []
    assert await sessions.session_of(cast.control, "") is None


async def _principal(door: Door, email: str = ADA) -> Principal:
    return await door.principal(await door.sign_in(email))


async def _remove(cast: Cast, principal: Principal, user: User) -> None:
    await second_factor.remove(cast.control, principal, user.public_id)
