"""Verification of webhooks: what is accepted, why the rest is rejected, and what the events contain."""

import pickle
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import pydantic
import pytest

from discue_client import ConfigurationError
from discue_client.responses import Duplicate
from discue_client.webhook import DataInvalid, Event, Reason, SignatureInvalid, Webhook
from tests.clients.python.signed import MESSAGE_ID, NOW, PUBLIC_KEY, SECRET, headers_of, v1, v1a
from tests.clients.vectors import BODY, MALFORMED, OTHER_SECRET, UNMATCHED, UNUSABLE_SECRETS


def webhook(*secrets: str, now: float = NOW, **options: Any) -> Webhook:
    return Webhook(secrets or SECRET, now=lambda: now, **options)


def reason_of(headers: Any, body: bytes = BODY, **options: Any) -> Reason:
    with pytest.raises(SignatureInvalid) as caught:
        webhook(**options).unwrap(body, headers)
    assert "\n" not in str(caught.value)
    return caught.value.reason


# Accepted requests


def test_event_has_the_id_time_data_and_body_of_a_signed_request() -> None:
    event = webhook().unwrap(BODY, headers_of(BODY, discue_attempt="3"))

    assert (event.id, event.data, event.body, event.attempt) == (MESSAGE_ID, {"order": 17}, BODY, 3)
    assert event.timestamp == datetime.fromtimestamp(NOW, UTC)
    assert (event.attributes, event.is_test) == ({}, False)
    assert "17" in repr(event)
    assert "signature" not in repr(event)


def test_request_of_the_service_is_accepted_with_either_kind_of_secret() -> None:
    headers = headers_of(BODY, v1(BODY), v1a(BODY))

    assert webhook(SECRET).unwrap(BODY, headers).data == {"order": 17}
    assert webhook(PUBLIC_KEY).unwrap(BODY, headers).data == {"order": 17}


@pytest.mark.parametrize("secrets", [(OTHER_SECRET, SECRET), (SECRET, PUBLIC_KEY), (OTHER_SECRET, PUBLIC_KEY)])
def test_one_matching_secret_is_enough_during_a_rotation(secrets: tuple[str, ...]) -> None:
    webhook(*secrets).verify(BODY, headers_of(BODY, v1(BODY, b"y" * 24), v1(BODY), v1a(BODY)))


@pytest.mark.parametrize(
    "headers",
    [
        {name.title(): value for name, value in headers_of(BODY).items()},
        {name.upper(): value for name, value in headers_of(BODY).items()},
        list(headers_of(BODY).items()),
    ],
    ids=["title case", "upper case", "pairs"],
)
def test_headers_may_have_any_case_and_be_a_mapping_or_pairs(headers: Any) -> None:
    assert webhook().unwrap(BODY, headers).id == MESSAGE_ID


def test_signatures_of_unknown_versions_are_skipped() -> None:
    webhook().verify(BODY, headers_of(BODY, "v2,a,b", "v1x,!", v1(BODY)))


@pytest.mark.parametrize("age", [-300, 300])
def test_request_at_the_edge_of_the_tolerance_is_accepted(age: int) -> None:
    webhook(now=NOW + age).verify(BODY, headers_of(BODY))


def test_body_of_any_bytes_is_verified() -> None:
    body = b"\xff\x00\n."
    assert webhook().unwrap(body, headers_of(body) | {"content-type": "application/octet-stream"}).data == body


# Rejected requests


@pytest.mark.parametrize("changed", MALFORMED.values(), ids=MALFORMED)
def test_malformed_header_is_rejected_as_such(changed: dict[str, str]) -> None:
    assert reason_of(headers_of(BODY) | changed) is Reason.MALFORMED


@pytest.mark.parametrize("signature", UNMATCHED.values(), ids=UNMATCHED)
def test_signature_that_does_not_match_is_rejected(signature: str) -> None:
    with pytest.raises(SignatureInvalid) as caught:
        webhook(SECRET, PUBLIC_KEY).unwrap(BODY, headers_of(BODY, signature))
    assert caught.value.reason is Reason.NO_MATCH


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("is_empty", [True, False])
def test_missing_header_is_named(name: str, *, is_empty: bool) -> None:
    headers = headers_of(BODY) | {name: ""}
    if not is_empty:
        del headers[name]
    with pytest.raises(SignatureInvalid, match=f"^The header {name} is missing.$") as caught:
        webhook().unwrap(BODY, headers)
    assert caught.value.reason is Reason.MISSING


