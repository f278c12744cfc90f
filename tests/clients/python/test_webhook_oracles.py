"""Verification compared with the packages `standardwebhooks` and `svix`.

Two facts make up the comparison: what they sign is accepted, and what is accepted, they accept. They accept more: forms
of headers that no sender uses.
"""

import re
import time
from base64 import b64encode
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
import standardwebhooks
import svix
from hypothesis import given
from hypothesis import strategies as st

from discue.crypto.signing import HmacKey, decode_private_key, encode_public_key, sign
from discue_client.webhook import DataInvalid, Headers, SignatureInvalid, Webhook
from tests.clients.python.signed import KEY, MESSAGE_ID, NOW, PUBLIC_KEY, SECRET, headers_of, v1

ORACLES = [standardwebhooks.Webhook, svix.Webhook]
IDS = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="."), min_size=1, max_size=40)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=100)

FORM = re.compile("v1,[A-Za-z0-9+/]+={0,2}")
"""A signature of the standard. The others also accept one with more characters after its padding."""

SIGNED = b'"body"'
"""The body that the right signatures of `requests` are for."""


def verdict(oracle: Any, body: bytes, headers: dict[str, str]) -> bool:
    """Return whether one of the signatures is accepted. Each is tried alone: a malformed one hides those after it."""
    return any(
        _accepts(oracle, body, headers | {"webhook-signature": signature})
        for signature in headers.get("webhook-signature", "").split(" ")
    )


def _accepts(oracle: Any, body: bytes, headers: dict[str, str]) -> bool:
    try:
        oracle(SECRET).verify(body, headers)
    except Exception:  # noqa: BLE001 - for malformed headers they raise whatever their parsing raises
        return False
    return True


def accepts(body: bytes, headers: dict[str, str]) -> bool:
    try:
        Webhook(SECRET).verify(body, headers)
    except SignatureInvalid:
        return False
    return True


@pytest.mark.parametrize("oracle", ORACLES)
@given(key=st.binary(min_size=24, max_size=64), message_id=IDS, text=TEXTS, age=st.integers(-290, 290))
def test_requests_that_others_sign_are_accepted(oracle: Any, key: bytes, message_id: str, text: str, age: int) -> None:
    secret, now = "whsec_" + b64encode(key).decode(), int(time.time()) - age
    signature = oracle(secret).sign(message_id, datetime.fromtimestamp(now, UTC), text)
    headers = {"webhook-id": message_id, "webhook-timestamp": str(now), "webhook-signature": signature}

    Webhook(secret).verify(text.encode(), headers)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, dict[str, str]]:
    """Requests of which each part is right, nearly right or anything."""
    now = int(time.time())
    timestamp = draw(st.sampled_from([now] * 6 + [now - 299, now + 299, now - 400, now + 400, 0]))
    form = draw(st.sampled_from(["{}"] * 12 + ["{}.0", "{}.5", "0{}", " {}", "{}\n", "+{}", "-{}", "{}e0", "x{}", ""]))
    written = form.format(timestamp)
    right = v1(SIGNED, message_id=MESSAGE_ID, timestamp=timestamp)
    as_written = v1(SIGNED, message_id=MESSAGE_ID, timestamp=written)
    near = [right, as_written, right[:-1], right.upper(), right.replace("v1", "v1a"), f'"{right}"', "v1,", "v2,a", ","]
    listed = draw(st.lists(st.sampled_from([right] * 4 + near) | st.text(max_size=12), min_size=1, max_size=4))
    separator = draw(st.sampled_from([" "] * 6 + ["  ", ", ", "\t", ""]))
    message_id = draw(st.sampled_from([MESSAGE_ID] * 6 + [MESSAGE_ID.lower(), MESSAGE_ID + " ", f"{MESSAGE_ID}.1", ""]))
    headers = {"webhook-id": message_id, "webhook-timestamp": written, "webhook-signature": separator.join(listed)}
    left_out = draw(st.sampled_from([None] * 9 + list(headers)))
    body = draw(st.sampled_from([SIGNED] * 6 + [b"", SIGNED + b"\n", b'"Body"']))
    return body, {name: value for name, value in headers.items() if name != left_out}


