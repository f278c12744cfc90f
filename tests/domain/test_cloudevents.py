"""CloudEvents for listeners and from producers."""

import json
from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_binary_event, to_structured_event
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.cloudevents import (
    DeliveryFormat,
    Event,
    EventMessage,
    event_of,
    parse_binary_event,
    parse_structured_event,
)
from discue.domain.errors import BadRequest, DiscueError, Unprocessable
from discue.domain.headers import Headers, is_header_allowed
from discue.domain.message_data import BYTES, JSON_VALUE, TEXT, Codec
from discue.domain.messages import Entry

# Events for listeners

QUEUE = "0VbuJFSo00H8Lq7zazFOL"
MESSAGE = "0VbuJFW500I0yWwoGXXf6"
AT = 1_795_536_280_007
MODES: tuple[DeliveryFormat, ...] = get_args(DeliveryFormat)[1:]

modes = pytest.mark.parametrize("mode", MODES)


def made(
    mode: DeliveryFormat, body: bytes = b'{"order": 17}', headers: Headers = (), codec: Codec = JSON_VALUE
) -> Event:
    return event_of(Entry(1, MESSAGE, AT, codec, body), mode, QUEUE, headers)


def read(event: Event) -> BaseCloudEvent:
    return from_http_event(HTTPMessage({"content-type": event.media_type, **dict(event.headers)}, event.body))


@modes
def test_event_has_the_id_time_queue_and_data_of_the_message(mode: DeliveryFormat) -> None:
    event = read(made(mode))
    assert (event.get_specversion(), event.get_id(), event.get_type()) == ("1.0", MESSAGE, "io.discue.message")
    assert event.get_source() == f"/v1/queues/{QUEUE}"
    time = event.get_time()
    assert time is not None
    assert round(time.timestamp() * 1_000) == AT
    assert event.get_datacontenttype() == "application/json"
    assert event.get_data() == {"order": 17}


@modes
def test_event_has_the_type_of_the_message_unless_a_header_sets_another(mode: DeliveryFormat) -> None:
    entry = Entry(1, MESSAGE, AT, JSON_VALUE, b"1")
    event = event_of(entry, mode, QUEUE, (), event_type='order.50%"')
    decoded = "order.50%25%22" if mode == "cloudevents_binary" else 'order.50%"'
    named = json.loads(event.body)["type"] if mode == "cloudevents_structured" else dict(event.headers)["ce-type"]
    assert named == decoded
    assert read(event_of(entry, mode, QUEUE, (("ce-type", "own"),), event_type="order.paid")).get_type() == "own"


@modes
def test_headers_set_only_other_attributes(mode: DeliveryFormat) -> None:
    given_headers = (
        ("CE-Type", "order.paid"),
        ("ce-source", "https://shop.example.com"),
        ("ce-subject", "17"),
        ("ce-tenant", "north"),
        ("ce-id", "mine"),
        ("ce-time", "yesterday"),
        ("ce-specversion", "0.1"),
        ("ce-datacontenttype", "image/png"),
        ("X-Trace", "7"),
        ("ce-not-one", "stays"),
    )
    made_event = made(mode, headers=given_headers)
    event = read(made_event._replace(headers=tuple(each for each in made_event.headers if each[0] != "ce-not-one")))
    assert (event.get_id(), event.get_type(), event.get_source()) == (MESSAGE, "order.paid", "https://shop.example.com")
    assert (event.get_subject(), event.get_extension("tenant"), event.get_specversion()) == ("17", "north", "1.0")
    assert event.get_datacontenttype() == "application/json"
    names = [name.lower() for name, _ in made_event.headers]
    assert len(names) == len(set(names))
    assert made_event.headers[-2:] == (("X-Trace", "7"), ("ce-not-one", "stays"))


def test_json_data_is_embedded_byte_for_byte() -> None:
    body = b' {"n": 1e400, "n": 18446744073709551616} '
    assert made("cloudevents_binary", body).body == body
    structured = made("cloudevents_structured", body)
    assert structured.body.endswith(b',"data":' + body + b"}")
    assert structured.media_type == "application/cloudevents+json; charset=utf-8"


@modes
def test_text_is_embedded_as_a_string(mode: DeliveryFormat) -> None:
    event = made(mode, 'say "é"\n'.encode(), codec=TEXT)
    if mode == "cloudevents_binary":
        assert (event.body.decode(), event.media_type) == ('say "é"\n', "text/plain; charset=utf-8")
    else:
        document = json.loads(event.body)
        assert (document["data"], document["datacontenttype"]) == ('say "é"\n', "text/plain; charset=utf-8")


