"""Encrypted signing secrets: they can be used for their own listener only."""

import traceback
from base64 import b64encode
from functools import partial

import msgspec
import pytest

from discue.crypto.keyring import Keyring
from discue.crypto.signing import SigningSecret, associated_data, encode_secrets
from discue.dispatch.lane.endpoint import endpoint_of
from tests.dispatch.lane.test_cursor_state import RECORD as SOME_RECORD

RECORD = msgspec.structs.replace(SOME_RECORD, liveness_url="https://example.com/live")
KEY, NONCE, SIGNING = b"k" * 32, b"n" * 12, b"s" * 32
SECRET = SigningSecret("whsec_" + b64encode(SIGNING).decode(), "s" * 21)
RING = Keyring((KEY,))
SEALED = RING.seal(RING.first, encode_secrets((SECRET,)), associated_data(RECORD.organization, RECORD.listener), NONCE)
_endpoint = partial(endpoint_of, max_in_flight=50, timeout_ms=15_000)


@pytest.mark.parametrize("stored", [SEALED, encode_secrets((SECRET,)), msgspec.json.encode([SECRET.text])])
def test_secrets_are_opened_however_they_are_stored(stored: bytes) -> None:
    endpoint = _endpoint(msgspec.structs.replace(RECORD, secrets=stored), RING)
    assert endpoint.keys == (SIGNING,)


@pytest.mark.parametrize(
    "change", [{"listener": 99}, {"organization": 99}, {"secrets": SEALED[:-1]}, {"secrets": b"{"}], ids=str
)
def test_secrets_that_cannot_be_decrypted_are_refused_and_not_logged(change: dict[str, object]) -> None:
    record = msgspec.structs.replace(RECORD, **{"secrets": SEALED, **change})
    with pytest.raises(ValueError, match=r"secrets|encrypted") as raised:
        _endpoint(record, RING)
    assert SECRET.text not in "".join(traceback.format_exception(raised.value))


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(ValueError, match=RING.first):
        _endpoint(msgspec.structs.replace(RECORD, secrets=SEALED), Keyring())
