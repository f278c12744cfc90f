"""Sessions: who gets one, what it grants, and everything that ends it."""

import asyncio

import pytest

from discue.control import organizations, queues
from discue.control.queues import QueueFields
from discue.crypto import passwords
from discue.crypto.passwords import STRANGERS
from discue.dashboard.users import command_line, sessions, sign_in, users
from discue.dashboard.users.session_table import CODE_MS, IDLE_MS, LIFETIME_MS, SEEN_EVERY_MS, SESSIONS_OF_A_USER
from discue.dashboard.users.sign_in import DEVICE_CHARACTERS, Browser, NewSession, device_cookie
from discue.dashboard.users.users import ROLES, UserFields, scopes_of_role
from discue.domain.errors import Forbidden, Locked, LockedOut, NotFound, Overloaded, TooManyRequests
from discue.domain.lockout import FAILURES, FAILURES_OF, FIRST_LOCK_MS
from discue.domain.model import Role
from discue.store import events
from discue.store.engine import Row, Transaction
from discue.store.tallies import PERIOD_MS
from tests.dashboard.users.signing_in import ADA, PASSWORD, Door, a_user
from tests.support.cast import Cast, control_of

WRONG = "another password"


@pytest.fixture
def door(cast: Cast) -> Door:
    return Door(cast.control)


@pytest.mark.parametrize("role", ROLES)
async def test_session_grants_the_scopes_of_the_role_in_the_users_organization(
    cast: Cast, door: Door, role: Role
) -> None:
    user = await a_user(cast, role=role)
    details = await door.see(await door.sign_in())
    assert details is not None
    assert details.user == user
    principal = sessions.principal_of(details)
    assert principal.organization == details.organization.id == cast.alice.principal.organization
    assert (principal.scopes, principal.is_operator) == (scopes_of_role(role), False)


async def test_wrong_email_password_or_organization_opens_no_session(cast: Cast, door: Door) -> None:
    await a_user(cast)
    assert await door.try_in(password=WRONG) is None
    assert await door.try_in(email="bea@example.com") is None
    assert await door.try_in(organization="com.example.charlie") is None
    assert await door.try_in(organization="com.example.nobody") is None
    assert await door.try_in(email="ADA@Example.com", organization="com.example.alice") is not None


async def test_invited_or_disabled_user_does_not_sign_in(cast: Cast, door: Door) -> None:
    user = await a_user(cast)
    invited = UserFields("bea@example.com", role="viewer")
    await users.create(cast.control, cast.alice.principal, invited)
    await users.change(cast.control, cast.alice.principal, user.public_id, UserFields(status="disabled"))
    assert await door.try_in() is None
    assert await door.try_in(email="bea@example.com") is None
    await users.change(cast.control, cast.alice.principal, user.public_id, UserFields(status="enabled"))
    assert await door.try_in() is not None


@pytest.mark.parametrize(
    "password", ["", "\ud800", "x" * 100_000, PASSWORD + "x" * 2_000], ids=["empty", "surrogate", "long", "cut"]
)
async def test_any_text_is_an_answerable_password(cast: Cast, door: Door, password: str) -> None:
    await a_user(cast)
    assert await door.try_in(password=password) is None


@pytest.mark.parametrize("text", ["a\0@example.com", "\ud800@example.com", "", "@", "x" * 100_000, "%@%"])
async def test_any_text_is_an_answerable_email_and_organization(cast: Cast, door: Door, text: str) -> None:
    await a_user(cast)
    assert await door.try_in(email=text) is None
    assert await door.try_in(organization=text or "?") is None


async def test_email_of_several_organizations_needs_the_organization_unless_one_is_the_operators(
    cast: Cast, door: Door
) -> None:
    await a_user(cast)
    await a_user(cast, owner=cast.charlie.principal)
    assert await door.try_in() is None
    theirs = await door.principal(await door.sign_in(organization="com.example.charlie"))
    assert theirs.organization == cast.charlie.principal.organization
    await a_user(cast, owner=cast.olga.principal)
    operators = await door.principal(await door.sign_in())
    assert operators.organization == cast.olga.principal.organization
    assert operators.is_operator


