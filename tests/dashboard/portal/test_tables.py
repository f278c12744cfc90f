"""Sessions of the portal as rows."""

from functools import partial

import msgspec
import pytest

from discue.dashboard.portal import tables
from discue.dashboard.portal.rules import PortalGrant, PortalSession, PortalTheme
from discue.store.engine import Transaction
from discue.store.pagination import FIRST_PAGE
from discue.store.store import Store
from tests.store.rows import public_id, row_id, stored_organization
from tests.support.clocks import NOON

THEME = PortalTheme("#4a41d8", radius=0)


def a_session(number: int, *, expires_at: int = NOON + 60_000, customer: str = "acme", theme: int = 0) -> PortalSession:
    grant = PortalGrant(("q" * 21,), may=("create",))
    code = b"code%d" % number
    return PortalSession(
        row_id(1), row_id(number), public_id(number), customer, grant, NOON, 0, expires_at, code, theme=theme
    )


async def test_session_is_opened_by_the_first_of_two_requests(store: Store) -> None:
    await stored_organization(store, 1)
    made = a_session(2)

    async def work(tx: Transaction) -> tuple[bool, bool]:
        await tables.insert(tx, made)
        assert await tables.by_code(tx, b"code2") == made
        first = await tables.open_session(tx, made, b"token", NOON + 5)
        return first, await tables.open_session(tx, made, b"other", NOON + 6)

    assert await store.write(work) == (True, False)
    found = await store.read(lambda tx: tables.find(tx, b"token"))
    assert found is not None
    expected = msgspec.structs.replace(
        made,
        code_hash=None,
        token_hash=b"token",
        opened_at=NOON + 5,
        expires_at=NOON + 5 + made.grant.lifetime_ms,
    )
    assert found.session == expected
    assert found.theme == PortalTheme()
    assert found.frame_ancestors == ()
    assert await store.read(lambda tx: tables.find(tx, b"other")) is None
    assert await store.read(lambda tx: tables.by_code(tx, b"code2")) is None


async def test_ended_sessions_are_deleted(store: Store) -> None:
    await stored_organization(store, 1)

    async def work(tx: Transaction) -> int:
        await tables.insert(tx, a_session(2, expires_at=NOON))
        await tables.insert(tx, a_session(3, expires_at=NOON + 1))
        return await tables.delete_ended(tx, NOON)

    assert await store.write(work) == 1
    assert await store.read(lambda tx: tables.get(tx, row_id(1), public_id(2))) is None
    assert await store.read(lambda tx: tables.get(tx, row_id(1), public_id(3))) is not None


async def test_theme_is_stored_once_for_all_sessions_that_have_it(store: Store) -> None:
    await stored_organization(store, 1)

    async def work(tx: Transaction) -> None:
        theme_id, again = [await tables.keep_theme(tx, row_id(1), THEME) for _ in range(2)]
        assert theme_id
        assert again == theme_id
        assert await tables.keep_theme(tx, row_id(1), PortalTheme()) == 0
        for number in (2, 3):
            session = a_session(number, theme=theme_id)
            await tables.insert(tx, session)
            assert await tables.open_session(tx, session, b"token%d" % number, NOON)

    await store.write(work)
    for number in (2, 3):
        found = await store.read(partial(tables.find, token_hash=b"token%d" % number))
        assert found is not None
        assert found.theme == THEME
    assert await store.read(lambda tx: tx.rows("SELECT count(*) FROM portal_theme")) == [(1,)]


async def test_unused_themes_are_deleted_to_make_room(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_THEMES", 2)
    await stored_organization(store, 1)
    themes = [PortalTheme(radius=radius) for radius in range(4)]

    async def keep(tx: Transaction, theme: PortalTheme, session: int = 0) -> int | None:
        theme_id = await tables.keep_theme(tx, row_id(1), theme)
        if session:
            await tables.insert(tx, a_session(session, theme=theme_id or 0))
        return theme_id

    async def work(tx: Transaction) -> None:
        used = await keep(tx, themes[0], 2)
        await keep(tx, themes[1])
        assert await keep(tx, themes[2], 3)
        assert await keep(tx, themes[3]) is None
        assert await keep(tx, themes[0]) == used
        assert await tables.keep_theme(tx, row_id(4), themes[3])
        await tables.delete(tx, row_id(1), row_id(3))
        assert await keep(tx, themes[3])

    await store.write(work)


async def test_new_session_of_a_customer_ends_the_oldest_beyond_the_limit(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_DELETE_OLDEST", tables._DELETE_OLDEST.replace("OFFSET 100", "OFFSET 2"))
    await stored_organization(store, 1)

    async def work(tx: Transaction) -> None:
        await tables.insert(tx, a_session(2, customer="globex"))
        for number in range(3, 7):
            await tables.insert(tx, a_session(number))
            await tables.delete_oldest(tx, row_id(1), "acme")

    await store.write(work)
    left = (await store.read(lambda tx: tables.page(tx, row_id(1), FIRST_PAGE))).items
    assert [(each.id, each.customer) for each in left] == [
        (row_id(6), "acme"),
        (row_id(5), "acme"),
        (row_id(2), "globex"),
    ]
