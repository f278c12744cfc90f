"""Signed requests of webhook providers, for tests of sources and of applications that receive webhooks."""

import time
from datetime import datetime
from uuid import uuid4

from discue.domain.providers import HmacOptions, ProviderName, provider_of, signed_headers


def provider_headers(
    provider: ProviderName,
    body: bytes,
    secret: str,
    *,
    event_type: str = "example",
    event_id: str | None = None,
    at: datetime | None = None,
    options: HmacOptions | None = None,
) -> dict[str, str]:
    """Return the headers with which the provider sends this body, signed now or at another time.

    `options` are those of `hmac`. Providers with the type and the id of an event in the body ignore `event_type` and
    `event_id`. Raises ValueError for an invalid secret.
    """
    if (options is None) is (provider == "hmac"):
        raise ValueError("options are required for hmac, and only for hmac")
    timestamp = int(time.time() if at is None else at.timestamp())
    event_id = event_id or f"evt_{uuid4().hex}"
    known = provider_of(provider, options)
    return signed_headers(known, secret, body, event_id=event_id, event_type=event_type, timestamp=timestamp)
