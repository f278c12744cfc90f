"""Sessions of the portal as rows."""

import msgspec

from discue.domain.portal import PortalGrant, PortalSession, PortalTheme
from discue.store import portal
from discue.store.engine import Transaction
from discue.store.store import Store
from tests.store.rows import public_id, row_id, stored_organization
from tests.support.clocks import NOON


def a_session(number: int, *, expires_at: int = NOON + 60_000) -> PortalSession:
    grant = PortalGrant(("q" * 21,), may=("create",), theme=PortalTheme("#4a41d8", radius=0))
    code = b"code%d" % number
    return PortalSession(row_id(1), row_id(number), public_id(number), "acme", grant, NOON, 0, expires_at, code)


async def test_session_is_opened_by_the_first_of_two_requests(store: Store) -> None:
    await stored_organization(store, 1)
    made = a_session(2)

    async def work(tx: Transaction) -> tuple[bool, bool]:
        await portal.insert(tx, made)
        assert await portal.by_code(tx, b"code2") == made
        first = await portal.open_session(tx, made, b"token", NOON + 5)
        return first, await portal.open_session(tx, made, b"other", NOON + 6)

    assert await store.write(work) == (True, False)
    found = await store.read(lambda tx: portal.find(tx, b"token"))
    assert found is not None
    expected = msgspec.structs.replace(
        made,
        code_hash=None,
        token_hash=b"token",
        opened_at=NOON + 5,
        expires_at=NOON + 5 + made.grant.lifetime_ms,
    )
    assert found.session == expected
    assert found.frame_ancestors == ()
    assert await store.read(lambda tx: portal.find(tx, b"other")) is None
    assert await store.read(lambda tx: portal.by_code(tx, b"code2")) is None


async def test_ended_sessions_are_deleted(store: Store) -> None:
    await stored_organization(store, 1)

    async def work(tx: Transaction) -> int:
        await portal.insert(tx, a_session(2, expires_at=NOON))
        await portal.insert(tx, a_session(3, expires_at=NOON + 1))
        return await portal.delete_ended(tx, NOON)

    assert await store.write(work) == 1
    assert await store.read(lambda tx: portal.get(tx, row_id(1), public_id(2))) is None
    assert await store.read(lambda tx: portal.get(tx, row_id(1), public_id(3))) is not None
