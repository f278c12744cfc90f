"""Sessions and one-time codes are found by a hash, end once, and are deleted in steps."""

from functools import partial

import msgspec

from discue.dashboard.users import session_table
from discue.dashboard.users.session_table import BrowserSession, SignInCode
from discue.store import organizations, users
from discue.store.engine import Transaction
from discue.store.store import Store
from tests.store.rows import an_organization, public_id, row_id
from tests.store.test_users import a_user
from tests.support.clocks import NOON

OURS = row_id(1)


def a_session(number: int, user: int = 0, **fields: object) -> BrowserSession:
    plain = BrowserSession(
        organization=OURS,
        id=row_id(number),
        public_id=public_id(number),
        user_id=user,
        role="" if user else "owner",
        state="active",
        method="password",
        provider="",
        address="192.0.2.1",
        user_agent="a browser",
        created_at=NOON,
        last_seen_at=NOON,
        idle_at=NOON + 1_000,
        expires_at=NOON + 5_000,
        token_hash=number.to_bytes(32),
    )
    return msgspec.structs.replace(plain, **fields)


async def _stored(store: Store, *made: BrowserSession) -> None:
    async def work(tx: Transaction) -> None:
        for session in made:
            await session_table.insert(tx, session)

    await store.write(work)


async def _found(store: Store, session: BrowserSession) -> session_table.FoundSession | None:
    return await store.read(partial(session_table.find, token_hash=session.token_hash))


async def test_session_is_found_with_its_organization_and_user(store: Store) -> None:
    organization, user = an_organization(1), a_user(10)
    own, without = a_session(20, user.id), a_session(21)

    async def work(tx: Transaction) -> None:
        await organizations.insert(tx, organization)
        await users.insert(tx, user)

    await store.write(work)
    await _stored(store, own, without)
    assert await _found(store, own) == session_table.FoundSession(own, organization, user)
    assert await _found(store, without) == session_table.FoundSession(without, organization, None)
    assert await _found(store, a_session(22)) is None
    await store.write(lambda tx: users.delete(tx, OURS, user.id))
    assert await _found(store, own) == session_table.FoundSession(own, organization, None)
    await store.write(lambda tx: organizations.mark_deleted(tx, OURS, NOON))
    assert await _found(store, own) is None


async def test_an_earlier_request_does_not_set_back_the_last_one(store: Store) -> None:
    session = a_session(20)
    await store.write(lambda tx: organizations.insert(tx, an_organization(1)))
    await _stored(store, session)
    for at in (NOON + 50, NOON + 20):
        await store.write(partial(session_table.saw, session=session, at=at, idle_at=at + 7))
    found = await _found(store, session)
    assert found is not None
    assert (found.session.last_seen_at, found.session.idle_at) == (NOON + 50, NOON + 57)


async def test_only_the_newest_sessions_of_a_user_are_kept(store: Store) -> None:
    mine = [a_session(number, row_id(10)) for number in range(20, 25)]
    theirs = a_session(30, row_id(11))
    await _stored(store, *mine, theirs)
    await store.write(partial(session_table.delete_oldest, organization=OURS, user=row_id(10), kept=3))
    assert await _of(store, row_id(10)) == mine[:1:-1]
    assert await _of(store, row_id(11)) == [theirs]
    await store.write(partial(session_table.delete_oldest, organization=OURS, user=row_id(10), kept=3))
    assert len(await _of(store, row_id(10))) == 3


async def test_sessions_of_a_user_end_except_the_chosen_one(store: Store) -> None:
    mine = [a_session(number, row_id(10)) for number in range(20, 23)]
    await _stored(store, *mine, a_session(30, row_id(11)))
    delete = partial(session_table.delete_of_user, organization=OURS, user=row_id(10))
    assert await store.write(partial(delete, but=mine[1].id)) == 2
    assert await _of(store, row_id(10)) == [mine[1]]
    assert await store.write(delete) == 1
    assert len(await _of(store, row_id(11))) == 1


async def test_session_is_deleted_by_its_token_once(store: Store) -> None:
    session = a_session(20)
    await _stored(store, session)
    delete = partial(session_table.delete_by_token, token_hash=session.token_hash)
    assert await store.write(delete) == session
    assert await store.write(delete) is None


async def test_ended_sessions_are_deleted(store: Store) -> None:
    early, late = a_session(20, row_id(10)), a_session(21, row_id(10), idle_at=NOON + 1_001)
    await _stored(store, early, late)
    assert await store.write(partial(session_table.delete_ended, before=NOON + 1_000)) == 1
    assert await _of(store, row_id(10)) == [late]


async def test_code_is_redeemed_once_and_deleted_after_it_expires(store: Store) -> None:
    codes = [SignInCode(OURS, row_id(n), n.to_bytes(32), 0, "owner", NOON + n) for n in (1, 2, 3)]
    for code in codes:
        await store.write(partial(session_table.insert_code, code=code))
    redeem = partial(session_table.redeem_code, code_hash=codes[0].code_hash)
    assert await store.write(redeem) == codes[0]
    assert await store.write(redeem) is None
    assert await store.write(partial(session_table.delete_expired_codes, before=NOON + 2)) == 1
    assert await store.write(partial(session_table.redeem_code, code_hash=codes[2].code_hash)) == codes[2]


async def _of(store: Store, user: int) -> list[BrowserSession]:
    return await store.read(partial(session_table.of_user, organization=OURS, user=user, limit=100))


async def test_new_code_of_a_user_replaces_the_earlier_one(store: Store) -> None:
    def code(number: int, user: int) -> SignInCode:
        return SignInCode(OURS, number, b"%d" % number, user, "", NOON)

    async def work(tx: Transaction) -> list[bool]:
        for number, user in ((1, 7), (2, 8), (3, 7), (4, 0), (5, 0)):
            await session_table.insert_code(tx, code(number, user))
        return [await session_table.has_code(tx, b"%d" % number) for number in range(1, 6)]

    # Codes without a user come from the command line.
    assert await store.write(work) == [False, True, True, True, True]
