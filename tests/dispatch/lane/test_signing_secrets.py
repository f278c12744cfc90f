"""Signing secrets: an attempt is signed with those that are valid when it starts."""

from base64 import b64encode

from discue.crypto.signing import SigningSecret, decode_private_key, decode_secret, encode_public_key, encode_secrets
from discue.domain.model import Listener
from discue.store import listeners
from discue.store.engine import Transaction
from tests.dispatch.stage import Stage, until, well

OLD, NEW = ("whsec_" + b64encode(text * 32).decode() for text in (b"o", b"n"))
PRIVATE = "whsk_" + b64encode(b"p" * 32).decode()


async def _have(stage: Stage, listener: Listener, *secrets: SigningSecret) -> None:
    async def work(tx: Transaction) -> None:
        await listeners.set_secrets(tx, listener.organization, listener.id, encode_secrets(secrets))

    await stage.store.write(work)
    await stage.follow("listener", listener.organization, listener.id)


async def test_an_older_secret_ends_in_a_running_lane_by_the_clock_alone(stage: Stage) -> None:
    queue, listener = await stage.running()
    ends_at = stage.clock.now() + 60_000
    await _have(stage, listener, SigningSecret(NEW), SigningSecret(OLD, expires_at=ends_at))

    for wait, expected in ((0, (NEW, OLD)), (59_999, (NEW, OLD)), (1, (NEW,)), (60_000, (NEW,))):
        await stage.advance(wait)
        await stage.publish(queue)
        await until(lambda: len(stage.courier.in_flight) == 1)
        (sent,) = stage.courier.in_flight
        assert sent.request.keys == tuple(map(decode_secret, expected))
        await stage.end(sent, well())


async def test_key_pair_signs_with_the_shared_secret(stage: Stage) -> None:
    queue, listener = await stage.running()
    await _have(stage, listener, SigningSecret(PRIVATE, type="ed25519"), SigningSecret(NEW))
    await stage.publish(queue)
    await until(lambda: len(stage.courier.in_flight) == 1)
    pair, shared = stage.courier.in_flight[0].request.keys
    assert not isinstance(pair, bytes)
    assert (encode_public_key(pair), shared) == (encode_public_key(decode_private_key(PRIVATE)), decode_secret(NEW))
