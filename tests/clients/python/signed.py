"""Signed requests, as discue and other senders of Standard Webhooks make them."""

import hmac
from base64 import b64encode

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

NOW = 1_800_000_000
KEY = bytes(range(32))
SECRET = "whsec_" + b64encode(KEY).decode()
PRIVATE_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64)))
PUBLIC_KEY = "whpk_" + b64encode(PRIVATE_KEY.public_key().public_bytes_raw()).decode()
MESSAGE_ID = "0Vbva8VC00enQiJ4MzFhE"


def v1(body: bytes, key: bytes = KEY, *, message_id: str = MESSAGE_ID, timestamp: object = NOW) -> str:
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + b64encode(hmac.digest(key, signed, "sha256")).decode()


def v1a(body: bytes, *, timestamp: object = NOW) -> str:
    return "v1a," + b64encode(PRIVATE_KEY.sign(f"{MESSAGE_ID}.{timestamp}.".encode() + body)).decode()


def headers_of(body: bytes, *signatures: str, timestamp: object = NOW, **others: str) -> dict[str, str]:
    """Return the headers of a request, with a `v1` signature if none is given. Underscores of names become dashes."""
    return {
        "webhook-id": MESSAGE_ID,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures or (v1(body, timestamp=timestamp),)),
        "content-type": "application/json",
        **{name.replace("_", "-"): value for name, value in others.items()},
    }