@pytest.mark.parametrize(
    ("age", "reason"), [(301, Reason.EXPIRED), (-301, Reason.EARLY), (NOW, Reason.EXPIRED), (-(10**12), Reason.EARLY)]
)
def test_request_outside_the_tolerance_is_rejected(age: int, reason: Reason) -> None:
    assert reason_of(headers_of(BODY, timestamp=NOW - age)) is reason


@pytest.mark.parametrize(
    ("age", "line"),
    [
        (7_200, "The request was signed 7200 s ago, more than 300 s. Check the clock."),
        (-7_200, "The request was signed 7200 s in the future, more than 300 s. Check the clock."),
    ],
)
def test_wrong_clock_is_named(age: int, line: str) -> None:
    with pytest.raises(SignatureInvalid) as caught:
        webhook().unwrap(BODY, headers_of(BODY, timestamp=NOW - age))

    assert str(caught.value) == line


def test_end_of_an_id_cannot_be_passed_off_as_the_timestamp_of_another_body() -> None:
    # The signed text of both requests is the same.
    body = b'%d.{"paid": true}' % NOW
    signature = v1(body, timestamp=NOW - 10)
    forged = headers_of(b"", signature) | {"webhook-id": f"{MESSAGE_ID}.{NOW - 10}"}
    assert reason_of(forged, b'{"paid": true}') is Reason.MALFORMED


def test_versions_that_are_not_known_are_named() -> None:
    with pytest.raises(SignatureInvalid, match="only V1, v2") as caught:
        webhook().unwrap(BODY, headers_of(BODY, "v2,AAAA", v1(BODY).replace("v1", "V1")))
    assert caught.value.reason is Reason.UNKNOWN_VERSION


@pytest.mark.parametrize(
    ("secret", "signature", "hint"),
    [
        (SECRET, v1a(BODY), "need a public key"),
        (PUBLIC_KEY, v1(BODY), "need a secret"),
        (OTHER_SECRET, v1(BODY), "raw"),
    ],
)
def test_rejection_tells_a_secret_of_the_wrong_kind_from_a_wrong_one(secret: str, signature: str, hint: str) -> None:
    with pytest.raises(SignatureInvalid, match=hint) as caught:
        webhook(secret).unwrap(BODY, headers_of(BODY, signature))
    assert caught.value.reason is Reason.NO_MATCH


def test_body_above_the_limit_is_rejected() -> None:
    webhook(max_bytes=len(BODY)).verify(BODY, headers_of(BODY))
    assert reason_of(headers_of(BODY), max_bytes=len(BODY) - 1) is Reason.TOO_LARGE


def test_signed_headers_verify_with_any_of_the_secrets_of_a_receiver() -> None:
    signing, receiver = Webhook(SECRET), Webhook(["whsec_" + "A" * 32, SECRET])
    headers = {**signing.sign(BODY, message_id="m-1"), "content-type": "application/json"}

    assert receiver.unwrap(BODY, headers).id == "m-1"
    with pytest.raises(SignatureInvalid):
        receiver.unwrap(BODY + b" ", headers)
    with pytest.raises(ConfigurationError, match="A public key cannot sign"):
        Webhook(PUBLIC_KEY).sign(BODY)


def test_rejection_is_picklable() -> None:
    error = pickle.loads(pickle.dumps(SignatureInvalid(Reason.EXPIRED, "Too old.")))  # noqa: S301 - of this test
    assert (error.reason, str(error), error.status) == (Reason.EXPIRED, "Too old.", 401)


def test_parsed_body_is_a_mistake_of_the_program() -> None:
    parsed: Any = '{"order": 17}'
    with pytest.raises(TypeError, match="must be the bytes of the request, before any parsing, not str"):
        webhook().unwrap(parsed, headers_of(BODY))


# Secrets