async def test_suspended_organization_opens_and_uses_no_session(cast: Cast, door: Door) -> None:
    await a_user(cast)
    opened = await door.sign_in()
    await organizations.set_state(cast.control, "com.example.alice", "suspended")
    with pytest.raises(Locked):
        await door.see(opened)
    with pytest.raises(Locked):
        await door.try_in()
    assert await door.try_in(password=WRONG) is None
    await organizations.set_state(cast.control, "com.example.alice", "active")
    assert await door.see(opened) is not None


async def test_sessions_of_a_deleted_organization_end(cast: Cast, door: Door) -> None:
    await a_user(cast)
    opened = await door.sign_in()
    await organizations.delete(cast.control, cast.olga.principal, cast.alice.principal.organization_public_id)
    assert await door.see(opened) is None
    assert await door.try_in() is None


async def test_unused_session_ends_after_half_a_day_and_a_used_one_after_a_month(cast: Cast, door: Door) -> None:
    await a_user(cast)
    used, unused = await door.sign_in(), await door.sign_in()
    cast.clock.advance(IDLE_MS - 1)
    assert await door.see(used) is not None
    # A page that is only open asks by itself: that is not use.
    assert await sessions.session_of(cast.control, unused.token, is_use=False) is not None
    cast.clock.advance(1)
    assert await door.see(used) is not None
    assert await door.see(unused) is None
    left = LIFETIME_MS - IDLE_MS
    while left > 1:
        step = min(left - 1, IDLE_MS - SEEN_EVERY_MS)
        cast.clock.advance(step)
        assert await door.see(used) is not None
        left -= step
    cast.clock.advance(1)
    assert await door.see(used) is None


async def test_last_use_is_stored_at_most_once_a_minute(cast: Cast, door: Door) -> None:
    await a_user(cast)
    opened = await door.sign_in()
    for milliseconds, seen in ((SEEN_EVERY_MS - 1, 0), (1, SEEN_EVERY_MS)):
        cast.clock.advance(milliseconds)
        assert await door.see(opened) is not None
        details = await door.see(opened)
        assert details is not None
        assert details.session.last_seen_at == opened.session.created_at + seen


@pytest.mark.parametrize("token", ["", "x", "x" * 43, "x" * 100_000, "\ud800", "é"])
async def test_token_that_nobody_has_opens_nothing(cast: Cast, door: Door, token: str) -> None:
    await a_user(cast)
    await door.sign_in()
    assert await sessions.session_of(cast.control, token) is None
    await sessions.sign_out(cast.control, token)


async def test_token_is_stored_as_a_hash_and_has_256_bits(cast: Cast, door: Door) -> None:
    await a_user(cast)
    opened = await door.sign_in()
    assert len(opened.token) * 5.95 >= 255
    assert opened.token not in repr(opened)
    rows = await cast.control.store.read(lambda tx: tx.rows("SELECT * FROM session"))
    assert opened.token.encode() not in b"".join(str(row).encode() for row in rows)


async def test_sign_in_ends_the_session_that_the_browser_brings(cast: Cast, door: Door) -> None:
    await a_user(cast)
    planted = await door.sign_in()
    opened = await door.sign_in(token=planted.token)
    assert opened.token != planted.token
    assert await door.see(planted) is None
    assert await door.see(opened) is not None


async def test_failed_sign_in_keeps_the_session_that_the_browser_brings(cast: Cast, door: Door) -> None:
    await a_user(cast)
    opened = await door.sign_in()
    assert await door.try_in(password=WRONG, token=opened.token) is None
    assert await door.see(opened) is not None


async def test_sign_out_ends_one_session(cast: Cast, door: Door) -> None:
    await a_user(cast)
    one, other = await door.sign_in(), await door.sign_in()
    await sessions.sign_out(cast.control, one.token)
    assert await door.see(one) is None
    assert await door.see(other) is not None


@pytest.mark.parametrize("fields", [UserFields(password=WRONG), UserFields(status="disabled")])
async def test_new_password_or_disabling_ends_all_sessions_on_every_worker(
    cast: Cast, door: Door, fields: UserFields
) -> None:
    user, elsewhere = await a_user(cast), Door(control_of(cast.control.store, cast.clock))
    opened = [await door.sign_in(), await elsewhere.sign_in()]
    assert await elsewhere.see(opened[0]) is not None
    await users.change(cast.control, cast.alice.principal, user.public_id, fields)
    await users.change(cast.control, cast.alice.principal, user.public_id, UserFields(status="enabled"))
    assert [await elsewhere.see(each) for each in opened] == [None, None]