@given(
    data=st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    ),
    names=st.dictionaries(
        st.from_regex(r"[Cc][Ee]-[a-z0-9]{1,20}", fullmatch=True),
        st.from_regex(r"[!-~]{1,20}", fullmatch=True),
        max_size=5,
    ),
    mode=st.sampled_from(MODES),
)
def test_any_message_is_a_valid_event(data: Any, names: dict[str, str], mode: DeliveryFormat) -> None:
    unique = {name.lower(): (name, value) for name, value in names.items()}
    event = made(mode, json.dumps(data).encode(), tuple(unique.values()))
    assert all(is_header_allowed(name, value) for name, value in event.headers)
    if mode == "cloudevents_binary":
        assert json.loads(event.body) == data
        assert {"ce-id", "ce-source", "ce-type", "ce-specversion", "ce-time"} <= {name for name, _ in event.headers}
    else:
        document = json.loads(event.body)
        assert (document["data"], document["id"], event.headers) == (data, MESSAGE, ())


# Events from producers

MINIMAL = {"specversion": "1.0", "id": "one", "source": "/shop", "type": "order.paid"}
WHOLE = {
    **MINIMAL,
    "subject": 'café "17" 100%',
    "time": "2026-07-01T12:00:00.5Z",
    "dataschema": "https://example.com/schema",
    "tenant": "north",
    "partitionkey": "customer-9",
}

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def document(**members: Any) -> EventMessage:
    return parse_structured_event(_members(json.dumps({**MINIMAL, **members}).encode()))


def received(sent: EventMessage, mode: DeliveryFormat) -> HTTPMessage:
    """Return the event as a listener receives it."""
    entry = Entry(1, "m" * 21, 5, sent.codec, sent.data)
    event = event_of(entry, mode, "q" * 21, sent.headers, media_type=sent.media_type)
    return HTTPMessage({"content-type": event.media_type, **dict(event.headers)}, event.body)


def by_header(message: HTTPMessage) -> EventMessage:
    attributes = {name[3:].lower(): value for name, value in message.headers.items() if name.lower().startswith("ce-")}
    types = {name.lower(): value for name, value in message.headers.items()}
    return parse_binary_event(attributes, types.get("content-type", ""), bytes(message.body))


@modes
@pytest.mark.parametrize(
    ("sending", "media_type", "data"),
    [
        ("binary", "application/json", {"order": 17, "note": "é"}),
        ("structured", "application/json", {"order": 17, "note": "é"}),
        # In binary mode, the SDK encodes data as JSON only for exactly that media type.
        ("structured", "application/vnd.shop+json", [1, "two"]),
        ("binary", "text/plain", "say é"),
        ("structured", "text/plain", "say é"),
        ("binary", "application/xml; charset=utf-8", "<order/>"),
        ("binary", "image/png", b"\x89PNG\xff"),
        ("structured", "image/png", b"\x89PNG\xff"),
    ],
)
def test_event_of_the_sdk_is_delivered_unchanged(
    sending: str, mode: DeliveryFormat, media_type: str, data: Any
) -> None:
    time = datetime(2026, 7, 1, 12, 0, 0, 500_000, tzinfo=UTC)
    event = CloudEvent({**WHOLE, "time": time, "datacontenttype": media_type}, data)
    if sending == "binary":
        sent = by_header(to_binary_event(event, JSONFormat()))
    else:
        sent = parse_structured_event(_members(to_structured_event(event, JSONFormat()).body))
    assert sent.key == "customer-9"
    again = from_http_event(received(sent, mode))
    assert again.get_attributes() == event.get_attributes()
    read = again.get_data()
    assert (read.decode() if isinstance(read, bytes) and isinstance(data, str) else read) == data


@modes
def test_event_without_data_has_no_data(mode: DeliveryFormat) -> None:
    for sent in (document(), parse_binary_event(MINIMAL, "", b"")):
        assert (sent.data, sent.codec, sent.media_type) == (b"", TEXT, "")
        again = received(sent, mode)
        if mode == "cloudevents_structured":
            assert json.loads(again.body) == MINIMAL
        else:
            assert again.body == b""


def test_event_data_is_kept_byte_for_byte() -> None:
    data = b' {"n": 1e400, "n": 18446744073709551616} '
    assert parse_binary_event(MINIMAL, "application/json", data).data == data
    text = json.dumps(MINIMAL)[:-1].encode() + b',"data":' + data.strip() + b"}"
    assert parse_structured_event(_members(text)).data == data.strip()
    assert document(data_base64="eyJuIjoxfQ==").data == b'{"n":1}'
    assert document(data_base64="PGEvPg==", datacontenttype="text/xml").codec == BYTES
    assert document(data="5", datacontenttype="text/plain").data == b"5"


