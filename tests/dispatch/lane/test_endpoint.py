"""A listener's endpoint: its secrets, and how they authenticate and sign requests."""

import traceback
from base64 import b64encode
from functools import partial

import msgspec
import pytest

from discue.crypto.endpoint_credentials import Credentials, ListenerSecrets, encode_secrets
from discue.crypto.keyring import Keyring
from discue.crypto.signing import (
    SigningSecret,
    associated_data,
    decode_private_key,
    decode_secret,
    encode_public_key,
)
from discue.dispatch.lane.endpoint import endpoint_of
from discue.domain.model import Authentication, DeliveryOptions, Listener
from discue.store import listeners
from tests.dispatch.lane.test_cursor_state import RECORD as SOME_RECORD
from tests.dispatch.stage import Stage, well

RECORD = msgspec.structs.replace(SOME_RECORD, liveness_url="https://example.com/live")
KEY, NONCE, SIGNING = b"k" * 32, b"n" * 12, b"s" * 32
SECRET = SigningSecret("whsec_" + b64encode(SIGNING).decode(), "s" * 21)
RING = Keyring((KEY,))
SEALED = RING.seal(
    RING.first, encode_secrets(ListenerSecrets((SECRET,))), associated_data(RECORD.organization, RECORD.listener), NONCE
)
OLD, NEW = ("whsec_" + b64encode(text * 32).decode() for text in (b"o", b"n"))
PRIVATE = "whsk_" + b64encode(b"p" * 32).decode()
BASIC = Credentials(Authentication("basic", username="ada"), "s3cr3t")
OAUTH2 = Credentials(Authentication("oauth2", token_url="https://login.example.com/token", client_id="ada"), "s3cr3t")
CERTIFICATE = Credentials(Authentication("certificate", certificate="c"), "k")

_endpoint = partial(endpoint_of, max_in_flight=50, timeout_ms=15_000)


async def _set_secrets(stage: Stage, listener: Listener, encoded: bytes, authentication: Authentication | None) -> None:
    set_secrets = partial(
        listeners.set_secrets, organization=listener.organization, listener=listener.id, secrets=encoded
    )
    await stage.store.write(set_secrets)
    await stage.configure(listener, options=DeliveryOptions(authentication=authentication))


@pytest.mark.parametrize("stored", [SEALED, encode_secrets(ListenerSecrets((SECRET,)))])
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


def test_key_pair_signs_with_the_shared_secret() -> None:
    stored = encode_secrets(ListenerSecrets((SigningSecret(PRIVATE, type="ed25519"), SigningSecret(NEW))))
    pair, shared = _endpoint(msgspec.structs.replace(RECORD, secrets=stored), RING).keys
    assert not isinstance(pair, bytes)
    assert (encode_public_key(pair), shared) == (encode_public_key(decode_private_key(PRIVATE)), decode_secret(NEW))


async def test_an_older_secret_ends_in_a_running_lane_by_the_clock_alone(stage: Stage) -> None:
    queue, listener = await stage.running()
    ends_at = stage.clock.now() + 60_000
    secrets = encode_secrets(ListenerSecrets((SigningSecret(NEW), SigningSecret(OLD, expires_at=ends_at))))
    await _set_secrets(stage, listener, secrets, None)
    for wait, expected in ((0, (NEW, OLD)), (59_999, (NEW, OLD)), (1, (NEW,)), (60_000, (NEW,))):
        await stage.advance(wait)
        await stage.publish(queue)
        (sent,) = stage.courier.in_flight
        assert sent.request.keys == tuple(map(decode_secret, expected))
        await stage.end(sent, well())


async def test_each_type_of_credentials_reaches_the_request(stage: Stage) -> None:
    queue, listener = await stage.running()
    for credentials in (BASIC, OAUTH2, CERTIFICATE, None):
        public = None if credentials is None else credentials.public
        await _set_secrets(stage, listener, encode_secrets(ListenerSecrets((), credentials)), public)
        await stage.publish(queue)
        (sent,) = stage.courier.in_flight
        found = (
            bool(sent.request.headers),
            sent.request.grant is not None,
            sent.request.destination.identity is not None,
        )
        assert found == (credentials is BASIC, credentials is OAUTH2, credentials is CERTIFICATE)
        await stage.end(sent, well())