@given(request=requests())
def test_request_that_is_accepted_is_accepted_by_others(request: tuple[bytes, dict[str, str]]) -> None:
    if accepts(*request):
        assert [oracle.__module__ for oracle in ORACLES if not verdict(oracle, *request)] == []


@given(request=requests())
def test_request_in_the_form_of_the_standard_has_the_same_verdict_everywhere(
    request: tuple[bytes, dict[str, str]],
) -> None:
    body, headers = request
    parts = headers.get("webhook-signature", "").split()
    signatures = [part for part in parts if FORM.fullmatch(part)]
    standard = {
        "webhook-id": MESSAGE_ID,
        "webhook-timestamp": str(int(time.time())),
        "webhook-signature": " ".join(signatures) or "v1,AAAA",
    }
    assert [verdict(oracle, body, standard) for oracle in ORACLES] == [accepts(body, standard)] * 2


def test_request_that_is_right_in_every_part_is_accepted_everywhere() -> None:
    now = int(time.time())
    headers = {
        "webhook-id": MESSAGE_ID,
        "webhook-timestamp": str(now),
        "webhook-signature": v1(SIGNED, KEY, timestamp=now),
    }
    assert accepts(SIGNED, headers)
    assert [verdict(oracle, SIGNED, headers) for oracle in ORACLES] == [True, True]


@given(key=st.binary(min_size=24, max_size=64), seed=st.binary(min_size=32, max_size=32), body=st.binary(max_size=100))
def test_requests_that_the_service_signs_are_accepted_with_each_kind_of_key(
    key: bytes, seed: bytes, body: bytes
) -> None:
    private, now = decode_private_key("whsk_" + b64encode(seed).decode()), int(time.time())
    headers = {
        "webhook-id": MESSAGE_ID,
        "webhook-timestamp": str(now),
        "webhook-signature": sign([HmacKey(key), private], MESSAGE_ID, now, body),
    }

    Webhook("whsec_" + b64encode(key).decode()).verify(body, headers)
    Webhook(encode_public_key(private)).verify(body, headers)


# Whatever arrives, the program gets an event or one of the two errors.

NAMES = st.sampled_from(["webhook-id", "Webhook-Timestamp", "webhook-signature", "content-type", "ce-specversion"])
HEADERS = st.lists(st.tuples(NAMES | st.text(max_size=5), st.text(max_size=30)), max_size=6)
CONTENT_TYPES = st.sampled_from(
    ["application/json", "application/cloudevents+json", "text/plain", "text/plain; charset=", "text/x; charset=utf-16"]
)
BODIES = st.binary(max_size=40) | st.sampled_from(
    [b"{}", b"null", b"[1e999]", b'{"data":1,"data":2}', b'{"specversion":"1.0","id":"1","source":"a","type":"b"}']
)


@given(request=requests(), others=HEADERS)
def test_any_headers_give_an_event_or_a_rejection(request: tuple[bytes, dict[str, str]], others: Headers) -> None:
    body, headers = request
    with suppress(SignatureInvalid, DataInvalid):
        Webhook([SECRET, PUBLIC_KEY]).unwrap(body, [*headers.items(), *others])


@given(
    body=BODIES,
    content_type=CONTENT_TYPES | st.text(max_size=20),
    charset=st.text(max_size=8),
    others=HEADERS,
    data_type=st.sampled_from([Any, int, str, bytes, dict[str, int]]),
)
def test_any_signed_request_gives_an_event_or_invalid_data(
    body: bytes, content_type: str, charset: str, others: list[tuple[str, str]], data_type: Any
) -> None:
    headers = {name: value for name, value in others if not name.lower().startswith("webhook-")}
    headers |= headers_of(body) | {"content-type": content_type + charset}
    with suppress(DataInvalid):
        Webhook(SECRET, now=lambda: NOW).unwrap(body, headers, data_type)


@pytest.mark.parametrize("oracle", ORACLES)
def test_oracles_accept_signed_headers(oracle: Any) -> None:
    assert _accepts(oracle, SIGNED, Webhook(SECRET).sign(SIGNED))
    assert not _accepts(oracle, b'"other"', Webhook(SECRET).sign(SIGNED))