@pytest.mark.parametrize(
    "secret",
    [SECRET, SECRET.removeprefix("whsec_"), SECRET.rstrip("="), f" {SECRET}\n"],
    ids=["as shown", "without prefix", "without padding", "with spaces"],
)
def test_secret_is_taken_in_every_form_that_tools_give_it(secret: str) -> None:
    webhook(secret).verify(BODY, headers_of(BODY))


NO_POINTS = [("whpk_" + b64encode(key).decode(), "names a point") for key in (b"\xff" * 32, b"\x02" + bytes(31))]


@pytest.mark.parametrize(("secret", "detail"), [*UNUSABLE_SECRETS, *NO_POINTS])
def test_secret_that_cannot_be_used_is_an_error_that_does_not_show_it(secret: str, detail: str) -> None:
    with pytest.raises(ConfigurationError, match=detail) as caught:
        Webhook(secret)
    assert secret.strip() == "" or secret[6:] not in str(caught.value) or len(secret) <= 6


def test_secrets_come_from_the_environment_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCUE_WEBHOOK_SECRET", f"{OTHER_SECRET} {SECRET}\n")
    Webhook(now=lambda: NOW).verify(BODY, headers_of(BODY))

    monkeypatch.delenv("DISCUE_WEBHOOK_SECRET")
    with pytest.raises(ConfigurationError, match="pass it, or set DISCUE_WEBHOOK_SECRET"):
        Webhook()


# Data


@dataclass
class Order:
    order: int


Model: Any = pydantic.create_model("Model", order=(int, ...))


@pytest.mark.parametrize(
    ("body", "content_type", "data"),
    [
        (b'{"a": [1, null]}', "application/json", {"a": [1, None]}),
        (b'{"a": 1}', "Application/Vnd.Shop+JSON; charset=utf-8", {"a": 1}),
        (b"null", "application/json", None),
        ("grün".encode(), "text/plain; charset=utf-8", "grün"),
        ("grün".encode("latin-1"), 'text/plain; charset="latin-1"', "grün"),
        (b"a,b", "text/csv", "a,b"),
        (b"\xff", "application/octet-stream", b"\xff"),
        (b"\xff", "", b"\xff"),
        (b"", "", None),
    ],
)
def test_content_type_decides_how_data_is_decoded(body: bytes, content_type: str, data: object) -> None:
    assert webhook().unwrap(body, headers_of(body) | {"content-type": content_type}).data == data


def test_data_is_decoded_to_the_type_that_is_asked_for() -> None:
    event: Event[Order] = webhook().unwrap(BODY, headers_of(BODY), Order)
    assert event.data.order == 17
    assert webhook().unwrap(b"[1]", headers_of(b"[1]"), list[int]).data == [1]


def test_data_is_decoded_to_pydantic_models() -> None:
    assert webhook().unwrap(BODY, headers_of(BODY), Model).data == Model(order=17)
    body = b'[{"order": 17}]'
    assert webhook().unwrap(body, headers_of(body), list[Model]).data == [Model(order=17)]


@pytest.mark.parametrize(
    ("body", "content_type", "data_type"),
    [
        (b"{", "application/json", Any),
        (b"", "application/json", Any),
        (b"\xff", "application/json", Any),
        (b"[" * 100_000, "application/json", Any),
        (b"{}", "application/json", Order),
        (b'{"order": "x"}', "application/json", Model),
        (b'[{"order": "x"}]', "application/json", list[Model]),
        (b"\xff", "text/plain", Any),
        (b"a", "text/plain; charset=nothing", Any),
        (b"a", "text/plain; charset=hex", Any),
        (b"17", "text/plain", int),
        (b"17", "application/octet-stream", Model),
        (b"", "", Order),
    ],
)
def test_data_of_another_type_is_an_error_of_one_line(body: bytes, content_type: str, data_type: Any) -> None:
    with pytest.raises(DataInvalid) as caught:
        webhook().unwrap(body, headers_of(body) | {"content-type": content_type}, data_type)
    assert str(caught.value).startswith("The data is not acceptable: ")
    assert "\n" not in str(caught.value)


def test_data_is_not_decoded_before_it_is_verified() -> None:
    assert reason_of(headers_of(b"{}"), b"{") is Reason.NO_MATCH