async def test_new_role_applies_to_the_next_request_on_every_worker(cast: Cast, door: Door) -> None:
    user, elsewhere = await a_user(cast, role="admin"), Door(control_of(cast.control.store, cast.clock))
    opened = await door.sign_in()
    assert (await elsewhere.principal(opened)).may("users", "write")
    await users.change(cast.control, cast.alice.principal, user.public_id, UserFields(role="viewer"))
    assert not (await elsewhere.principal(opened)).may("users", "read")
    await users.delete(cast.control, cast.alice.principal, user.public_id)
    assert await elsewhere.see(opened) is None


async def test_reset_ends_sessions_and_a_disabled_user_cannot_accept_it(cast: Cast, door: Door) -> None:
    user = await a_user(cast)
    opened = await door.sign_in()
    reset = await users.change(cast.control, cast.alice.principal, user.public_id, UserFields(invite=True))
    assert reset.invitation is not None
    await users.change(cast.control, cast.alice.principal, user.public_id, UserFields(status="disabled"))
    assert await users.accept(cast.control, reset.invitation.token, WRONG) is None
    await users.change(cast.control, cast.alice.principal, user.public_id, UserFields(status="enabled"))
    assert await users.accept(cast.control, reset.invitation.token, WRONG) is not None
    assert await door.see(opened) is None
    assert await door.try_in() is None
    assert await door.try_in(password=WRONG) is not None


