"""Bodies are decoded strictly: no member occurs twice, however it is written, and `data` stays the client's own."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import fields

from discue.api.decoding import BodyDecoder, body_error
from discue.api.resources.api_keys import ApiKeyBody
from discue.api.resources.jobs import RedeliveryBody
from discue.api.resources.listeners import ListenerBody
from discue.api.resources.messages import BatchBody, MessageBody
from discue.api.structs import Body
from discue.domain.errors import BadRequest, PayloadTooLarge
from discue.product import ROUTES

_MESSAGE_FIELDS = (
    "; known names: alias, content_type, data, data_base64, delay, deliver_at, expires_at, headers, key, name, retry, "
    "type"
)
_WRAP = '; wrap it in `data`: {"data": {…}}'

message = BodyDecoder(MessageBody)
batch = BodyDecoder(BatchBody)

names = st.sampled_from(["alias", "name", "id", "created_at", "deliveries"])
texts = st.text(max_size=30) | st.none()
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
escapes = st.sampled_from(["escaped", "as they are"])
separators = st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")])
members = st.lists(st.tuples(names, texts), max_size=4)


def written(pairs: list[tuple[str, Any]], separator: tuple[str, str], *, ascii_only: bool = False) -> str:
    """An object's text with its members in this order, doubles included."""
    between, colon = separator
    return (
        "{"
        + between.join(
            json.dumps(name) + colon + json.dumps(value, separators=separator, ensure_ascii=ascii_only)
            for name, value in pairs
        )
        + "}"
    )


@given(pairs=members, data=values, place=st.integers(0, 4), separator=separators, characters=escapes)
def test_a_member_that_occurs_twice_is_always_refused_and_no_other_body_ever_is(
    pairs: list[tuple[str, Any]], data: Any, place: int, separator: tuple[str, str], characters: str
) -> None:
    pairs.insert(place, ("data", data))
    text = written(pairs, separator, ascii_only=characters == "escaped")
    if len({name for name, _ in pairs}) == len(pairs):
        body = message.decode(text.encode())
        assert json.loads(bytes(body.data)) == data
    else:
        with pytest.raises(BadRequest, match="occurs twice"):
            message.decode(text.encode())


@given(first=values, second=values, separator=separators)
def test_data_that_occurs_twice_is_refused_whatever_its_values(
    first: Any, second: Any, separator: tuple[str, str]
) -> None:
    text = written([("data", first), ("data", second)], separator, ascii_only=True)
    with pytest.raises(BadRequest) as refused:
        message.decode(text.encode())
    assert refused.value.faults[0].pointer == "/data"


@given(drafts=st.lists(members, min_size=1, max_size=4), separator=separators)
def test_a_batch_is_refused_exactly_when_one_of_its_messages_is(
    drafts: list[list[tuple[str, Any]]], separator: tuple[str, str]
) -> None:
    texts_of = [written([*pairs, ("data", 1)], separator, ascii_only=True) for pairs in drafts]
    content = f'{{"messages":[{",".join(texts_of)}]}}'.encode()
    if all(len({name for name, _ in pairs}) == len(pairs) for pairs in drafts):
        assert len(batch.decode(content).messages) == len(drafts)
    else:
        with pytest.raises(BadRequest, match=r"/messages/[0-9]/[a-z_]+ occurs twice"):
            batch.decode(content)


@given(pairs=members, data=values)
def test_no_text_of_a_value_is_shorter_than_its_least_length(pairs: list[tuple[str, Any]], data: Any) -> None:
    content = written([*dict(pairs).items(), ("data", data)], (",", ":"), ascii_only=False).encode()
    assert message.decode(content).least_bytes() <= len(content)


def test_the_shortest_second_member_is_found() -> None:
    with pytest.raises(BadRequest, match="/data occurs twice"):
        message.decode(b'{"data":1,"data":2}')