def test_attributes_become_headers() -> None:
    sent = document(subject='café "1" 5%', n=5, flag=True, none=None)
    assert dict(sent.headers)["ce-subject"] == "caf%C3%A9%20%221%22%205%25"
    assert {name: dict(sent.headers).get(f"ce-{name}") for name in ("n", "flag", "none")} == {
        "n": "5",
        "flag": "true",
        "none": None,
    }
    assert all(is_header_allowed(*header) for header in sent.headers)


@pytest.mark.parametrize("missing", sorted(MINIMAL))
def test_missing_attribute_is_rejected_by_name(missing: str) -> None:
    rest = {name: value for name, value in MINIMAL.items() if name != missing}
    with pytest.raises(BadRequest) as refusal:
        parse_binary_event(rest, "application/json", b"1")
    assert refusal.value.faults[0].pointer == f"/headers/ce-{missing}"
    with pytest.raises(BadRequest) as refusal:
        parse_structured_event(_members(json.dumps(rest).encode()), "/3")
    assert refusal.value.faults[0].pointer == f"/3/{missing}"


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"specversion": "0.3"}, "/specversion"),
        ({"id": ""}, "/id"),
        ({"id": "a\nb"}, "/id"),
        ({"source": "a b"}, "/source"),
        ({"time": "yesterday"}, "/time"),
        ({"time": "2026-02-30T00:00:00Z"}, "/time"),
        ({"partitionkey": "x" * 256}, "/partitionkey"),
        ({"Tenant": "x"}, "/Tenant"),
        ({"my-ext": "x"}, "/my-ext"),
        ({"ext": 1.5}, "/ext"),
        ({"ext": {}}, "/ext"),
        ({"datacontenttype": "json"}, "/datacontenttype"),
        ({"datacontenttype": "text/plain", "data": {}}, "/data"),
        ({"data": 1, "data_base64": "MQ=="}, "/data_base64"),
        ({"data_base64": "!"}, "/data_base64"),
        ({"data_base64": "/w=="}, "/data_base64"),
        ({"data_base64": "ew=="}, "/data_base64"),
        ({f"ext{number}": "x" for number in range(40)}, ""),
    ],
)
def test_invalid_event_is_rejected_with_pointers(members: dict[str, Any], pointer: str) -> None:
    with pytest.raises((BadRequest, Unprocessable)) as refusal:
        document(**members)
    assert refusal.value.faults[0].pointer == pointer


@pytest.mark.parametrize(
    ("attributes", "media_type", "data", "pointer"),
    [
        ({"datacontenttype": "text/plain"}, "text/plain", b"x", "/headers/ce-datacontenttype"),
        ({"data": "x"}, "text/plain", b"x", "/headers/ce-data"),
        ({"subject": "%ff"}, "text/plain", b"x", "/headers/ce-subject"),
        ({"my-ext": "x"}, "text/plain", b"x", "/headers/ce-my-ext"),
        ({}, "", b"x", ""),
        ({}, "nothing", b"x", "/headers/content-type"),
        ({}, "application/json", b"\x89PNG\xff", ""),
        ({}, "application/json", b"{", ""),
    ],
)
def test_invalid_binary_event_is_rejected_with_pointers(
    attributes: dict[str, str], media_type: str, data: bytes, pointer: str
) -> None:
    with pytest.raises((BadRequest, Unprocessable)) as refusal:
        parse_binary_event({**MINIMAL, **attributes}, media_type, data)
    assert refusal.value.faults[0].pointer == pointer


TEXTS = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=30)


@given(
    st.dictionaries(st.from_regex(r"x[a-z0-9]{1,10}", fullmatch=True), TEXTS, max_size=5),
    st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)),
    st.sampled_from(MODES),
)
def test_any_event_is_delivered_unchanged(extensions: dict[str, str], data: Any, mode: DeliveryFormat) -> None:
    try:
        sent = document(**extensions, data=data)
    except DiscueError:
        assert sum(map(len, extensions.values())) > 100
        return
    if mode == "cloudevents_binary":
        sent = by_header(received(sent, mode))
    again = json.loads(received(sent, "cloudevents_structured").body)
    assert again == {**MINIMAL, **extensions, "datacontenttype": "application/json", "data": data}