async def test_password_that_changes_during_the_check_opens_no_session(
    cast: Cast, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await a_user(cast)
    matches = cast.control.passwords.matches

    async def matches_then_change(password: str, password_hash: str | None, *, line: int) -> bool:
        is_right = await matches(password, password_hash, line=line)
        await users.change(cast.control, cast.alice.principal, user.public_id, UserFields(password=WRONG))
        return is_right

    monkeypatch.setattr(cast.control.passwords, "matches", matches_then_change)
    assert await door.try_in() is None


async def test_user_has_a_bounded_number_of_sessions(cast: Cast, door: Door) -> None:
    await a_user(cast)
    opened = [await door.sign_in() for _ in range(SESSIONS_OF_A_USER + 1)]
    assert await door.see(opened[0]) is None
    assert await door.see(opened[1]) is not None


async def test_user_lists_and_revokes_own_sessions_without_a_scope(cast: Cast, door: Door) -> None:
    await a_user(cast, role="viewer")
    one, other = await door.sign_in(), await door.sign_in()
    viewer = await door.principal(other)
    assert await sessions.sessions_of(cast.control, viewer) == [other.session, one.session]
    await sessions.revoke(cast.control, viewer, one.session.public_id)
    assert await door.see(one) is None
    more = await door.sign_in()
    assert await sessions.revoke_all(cast.control, viewer, but=other.session.id) == 1
    assert [await door.see(each) is None for each in (more, other)] == [True, False]


async def test_sessions_of_others_are_reached_by_admins_of_the_organization_alone(cast: Cast, door: Door) -> None:
    ada, mine = await a_user(cast), await door.sign_in()
    await a_user(cast, "owner@example.com", "owner")
    await a_user(cast, "admin@example.com", "admin")
    await a_user(cast, "viewer@example.com", "viewer")
    await a_user(cast, "stranger@example.com", "owner", cast.charlie.principal)
    owners, by_email = await door.sign_in("owner@example.com"), {}
    for name in ("owner", "admin", "viewer", "stranger"):
        by_email[name] = await door.principal(await door.sign_in(f"{name}@example.com"))
    for name, error in (("viewer", Forbidden), ("stranger", NotFound)):
        for attempt in (
            sessions.sessions_of(cast.control, by_email[name], ada.public_id),
            sessions.revoke_all(cast.control, by_email[name], ada.public_id),
            sessions.revoke(cast.control, by_email[name], mine.session.public_id),
        ):
            with pytest.raises(error):
                await attempt
    with pytest.raises(Forbidden):
        await sessions.revoke(cast.control, by_email["admin"], owners.session.public_id)
    assert await sessions.sessions_of(cast.control, by_email["admin"], ada.public_id) == [mine.session]
    await sessions.revoke(cast.control, by_email["admin"], mine.session.public_id)
    assert await door.see(mine) is None
    again = await door.sign_in()
    assert await sessions.revoke_all(cast.control, cast.alice.principal, ada.public_id) == 1
    assert await door.see(again) is None


async def test_admin_neither_makes_nor_touches_an_owner(cast: Cast, door: Door) -> None:
    owner = await a_user(cast, "owner@example.com", "owner")
    own = await a_user(cast, role="admin")
    admin = await door.principal(await door.sign_in())
    for attempt in (
        users.create(cast.control, admin, UserFields("bea@example.com", role="owner", password=PASSWORD)),
        users.change(cast.control, admin, own.public_id, UserFields(role="owner")),
        users.change(cast.control, admin, owner.public_id, UserFields(password=WRONG)),
        users.change(cast.control, admin, owner.public_id, UserFields(invite=True)),
        users.change(cast.control, admin, owner.public_id, UserFields(role="viewer")),
        users.delete(cast.control, admin, owner.public_id),
    ):
        with pytest.raises(Forbidden):
            await attempt
    made = await users.create(cast.control, admin, UserFields("bea@example.com", role="admin"))
    assert made.user.role == "admin"


async def test_last_active_owner_cannot_be_disabled(cast: Cast) -> None:
    owner = await a_user(cast, role="owner")
    with pytest.raises(Exception, match="last active owner"):
        await users.change(cast.control, cast.alice.principal, owner.public_id, UserFields(status="disabled"))


async def _redeem(door: Door, code: str) -> NewSession | None:
    return await sign_in.redeem(door.control, code, Browser("192.0.2.1"))


async def test_one_time_code_opens_one_session(cast: Cast, door: Door) -> None:
    user = await a_user(cast)
    code = await sign_in.one_time_code(cast.control, user.organization, user=user.id)
    opened = [each for each in await asyncio.gather(_redeem(door, code), _redeem(door, code)) if each is not None]
    assert len(opened) == 1
    details = await door.see(opened[0])
    assert details is not None
    assert (details.user, details.session.method) == (user, "one_time_code")


async def test_one_time_code_expires_and_ends_with_its_user(cast: Cast, door: Door) -> None:
    user = await a_user(cast)
    code = await sign_in.one_time_code(cast.control, user.organization, user=user.id)
    cast.clock.advance(CODE_MS)
    assert await _redeem(door, code) is None
    code = await sign_in.one_time_code(cast.control, user.organization, user=user.id)
    await users.change(cast.control, cast.alice.principal, user.public_id, UserFields(status="disabled"))
    assert await _redeem(door, code) is None


async def test_code_without_a_user_opens_a_session_with_its_role(cast: Cast, door: Door) -> None:
    code = await sign_in.one_time_code(cast.control, cast.alice.principal.organization, role="developer")
    opened = await _redeem(door, code)
    assert opened is not None
    details = await door.see(opened)
    assert details is not None
    principal = sessions.principal_of(details)
    assert (details.user, details.role, principal.key_public_id) == (None, "developer", "")
    assert await sessions.sessions_of(cast.control, principal) == [opened.session]
    await sessions.revoke(cast.control, principal, opened.session.public_id)
    assert await door.see(opened) is None


async def test_wrong_codes_lock_nobody_out(cast: Cast, door: Door) -> None:
    await a_user(cast)
    code = await sign_in.one_time_code(cast.control, cast.alice.principal.organization)
    for number in range(FAILURES_OF["sign_in"]):
        assert await _redeem(door, f"{number}") is None
    assert await _redeem(door, code) is not None
    assert await door.try_in() is not None


@pytest.mark.parametrize("email", [ADA, "nobody@example.com"])
async def test_wrong_passwords_from_many_addresses_lock_out_the_email_known_or_not(
    cast: Cast, door: Door, email: str
) -> None:
    await a_user(cast)
    await a_user(cast, "bea@example.com")
    for number in range(FAILURES):
        assert await door.try_in(email.upper(), WRONG, address=f"192.0.2.{number}") is None
    with pytest.raises(LockedOut):
        await door.try_in(email, address="198.51.100.1")
    assert await door.try_in("bea@example.com", address="192.0.2.0") is not None
    cast.clock.advance(FIRST_LOCK_MS)
    assert (await door.try_in(email) is None) == (email != ADA)


async def test_wrong_passwords_count_by_the_48_of_ipv6(cast: Cast, door: Door) -> None:
    await a_user(cast)
    for number in range(FAILURES_OF["sign_in"]):
        assert await door.try_in(f"u{number}@example.com", WRONG, address=f"2001:db8:1:{number:x}::1") is None
    with pytest.raises(LockedOut):
        await door.try_in(address="2001:db8:1:ffff::1")
    assert await door.try_in(address="2001:db8:2::1") is not None


async def _lock_out(door: Door, email: str = ADA) -> None:
    """Lock out an email from otherwise unused addresses."""
    for number in range(FAILURES):
        assert await door.try_in(email, WRONG, address=f"203.0.113.{number}") is None
    with pytest.raises(LockedOut):
        await door.try_in(email, address="198.51.100.1")


async def test_strangers_do_not_lock_out_a_browser_in_which_the_user_has_signed_in(cast: Cast, door: Door) -> None:
    await a_user(cast)
    known = (await door.sign_in()).device
    await _lock_out(door)
    for number in range(FAILURES_OF["sign_in"]):
        assert await door.try_in(f"u{number}@example.com", WRONG) is None
    with pytest.raises(LockedOut):
        await door.try_in("bea@example.com")
    opened = await door.sign_in(device=known)
    assert await door.see(opened) is not None
    assert await door.see(await door.sign_in("ADA@Example.com", device=known)) is not None
    # It is not a password.
    assert await door.try_in(password=WRONG, device=known) is None


async def test_wrong_passwords_lock_out_the_browser_that_sends_them_and_no_other(cast: Cast, door: Door) -> None:
    user = await a_user(cast)
    devices = [(await door.sign_in()).device for _ in range(2)]
    before = len(await _events(cast, user.organization))
    for number in range(FAILURES):
        assert await door.try_in(password=WRONG, address=f"192.0.2.{number}", device=devices[0]) is None
    with pytest.raises(LockedOut, match="Try again in 60 seconds"):
        await door.try_in(device=devices[0])
    assert (await _events(cast, user.organization))[before:] == [("lockout", user.public_id, ADA, "", "")]
    assert await door.try_in() is not None
    assert await door.try_in(device=devices[1]) is not None
    await command_line.unlock_user(cast.control, ADA)
    assert await door.try_in(device=devices[0]) is not None


async def test_browser_is_known_for_one_user_with_one_password(cast: Cast, door: Door) -> None:
    user, _ = await a_user(cast), await a_user(cast, "bea@example.com")
    device = (await door.sign_in()).device
    for email in (ADA, "bea@example.com"):
        await _lock_out(door, email)
    with pytest.raises(LockedOut):
        await door.try_in("bea@example.com", device=device)
    await users.change(cast.control, cast.alice.principal, user.public_id, UserFields(password=WRONG))
    with pytest.raises(LockedOut):
        await door.try_in(password=WRONG, device=device)


async def test_disabled_or_deleted_user_has_no_known_browser(cast: Cast, door: Door) -> None:
    user = await a_user(cast)
    device = (await door.sign_in()).device
    await _lock_out(door)
    await users.change(cast.control, cast.alice.principal, user.public_id, UserFields(status="disabled"))
    with pytest.raises(LockedOut):
        await door.try_in(device=device)
    await users.delete(cast.control, cast.alice.principal, user.public_id)
    with pytest.raises(LockedOut):
        await door.try_in(device=device)


@pytest.mark.parametrize("email", [ADA, "nobody@example.com"])
async def test_forged_device_counts_as_a_stranger_for_an_email_known_or_not(
    cast: Cast, door: Door, email: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_user(cast)
    lines: list[int] = []
    matches = cast.control.passwords.matches

    async def counted(password: str, password_hash: str | None, *, line: int) -> bool:
        lines.append(line)
        return await matches(password, password_hash, line=line)

    monkeypatch.setattr(cast.control.passwords, "matches", counted)
    forged = device_cookie("d" * DEVICE_CHARACTERS, "")
    for number in range(FAILURES):
        assert await door.try_in(email, WRONG, address=f"192.0.2.{number}", device=forged) is None
    with pytest.raises(LockedOut):
        await door.try_in(email, device=forged)
    assert set(lines) == {STRANGERS}


async def test_sign_in_with_a_full_line_reads_nothing(cast: Cast, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    await a_user(cast)
    read: list[str] = []

    async def candidate(tx: Transaction, email: str, alias: str) -> None:
        del tx, alias
        read.append(email)

    monkeypatch.setattr(sign_in, "_candidate", candidate)
    assert await door.try_in() is None
    monkeypatch.setattr(passwords, "_MOST_WAITING", 0)
    with pytest.raises(Overloaded):
        await door.try_in()
    assert read == [ADA]


async def test_hash_of_a_known_browser_waits_in_the_line_of_its_organization(
    cast: Cast, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await a_user(cast)
    device = (await door.sign_in()).device
    lines: list[int] = []
    matches = cast.control.passwords.matches

    async def counted(password: str, password_hash: str | None, *, line: int) -> bool:
        lines.append(line)
        return await matches(password, password_hash, line=line)

    monkeypatch.setattr(cast.control.passwords, "matches", counted)
    assert await door.try_in(device=device) is not None
    assert lines == [user.organization]


async def test_one_address_that_tries_many_emails_is_locked_out_and_api_keys_are_not(cast: Cast, door: Door) -> None:
    await a_user(cast)
    for number in range(25):
        assert await door.try_in(f"u{number}@example.com", WRONG) is None
    with pytest.raises(LockedOut):
        await door.try_in()
    assert await door.authenticator.check(cast.alice.key, "192.0.2.1") is not None
    assert await door.try_in(address="192.0.2.2") is not None


async def test_lockout_of_a_user_reaches_every_worker(cast: Cast, door: Door) -> None:
    await a_user(cast)
    elsewhere = Door(control_of(cast.control.store, cast.clock))
    elsewhere.control.row_ids.slot = 2
    await elsewhere.control.cache.open()
    for number in range(FAILURES):
        await (door, elsewhere)[number % 2].try_in(password=WRONG, address=f"192.0.2.{number}")
    for each in (door, elsewhere):
        await each.control.cache.catch_up()
        with pytest.raises(LockedOut):
            await each.try_in(address="198.51.100.1")


async def test_sign_in_that_could_not_be_recorded_is_refused_to_its_user_alone(
    cast: Cast, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MOST_A_PERIOD", 0)
    monkeypatch.setattr(events, "MOST_BEYOND", 2)
    await a_user(cast)
    await a_user(cast, "bea@example.com")
    opened = [await door.sign_in(address=f"192.0.2.{number}") for number in range(2)]
    for number in range(2 * FAILURES):
        with pytest.raises(TooManyRequests):
            await door.try_in(address=f"192.0.2.{number}")
    assert all([await door.see(each) for each in opened])
    await door.sign_in("bea@example.com")
    cast.clock.advance(PERIOD_MS)
    # The password was right each time: nothing is locked.
    await door.sign_in()


async def _events(cast: Cast, organization: int) -> list[Row]:
    sql = "SELECT kind, ref, name, client, user_id FROM event WHERE organization = $1 ORDER BY id"
    return [tuple(row) for row in await cast.control.store.read(lambda tx: tx.rows(sql, organization))]


async def test_events_name_the_user_and_what_happened_to_sessions(cast: Cast, door: Door) -> None:
    user, organization = await a_user(cast), cast.alice.principal.organization
    before = len(await _events(cast, organization))
    opened = await door.sign_in()
    queue = await queues.create(cast.control, await door.principal(opened), QueueFields("orders"))
    await sessions.sign_out(cast.control, opened.token)
    for number in range(FAILURES):
        await door.try_in(password=WRONG, address=f"192.0.2.{number}")
    assert (await _events(cast, organization))[before:] == [
        ("session_added", opened.session.public_id, ADA, "", user.public_id),
        ("queue_added", queue.queue.public_id, "orders", "", user.public_id),
        ("session_deleted", opened.session.public_id, ADA, "", user.public_id),
        ("lockout", user.public_id, ADA, "", ""),
    ]


async def test_unknown_user_costs_as_many_statements_and_hashes_as_a_known_one(
    cast: Cast, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await a_user(cast)
    checked: list[tuple[str, str | None, int]] = []
    matches = cast.control.passwords.matches

    async def counted(password: str, password_hash: str | None, *, line: int) -> bool:
        checked.append((password, password_hash, line))
        return await matches(password, password_hash, line=line)

    monkeypatch.setattr(cast.control.passwords, "matches", counted)
    assert await door.try_in(password=WRONG) is None
    assert await door.try_in("nobody@example.com", WRONG, address="192.0.2.2") is None
    assert checked == [(WRONG, user.password_hash, STRANGERS), (WRONG, None, STRANGERS)]