@pytest.mark.parametrize(
    "data",
    [b'{"a":1,"a":2}', b"1.0e999", b" [1 ,2]", b'{"data":1}', b'"\\u00e9\\u0000"', b"-0", b'{"z":1,"a":2}', b"null"],
)
def test_data_is_kept_byte_for_byte(data: bytes) -> None:
    assert bytes(message.decode(b'{"alias":"name" , "data":' + data + b"}").data) == data.strip()


def test_duplicate_field_next_to_long_data_is_found_without_parsing_the_data() -> None:
    long = b"[" + b"1, " * 100_000 + b"1]"
    for twice in (b'{"data":%b,"data":%b}' % (long, long), b'{"data":%b,"alias":"name" , "alias":"name"}' % long):
        with pytest.raises(BadRequest, match="occurs twice"):
            message.decode(twice)
    assert bytes(message.decode(b'{            "data":%b}' % long).data) == long


def test_a_double_in_the_last_of_many_long_messages_is_pointed_at() -> None:
    one = json.dumps({"data": {"text": "x" * 1_000, "data": [1, 1]}}, indent=4)
    last = one.replace('"data"', '"data": 1, "data"', 1)
    assert len(batch.decode(f'{{"messages": [{",".join([one] * 10)}]}}'.encode()).messages) == 10
    with pytest.raises(BadRequest) as refused:
        batch.decode(f'{{"messages": [{",".join([*[one] * 9, last])}]}}'.encode())
    assert refused.value.faults[0].pointer == "/messages/9/data"


def test_fields_besides_data_are_limited() -> None:
    message.decode(b'{"data":1,"id":"%b"}' % (b"x" * 60_000))
    with pytest.raises(BadRequest, match="too large"):
        message.decode(b'{"data":1,"id":"%b"}' % (b"x" * 70_000))


def test_fields_of_a_body_without_data_are_limited() -> None:
    with pytest.raises(PayloadTooLarge, match="at most 66048 are allowed"):
        BodyDecoder(ListenerBody).decode(b'{"alias":"%b"}' % (b"x" * 70_000))


@given(st.binary(max_size=60))
def test_no_bytes_at_all_raise_anything_but_a_bad_request(content: bytes) -> None:
    for decoder in (message, batch, BodyDecoder(ApiKeyBody), BodyDecoder(ListenerBody)):
        with suppress(BadRequest):
            decoder.decode(content)


@pytest.mark.parametrize(
    ("text", "pointer", "detail"),
    [
        ("Object contains unknown field `a`", "/a", "is not a known field"),
        ("Object contains unknown field `a/~b` - at `$.messages[3]`", "/messages/3/a~1~0b", "is not a known field"),
        ("Object missing required field `data` - at `$.messages[0]`", "/messages/0/data", "is required"),
        ("Expected `str | null`, got `int` - at `$.alias`", "/alias", "must be a string or null, not an integer"),
        ("Expected `object`, got `array`", "", "must be an object, not an array"),
        ("Something new - at `$.a[...].b`", "/a/*/b", "is invalid: something new"),
    ],
)
def test_the_decoders_words_become_a_pointer_and_a_rule(text: str, pointer: str, detail: str) -> None:
    assert body_error(text, None).faults == ((pointer, detail),)


