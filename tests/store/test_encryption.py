import pytest

from discue.domain.errors import StoreUnusable
from discue.store import encryption
from discue.store.encryption import CLEAR, Encryption


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
