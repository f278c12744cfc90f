"""Requests of the providers of webhooks, for tests of sources and of applications that receive such requests."""

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
    """Return the headers of a request with this body, as the provider sends it: signed now, or at another time.

    `options` are those of `hmac`. Providers that name and identify events in the body ignore `event_type` and
    `event_id`. Raises ValueError if the secret does not have the form of the provider's secrets.
    """
    if (options is None) is (provider == "hmac"):
        raise ValueError("options describe the signature of hmac, and only that")
    timestamp = int(time.time() if at is None else at.timestamp())
    event_id = event_id or f"evt_{uuid4().hex}"
    known = provider_of(provider, options)
    return signed_headers(known, secret, body, event_id=event_id, event_type=event_type, timestamp=timestamp)
