"""Signatures of webhook providers."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.errors import Unauthorized
from discue.domain.headers import MAX_CHARACTERS, check_headers
from discue.domain.providers import (
    PROVIDERS,
    TOLERANCE_SECONDS,
    HmacOptions,
    ReceivedEvent,
    WebhookProvider,
    headers_to_keep,
    provider_of,
    signed_headers,
    verify,
)

NOW = 1_614_265_330
OPTIONS = (
    HmacOptions("X-Signature"),
    HmacOptions("x-signature", "sha512", "base64", "v0=", "X-Time", "X-Event"),
    HmacOptions("x-signature", "sha1", id_header="x-event"),
)
ALL = [provider_of(name, None) for name in PROVIDERS if name != "hmac"] + [
    provider_of("hmac", each) for each in OPTIONS
]
SECRET, OTHER = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"

providers = st.sampled_from(ALL)
bodies = st.binary(max_size=200) | st.just(b'{"id":"evt_1","type":"invoice.paid"}')


def signed(provider: WebhookProvider, body: bytes, at: int = NOW, secret: str = SECRET) -> dict[str, str]:
    return signed_headers(provider, secret, body, event_id="e-1", event_type="push", timestamp=at)


def refusal(provider: WebhookProvider, headers: dict[str, str], body: bytes, *secrets: str) -> str:
    with pytest.raises(Unauthorized) as raised:
        verify(provider, secrets or (SECRET,), headers, body, now=NOW * 1_000)
    return raised.value.code


def test_vector_of_github_is_accepted() -> None:
    # From GitHub's page about validating deliveries.
    headers = {
        "x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "x-github-event": "pull_request",
    }
    event = verify(provider_of("github", None), ("It's a Secret to Everybody",), headers, b"Hello, World!", now=0)
    assert event == ReceivedEvent("72d3162e-cc78-11e3-81ab-4c9367dc0958", "pull_request")


def test_vector_of_standard_webhooks_is_accepted() -> None:
    # From the specification of Standard Webhooks.
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": str(NOW),
        "webhook-signature": "v1a,other v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    event = verify(
        provider_of("standard-webhooks", None), (OTHER, SECRET), headers, b'{"test": 2432232314}', now=NOW * 1_000
    )
    assert event == ReceivedEvent("msg_p5jXN8AQM9LWM0D4loKWxJek", None)


def test_request_of_stripe_has_its_id_and_type_in_the_body() -> None:
    body = b'{"id": "evt_17", "object": "event", "type": "invoice.paid", "data": {"id": 1, "type": 2}}'
    digest = hmac.digest(b"whsec_plain", f"{NOW}.".encode() + body, hashlib.sha256).hex()
    headers = {"stripe-signature": f"t={NOW},v1={'0' * 64},v1={digest.upper()},v0=abc"}
    event = verify(provider_of("stripe", None), ("whsec_plain",), headers, body, now=NOW * 1_000)
    assert event == ReceivedEvent("evt_17", "invoice.paid")


def test_request_of_shopify_names_its_topic() -> None:
    provider = provider_of("shopify", None)
    headers = signed_headers(provider, "secret", b"{}", event_id="w-1", event_type="orders/create", timestamp=0)
    assert verify(provider, ("secret",), headers, b"{}", now=0) == ReceivedEvent("w-1", "orders/create")


@given(providers, bodies)
def test_request_signed_with_any_secret_is_accepted(provider: WebhookProvider, body: bytes) -> None:
    headers = signed(provider, body)
    assert verify(provider, (OTHER, SECRET), headers, body, now=NOW * 1_000).id == (
        "e-1" if provider.id_header else "evt_1" if provider.has_id_member and b"evt_1" in body else ""
    )
    assert refusal(provider, headers, body, OTHER) == "signature_wrong"


@given(providers, bodies, st.data())
def test_changed_request_is_refused(provider: WebhookProvider, body: bytes, data: st.DataObject) -> None:
    headers = signed(provider, body)
    place = data.draw(st.integers(0, len(body)))
    assert refusal(provider, headers, body[:place] + b"x" + body[place:]) == "signature_wrong"
    # Each part that is signed in a header, and the signature.
    for name in {provider.header, provider.timestamp_header, provider.id_header if provider.signs_id else ""} - {""}:
        changed = headers | {name: headers[name][:-1] + ("1" if headers[name][-1] != "1" else "2")}
        if name == provider.header and provider.encoding == "base64":
            changed = headers | {
                name: headers[name][:-3] + ("A" if headers[name][-3] != "A" else "B") + headers[name][-2:]
            }
        assert refusal(provider, changed, body) in {"signature_wrong", "signature_stale"}


@given(providers, bodies)
def test_unsigned_requests_are_refused(provider: WebhookProvider, body: bytes) -> None:
    headers = signed(provider, body)
    for name in {provider.header, provider.timestamp_header, provider.id_header if provider.signs_id else ""} - {""}:
        assert refusal(provider, {key: value for key, value in headers.items() if key != name}, body) == (
            "signature_missing"
        )
        assert refusal(provider, headers | {name: ""}, body) == "signature_missing"


@given(providers, st.text(max_size=50), st.binary(max_size=50))
def test_any_header_is_refused_and_raises_nothing_else(provider: WebhookProvider, text: str, body: bytes) -> None:
    named = dict.fromkeys((provider.header, provider.timestamp_header or "t", provider.id_header or "i"), text)
    assert refusal(provider, named, body).startswith("signature_")
    assert refusal(provider, named | {provider.header: f"{provider.timestamp_prefix}1,{provider.prefix}{text}"}, body)


@given(providers, st.integers(-TOLERANCE_SECONDS * 2, TOLERANCE_SECONDS * 2))
def test_signed_times_are_accepted_for_five_minutes(provider: WebhookProvider, off: int) -> None:
    headers = signed(provider, b"{}", NOW + off)
    if provider.has_timestamp and abs(off) > TOLERANCE_SECONDS:
        assert refusal(provider, headers, b"{}") == "signature_stale"
    else:
        assert verify(provider, (SECRET,), headers, b"{}", now=NOW * 1_000)


@pytest.mark.parametrize(
    "body", [b"[1]", b'{"type":7}', b'{"type":"a b"}', b'{"type":"\xff"}', b"{" * 5_000, b'{"type":""}']
)
def test_body_without_a_valid_name_has_no_type(body: bytes) -> None:
    provider = provider_of("stripe", None)
    assert verify(provider, (SECRET,), signed(provider, body), body, now=NOW * 1_000) == ReceivedEvent("", None)


@pytest.mark.parametrize("name", [each for each in PROVIDERS if each != "hmac"])
def test_kept_headers_verify_the_message_again(name: str) -> None:
    provider = provider_of(name, None)
    headers = signed(provider, b"{}")
    sent = [
        ("x-other", "1"),
        ("cookie", "secret"),
        *((f"x-github-{n}", "y" * 300) for n in range(40)),
        *headers.items(),
    ]
    kept = headers_to_keep(provider, sent)
    assert check_headers(dict(kept), "/headers") == kept
    assert sum(len(key) + len(value) for key, value in kept) <= MAX_CHARACTERS
    again = {key.removeprefix("source-"): value for key, value in kept}
    assert {"x-other", "cookie"}.isdisjoint(again)
    assert verify(provider, (SECRET,), again, b"{}", now=NOW * 1_000) == verify(
        provider, (SECRET,), headers, b"{}", now=NOW * 1_000
    )


@pytest.mark.parametrize("name", ["stripe", "standard-webhooks"])
def test_a_header_full_of_signatures_costs_no_more_than_a_few(name: str) -> None:
    provider = provider_of(name, None)
    headers = signed(provider, b"{}")
    start, _, right = headers[provider.header].rpartition(provider.separator)
    forged = f"{provider.prefix}forged"
    first = [start] if start else []
    few, many = (provider.separator.join([*first, *[forged] * number, right]) for number in (8, 8_000))
    assert verify(provider, (SECRET,), {**headers, provider.header: few}, b"{}", now=NOW * 1_000)
    assert refusal(provider, {**headers, provider.header: many}, b"{}") == "signature_wrong"
