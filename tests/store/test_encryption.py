import pytest

from discue.domain.errors import StoreUnusable
from discue.store import encryption
from discue.store.encryption import CLEAR, Encryption, SecretsRow
from discue.store.store import Store
from tests.store.rows import stored_listeners


async def _with_listeners(store: Store, count: int) -> list[SecretsRow]:
    made = await stored_listeners(store, count)
    return [SecretsRow((listener.organization, listener.id), listener.secrets) for listener in made]


async def test_secrets_stay_clear_until_a_key_is_named(store: Store) -> None:
    assert await store.read(encryption.read) == Encryption()
    stands = Encryption("a" * 16, (CLEAR, "b" * 16))
    await store.write(lambda tx: encryption.write(tx, stands))
    assert await store.read(encryption.read) == stands
    assert stands.needed == ("a" * 16, "b" * 16)


def test_former_key_stays_listed_and_can_become_current_again() -> None:
    clear = Encryption()
    first = clear.under("a")
    second = first.under("b")
    assert first == Encryption("a", (CLEAR,))
    assert second == Encryption("b", ("a", CLEAR))
    assert second.under("a") == Encryption("a", ("b", CLEAR))
    assert second.under("b") is second


def test_unreadable_encryption_state_is_reported() -> None:
    with pytest.raises(StoreUnusable, match="cannot be read"):
        encryption.decode("{")


async def test_all_rows_are_walked_in_pages(store: Store) -> None:
    rows = await _with_listeners(store, 5)
    first = await store.read(lambda tx: encryption.rows_after(tx, None, 2))
    second = await store.read(lambda tx: encryption.rows_after(tx, first[-1].key, 2))
    last = await store.read(lambda tx: encryption.rows_after(tx, second[-1].key, 2))
    assert first + second + last == rows
    assert await store.read(lambda tx: encryption.rows_after(tx, last[-1].key, 2)) == []
    assert await store.read(encryption.count) == 5


async def test_a_row_is_replaced_only_as_it_was_read(store: Store) -> None:
    (row,) = await _with_listeners(store, 1)
    assert await store.write(lambda tx: encryption.replace(tx, row, b"\x01fresh"))
    assert not await store.write(lambda tx: encryption.replace(tx, row, b"\x01later"))
    assert [each.stored for each in await store.read(lambda tx: encryption.rows_after(tx, None, 9))] == [b"\x01fresh"]
