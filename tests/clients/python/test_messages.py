"""The fields of messages to publish: forms that Python programs have, and those of the API."""

import time
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from discue_client import wire
from discue_client.messages import MessageFields, message_fields

MIDNIGHT = datetime(2026, 11, 27, tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"delay": 1.2}, {"delay": 2}),
        ({"delay": timedelta(hours=1)}, {"delay": 3600}),
        ({"deliver_at": MIDNIGHT}, {"deliver_at": 1_795_734_000_000}),
        ({"expires_at": 5}, {"expires_at": 5}),
        ({"key": None, "alias": "a"}, {"alias": "a"}),
    ],
)
def test_fields_are_sent_as_the_api_counts_them(fields: MessageFields, sent: dict[str, object]) -> None:
    assert message_fields("x", **fields) == {"data": "x", **sent}


@pytest.mark.parametrize("expires_in", [60, timedelta(minutes=1)])
def test_expiry_counts_from_now(expires_in: float | timedelta) -> None:
    before = time.time()

    found = message_fields(None, expires_in=expires_in)

    assert before + 60 - 0.001 <= found["expires_at"] / 1000 <= time.time() + 60.001
    assert found.keys() == {"data", "expires_at"}


def test_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="The time 2026-11-27 00:00:00 has no time zone"):
        message_fields("x", deliver_at=datetime(2026, 11, 27))  # noqa: DTZ001 - the mistake


@pytest.mark.parametrize("data", [object(), {"a": object()}])
def test_data_without_a_json_form_is_refused(data: Any) -> None:
    with pytest.raises(TypeError, match="object has no JSON form: publish its fields, or bytes"):
        wire.encode(message_fields(data))


@pytest.mark.parametrize("data", [float("nan"), {"a": [None, float("inf")]}])
def test_number_that_json_does_not_have_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        wire.encode(message_fields(data))


@pytest.mark.parametrize("data", [None, "null", {"a": None, 1: MIDNIGHT}, {"a": msgspec.Raw(b"null")}])
def test_null_is_data_like_any_other(data: Any) -> None:
    assert b"null" in wire.encode(message_fields(data))


@pytest.mark.parametrize("name", ["delay", "expires_in"])
def test_error_for_a_period_that_is_text_names_the_field(name: str) -> None:
    fields: Any = {name: "5m"}
    with pytest.raises(TypeError, match=f"^{name} must be a number of seconds or a timedelta, not '5m'"):
        message_fields("x", **fields)
