"""Signed headers for tests that call a handler without any server."""

import os
import time
from datetime import datetime

from discue.crypto.signing import decode_private_key, decode_secret, sign
from discue.domain.clock import SystemClock
from discue.domain.ids import PublicIds


def signed_headers(
    body: bytes, secret: str, *, message_id: str | None = None, at: datetime | None = None, attempt: int = 1
) -> dict[str, str]:
    """Return the headers of a request with this body, as discue sends it: signed now, or at another time.

    `secret` is `whsec_…`, or a private key `whsk_…`. Raises ValueError for another one.
    """
    key = decode_private_key(secret) if secret.startswith("whsk_") else decode_secret(secret)
    timestamp = int(time.time() if at is None else at.timestamp())
    message_id = message_id or PublicIds(SystemClock(), os.urandom).next()
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign((key,), message_id, timestamp, body),
        "discue-attempt": str(attempt),
    }
