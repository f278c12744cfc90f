import hashlib
import hmac
import json
from base64 import b64encode
from datetime import UTC, datetime

import httpx
import pytest

from discue.testing import HmacOptions, Kit, provider_headers

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"id": "evt_1", "type": "invoice.paid"}'
AT = datetime(2020, 1, 1, tzinfo=UTC)


def test_headers_follow_the_documentation_of_each_provider() -> None:
    key = SECRET.encode()
    stripe = hmac.new(key, b"1577836800." + BODY, hashlib.sha256).hexdigest()
    shopify = b64encode(hmac.new(key, BODY, hashlib.sha256).digest()).decode()
    github = hmac.new(key, BODY, hashlib.sha256).hexdigest()
    assert provider_headers("stripe", BODY, SECRET, at=AT) == {"stripe-signature": f"t=1577836800,v1={stripe}"}
    assert provider_headers("shopify", BODY, SECRET, event_type="orders/create", event_id="7") == {
        "x-shopify-hmac-sha256": shopify,
        "x-shopify-webhook-id": "7",
        "x-shopify-topic": "orders/create",
    }
    assert provider_headers("github", BODY, SECRET)["x-hub-signature-256"] == f"sha256={github}"


def test_options_are_required_for_hmac_only() -> None:
    options = HmacOptions("X-Signature", algorithm="sha1", id_header="x-id")
    signature = hmac.new(SECRET.encode(), BODY, hashlib.sha1).hexdigest()
    headers = provider_headers("hmac", BODY, SECRET, event_id="7", options=options)
    assert headers == {"x-signature": signature, "x-id": "7"}
    for provider, given in (("hmac", None), ("github", options)):
        with pytest.raises(ValueError, match="options are required"):
            provider_headers(provider, BODY, SECRET, options=given)  # type: ignore[arg-type]


@pytest.mark.parametrize("provider", ["stripe", "github", "shopify", "standard-webhooks"])
def test_source_of_the_kit_stores_a_signed_request_once(discue: Kit, provider: str) -> None:
    discue.queue("payments")
    discue.client.sources.update(provider, provider=provider, queue_id="payments", secrets=[SECRET])  # type: ignore[arg-type]
    url = discue.client.sources.get(provider).url
    headers = provider_headers(provider, BODY, SECRET, event_type="invoice.paid")  # type: ignore[arg-type]
    answers = [httpx.post(url, content=BODY, headers=headers, trust_env=False).json() for _ in range(2)]
    assert [each["repeated"] for each in answers] == [False, True]
    [message] = discue.published("payments")
    assert (message.type, message.data) == ("invoice.paid", json.loads(BODY))