@pytest.mark.parametrize(
    ("decoder", "content", "pointer", "hint"),
    [
        (message, b'{"data":1,"expire_at":5}', "/expire_at", "; did you mean expires_at?"),
        (batch, b'{"messages":[{"dota":1}]}', "/messages/0/dota", "; did you mean data?"),
        (BodyDecoder(ListenerBody), b'{"retry":{"attemps":3}}', "/retry/attemps", "; did you mean attempts?"),
        (
            BodyDecoder(ListenerBody),
            b'{"authentication":{"usrname":"a"}}',
            "/authentication/usrname",
            "; did you mean username?",
        ),
        (
            BodyDecoder(ListenerBody),
            b'{"rate_limit":{"limit":5}}',
            "/rate_limit/limit",
            "; known names: burst, per_second",
        ),
        (message, b'{"order":17}', "/order", _WRAP),
        (message, b'{"key":"a","order":17}', "/order", _WRAP),
        (message, b'{"order":17,"data":{"data":1}}', "/order", _MESSAGE_FIELDS),
        (message, b'{"order":17,"data_base64":"AA=="}', "/order", _MESSAGE_FIELDS),
        (message, b'{"order":17', "/order", _MESSAGE_FIELDS),
        (message, b'{"dat":17}', "/dat", "; did you mean data?"),
        (batch, b'{"messages":[{"data":1},{"order":17}]}', "/messages/1/order", _WRAP),
        (batch, b'{"messages":[{"order":17},5]}', "/messages/0/order", _MESSAGE_FIELDS),
        (BodyDecoder(ListenerBody), b'{"url":"https://example.com"}', "/url", "; did you mean notify_url?"),
    ],
)
def test_unknown_field_gets_a_hint_that_fits(
    decoder: BodyDecoder[Body], content: bytes, pointer: str, hint: str
) -> None:
    with pytest.raises(BadRequest) as raised:
        decoder.decode(content)

    assert raised.value.code == "unknown_field"
    assert raised.value.faults == ((pointer, f"is not a known field{hint}"),)


@pytest.mark.parametrize("name", ["secret_key", "tags"])
def test_unknown_field_without_a_near_name_gets_all_that_are_not_read_only(name: str) -> None:
    with pytest.raises(BadRequest) as raised:
        BodyDecoder(ListenerBody).decode(b'{"%b":1}' % name.encode())

    rule = raised.value.faults[0].detail
    assert rule.startswith("is not a known field; known names: alias, authentication, ")
    assert rule.endswith(", trace, transform, types")
    assert "created_at" not in rule


@pytest.mark.parametrize(
    ("decoder", "content", "pointer"),
    [
        (message, b'{"data":1,"headers":{"a":"b","x/~":5,"y":6}}', "/headers/x~1~0"),
        (message, b'{"data":1,"headers":{"x":"a","%b":null}}' % (b"y" * 300), "/headers/" + "y" * 100),
        (batch, b'{"messages":[{"data":1},{"data":1,"headers":{"x":["y"]}}]}', "/messages/1/headers/x"),
        (BodyDecoder(ListenerBody), b'{"headers":{"x":{}}}', "/headers/x"),
        # The name is not known if the rest of the body cannot be read, or has the name again.
        (message, b'{"data":1,"headers":{"x":5}', "/headers/*"),
        (message, b'{"data":1,"headers":{"x":5},"headers":null}', "/headers/*"),
        (message, b'{"data":1,"headers":{"x":5,"x":"y"}}', "/headers/*"),
    ],
)
def test_header_whose_value_is_not_a_string_is_named(decoder: BodyDecoder[Body], content: bytes, pointer: str) -> None:
    with pytest.raises(BadRequest) as raised:
        decoder.decode(content)

    assert raised.value.faults[0].pointer == pointer


_TIMES = {
    *(
        (route.request, f'{{"{field.encode_name}":%s}}')
        for route in ROUTES
        for field in fields(route.request)
        if field.encode_name.endswith("_at") and field.default is UNSET
    ),
    (RedeliveryBody, '{"filter":{"created_after":%s}}'),
    (BatchBody, '{"messages":[{"data":1,"deliver_at":%s}]}'),
}


@pytest.mark.parametrize(("kind", "body"), sorted(_TIMES, key=str))
@pytest.mark.parametrize(("value", "sent"), [('"2026-07-01T12:00:00Z"', "a string"), ("1.5", "a number")])
def test_time_that_is_not_an_integer_gets_the_unit(kind: type[Body], body: str, value: str, sent: str) -> None:
    with pytest.raises(BadRequest) as raised:
        BodyDecoder(kind).decode((body % value).encode())

    [(_, detail)] = raised.value.faults
    assert detail == f"must be a time in milliseconds since the epoch, not {sent}"