# CloudEvents

ATTRIBUTES = {"specversion": "1.0", "id": "e-1", "source": "/shop", "type": "order.paid"}


def structured(**members: Any) -> Event[Any]:
    body = msgspec.json.encode(ATTRIBUTES | members)
    return webhook().unwrap(body, headers_of(body) | {"content-type": "application/cloudevents+json; charset=utf-8"})


@pytest.mark.parametrize(
    ("members", "data"),
    [
        ({"data": {"order": 17}}, {"order": 17}),
        ({"data": "a", "datacontenttype": "text/plain"}, "a"),
        ({"data_base64": "/w==", "datacontenttype": "application/octet-stream"}, b"\xff"),
        ({"data_base64": "eyJhIjoxfQ==", "datacontenttype": "application/json"}, {"a": 1}),
        ({"data": None}, None),
        ({}, None),
    ],
)
def test_structured_event_gives_its_data(members: dict[str, Any], data: object) -> None:
    assert structured(**members).data == data


def test_structured_event_gives_its_attributes_as_text() -> None:
    assert structured(subject="grün", n=3, f=False, gone=None).attributes == {
        **ATTRIBUTES,
        "subject": "grün",
        "n": "3",
        "f": "false",
    }


def test_binary_event_gives_its_data_and_decoded_attributes() -> None:
    headers = headers_of(BODY, **{f"ce_{name}": value for name, value in ATTRIBUTES.items()}, ce_subject="gr%C3%BCn")
    event = webhook().unwrap(BODY, headers, Order)

    assert event.data == Order(17)
    assert event.attributes == {**ATTRIBUTES, "subject": "grün", "datacontenttype": "application/json"}


def test_type_of_a_message_is_in_its_own_header() -> None:
    assert webhook().unwrap(BODY, headers_of(BODY, discue_sequence="17")).sequence == 17
    assert webhook().unwrap(BODY, headers_of(BODY, discue_sequence="x")).sequence is None
    assert webhook().unwrap(BODY, headers_of(BODY, discue_type="order.paid")).type == "order.paid"
    assert webhook().unwrap(BODY, headers_of(BODY)).type is None


def test_message_with_a_type_but_no_version_is_no_event() -> None:
    assert webhook().unwrap(BODY, headers_of(BODY, ce_type="order.paid")).attributes == {}


@pytest.mark.parametrize(
    "members",
    [
        {"specversion": "0.3"},
        {"id": None},
        {"type": ""},
        {"x": [1]},
        {"x": 1.5},
        {"data_base64": "!"},
        {"data_base64": 1},
    ],
)
def test_malformed_structured_event_is_invalid_data(members: dict[str, Any]) -> None:
    with pytest.raises(DataInvalid):
        structured(**members)


@pytest.mark.parametrize("changed", [{"ce-specversion": "2.0"}, {"ce-id": ""}, {"ce-subject": "%FF"}])
def test_malformed_binary_event_is_invalid_data(changed: dict[str, str]) -> None:
    headers = headers_of(BODY, **{f"ce_{name}": value for name, value in ATTRIBUTES.items()})
    with pytest.raises(DataInvalid):
        webhook().unwrap(BODY, headers | changed)


# Duplicates


def test_deduplication_key_tells_replays_from_attempts() -> None:
    assert webhook().unwrap(BODY, headers_of(BODY)).deduplication_key == MESSAGE_ID
    assert webhook().unwrap(BODY, headers_of(BODY, discue_replay="r-1")).deduplication_key == f"{MESSAGE_ID}/r-1"


def test_event_that_was_seen_is_a_duplicate() -> None:
    handled = {MESSAGE_ID}
    receiving = webhook(seen=lambda event: event.deduplication_key in handled)

    with pytest.raises(Duplicate):
        receiving.unwrap(BODY, headers_of(BODY))
    receiving.unwrap(BODY, headers_of(BODY, discue_replay="r-1"))


def test_request_that_is_not_genuine_is_never_looked_up() -> None:
    def fail(event: Event[Any]) -> bool:
        raise AssertionError(event)

    assert reason_of(headers_of(b"{}"), BODY, seen=fail) is Reason.NO_MATCH
