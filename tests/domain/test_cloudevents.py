"""Messages as CloudEvents: the official SDK reads what was meant, in both modes."""

import json
from typing import Any, get_args

import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.cloudevents import DeliveryFormat, Event, event_of
from discue.domain.headers import Headers, is_header_allowed
from discue.domain.messages import Entry

QUEUE = "0VbuJFSo00H8Lq7zazFOL"
MESSAGE = "0VbuJFW500I0yWwoGXXf6"
AT = 1_795_536_280_007
MODES: tuple[DeliveryFormat, ...] = ("cloudevents_binary", "cloudevents_structured")

modes = pytest.mark.parametrize("mode", MODES)


def made(mode: DeliveryFormat, body: bytes = b'{"order": 17}', headers: Headers = (), *, is_json: bool = True) -> Event:
    return event_of(Entry(1, MESSAGE, AT, is_json, body), mode, QUEUE, headers)


def read(event: Event) -> BaseCloudEvent:
    return from_http_event(HTTPMessage({"content-type": event.media_type, **dict(event.headers)}, event.body))


def test_cloudevents_have_two_modes_in_addition_to_plain() -> None:
    assert get_args(DeliveryFormat) == ("plain", *MODES)


@modes
def test_an_event_has_the_messages_id_time_queue_and_data(mode: DeliveryFormat) -> None:
    event = read(made(mode))
    assert (event.get_specversion(), event.get_id(), event.get_type()) == ("1.0", MESSAGE, "io.discue.message")
    assert event.get_source() == f"/v1/queues/{QUEUE}"
    time = event.get_time()
    assert time is not None
    assert round(time.timestamp() * 1_000) == AT
    assert event.get_datacontenttype() == "application/json"
    assert event.get_data() == {"order": 17}


@modes
def test_headers_give_other_attributes_and_never_those_of_the_service(mode: DeliveryFormat) -> None:
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


def test_data_is_the_body_in_one_mode_and_stands_as_it_is_in_the_document_of_the_other() -> None:
    body = b' {"n": 1e400, "n": 18446744073709551616} '
    assert made("cloudevents_binary", body).body == body
    structured = made("cloudevents_structured", body)
    assert structured.body.endswith(b',"data":' + body + b"}")
    assert structured.media_type == "application/cloudevents+json; charset=utf-8"


@modes
def test_text_is_text(mode: DeliveryFormat) -> None:
    event = made(mode, 'say "é"\n'.encode(), is_json=False)
    if mode == "cloudevents_binary":
        assert (event.body.decode(), event.media_type) == ('say "é"\n', "text/plain; charset=utf-8")
    else:
        document = json.loads(event.body)
        assert (document["data"], document["datacontenttype"]) == ('say "é"\n', "text/plain; charset=utf-8")


def test_values_are_percent_encoded_in_headers_only() -> None:
    document = json.loads(made("cloudevents_structured", headers=(("ce-subject", "caf%C3%A9 %22x%22"),)).body)
    assert document["subject"] == 'café "x"'


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
def test_every_published_message_can_be_sent_as_one_event(
    data: Any, names: dict[str, str], mode: DeliveryFormat
) -> None:
    unique = {name.lower(): (name, value) for name, value in names.items()}
    event = made(mode, json.dumps(data).encode(), tuple(unique.values()))
    assert all(is_header_allowed(name, value) for name, value in event.headers)
    if mode == "cloudevents_binary":
        assert json.loads(event.body) == data
        assert {"ce-id", "ce-source", "ce-type", "ce-specversion", "ce-time"} <= {name for name, _ in event.headers}
    else:
        document = json.loads(event.body)
        assert (document["data"], document["id"], event.headers) == (data, MESSAGE, ())
