import io
import json
import logging
import threading
from collections.abc import Iterator
from enum import IntEnum
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.observability.logs import LINE_LIMIT_BYTES, LineFormatter, Log, LogFormat, configure, redact
from tests.cli.commands import kept_logging
from tests.support.clocks import StandingClock

KEY = "dsk_" + "0123456789ABCDEFGHIJK" + "sSeEcCrReEtT" * 3
SIGNING_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw="


class OwnStream(io.StringIO):
    """A stream that takes what its own thread writes: services of other tests may log on other threads."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def write(self, text: str) -> int:
        return super().write(text) if threading.get_ident() == self._thread else len(text)


class Lines:
    """A configured log, and the lines that it wrote."""

    def __init__(self, form: LogFormat, level: str = "debug") -> None:
        self.stream = OwnStream()
        self.clock = StandingClock(1_700_000_000_007)
        configure(form, level, self.clock, self.stream)
        thread = threading.get_ident()
        logging.getLogger().handlers[0].addFilter(lambda _: threading.get_ident() == thread)
        self.log = Log("test")

    def taken(self) -> list[str]:
        text = self.stream.getvalue()
        self.stream.seek(0)
        self.stream.truncate()
        return text.split("\n")[:-1]

    def only(self) -> str:
        (line,) = self.taken()
        return line


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    with kept_logging():
        yield


def test_text_line_has_time_level_event_and_fields_in_order() -> None:
    lines = Lines("text")
    lines.log.info("attempt", status=200, took_ms=1.5, acknowledged=True, alias="a/b", error=None)

    assert lines.only() == (
        "2023-11-14T22:13:20.007Z info attempt status=200 took_ms=1.5 acknowledged=true alias=a/b error=null"
    )


def test_json_line_is_one_object_with_typed_values() -> None:
    lines = Lines("json")
    lines.log.warning("attempt", status=HTTPStatus.OK, took_ms=1.5, acknowledged=False, alias="é", error=None)

    assert json.loads(lines.only()) == {
        "time": "2023-11-14T22:13:20.007Z",
        "level": "warning",
        "event": "attempt",
        "status": 200,
        "took_ms": 1.5,
        "acknowledged": False,
        "alias": "é",
        "error": None,
    }


@pytest.mark.parametrize("value", ["", "two words", 'say "x"', "a=b", "back\\slash", "line\nline", "\x1b[31m"])
def test_value_with_special_characters_is_quoted(value: str) -> None:
    lines = Lines("text")
    lines.log.info("x", value=value)
    quoted = lines.only().partition("value=")[2]

    assert json.loads(quoted) == value


@pytest.mark.parametrize("form", ["text", "json"])
def test_disabled_levels_write_nothing(form: LogFormat) -> None:
    lines = Lines(form, "warning")
    lines.log.info("b")
    assert not lines.log.is_debug
    assert lines.taken() == []

    lines.log.warning("c")
    lines.log.error("d")
    assert len(lines.taken()) == 2
    assert Lines(form, "debug").log.is_debug


def test_error_line_has_exception_and_traceback() -> None:
    lines = Lines("json")
    try:
        raise RuntimeError(f"no luck with {KEY}")
    except RuntimeError as error:
        lines.log.error("broken", exc_info=error, attempt=3)
    line = json.loads(lines.only())

    assert line["exception"] == "RuntimeError: no luck with dsk_01234567…"
    assert "test_error_line_has_exception_and_traceback" in line["trace"]
    assert KEY not in line["trace"]
    assert line["attempt"] == 3


def test_long_traceback_keeps_its_end() -> None:
    def deeper(depth: int) -> None:
        if depth:
            deeper(depth - 1)
        # Different lines, which Python does not fold into "repeated N more times".
        raise ValueError("x" * 500 + "the end")

    lines = Lines("json")
    try:
        deeper(0)
    except ValueError as error:
        lines.log.error("broken", exc_info=error, filler="y" * 3_000)
    line = lines.only()

    assert json.loads(line)["trace"].endswith("the end\n")
    assert len(line.encode()) < LINE_LIMIT_BYTES


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "name", ["secret", "key", "authorization", "x-api-key", "X-API-KEY", "api_key", "bootstrap_key", "Secret"]
)
def test_fields_with_secret_names_are_redacted(form: LogFormat, name: str) -> None:
    lines = Lines(form)
    lines.log.info("x", **{name: "open sesame"})
    line = lines.only()

    assert "sesame" not in line
    assert "[redacted]" in line


@pytest.mark.parametrize("form", ["text", "json"])
def test_secrets_are_redacted_everywhere(form: LogFormat) -> None:
    lines = Lines(form)
    lines.log.info(f"event {KEY}", url=f"https://x/?a={KEY}&b={SIGNING_SECRET}", body=KEY.encode(), many=[KEY, KEY])
    logging.getLogger("some.library").error("with %s and %s", KEY, SIGNING_SECRET)

    for line in lines.taken():
        assert KEY[:12] in line
        assert KEY[:13] not in line
        assert SIGNING_SECRET[:8] not in line


@given(
    st.text(),
    st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", min_size=43),
    st.text(),
)
def test_api_key_is_redacted_after_its_prefix(before: str, secret: str, after: str) -> None:
    shown = redact(f"{before} dsk_{secret} {after}")

    assert f"dsk_{secret[:8]}…" in shown
    assert f"dsk_{secret[:9]}" not in shown


@pytest.mark.parametrize(
    "text",
    ["a risk_factor, whsecret, dsk_", "postgresql://u@h:5432/d: no", "http://[::1]:80/a@b", "https://h:80/?x=a@b",
     "sqlite:///discue.db a@b", "by encryption_key or encryption_key_file."],
)  # fmt: skip
def test_text_without_secrets_is_unchanged(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"of whsk_{'a' * 43}= and {SIGNING_SECRET}", "of whsk_… and whsec_…"),
        (f"unknown argument --encryption-key={'a' * 43}=,{'b' * 43}=", "unknown argument --encryption-key=…"),
        (f"DISCUE_ENCRYPTION_KEY={'a-_/' * 11}", "DISCUE_ENCRYPTION_KEY=…"),
        ("at postgresql://u:hunter2@h:5432/d, or not", "at postgresql://u:…@h:5432/d, or not"),
        ("'postgres://u:hun/ter2@x?#@h,two/d'", "'postgres://u:…@h,two/d'"),
        ("https://u:hunter2@example.com/?at=a@b", "https://u:…@example.com/?at=a@b"),
        ("https://:hunter2@example.com", "https://:…@example.com"),
        ("postgresql://h/d?password=hunter2&sslpassword=hunter2", "postgresql://h/d?password=…&sslpassword=…"),
        ("host=db password=hunter2 dbname=d", "host=db password=… dbname=d"),
    ],
)
def test_passwords_in_urls_are_redacted(text: str, shown: str) -> None:
    assert redact(text) == shown


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("never")

    __repr__ = __str__


class HostileError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("never")


class Color(IntEnum):
    RED = 1


VALUES: st.SearchStrategy[Any] = st.one_of(
    st.text(st.characters(codec=None)),
    st.text('\x00\x1b\u2028\u202e\ud800\U0001f600é"\\=', max_size=9_000),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.binary(),
    st.lists(st.text()),
    st.sampled_from([Hostile(), Color.RED, 10**5_000, -(10**5_000), "x" * 100_000, KEY * 400]),
)
NAMES = st.one_of(
    st.text(max_size=100), st.sampled_from(["event", "time", "level", "truncated", "exc", "key", "self"])
).filter(lambda name: name != "exc_info")


def formatted(form: LogFormat, event: Any, fields: dict[str, Any], error: BaseException | None = None) -> str:
    lines = Lines(form)
    lines.log.error(event, exc_info=error, **fields)
    text = lines.stream.getvalue()
    assert text.endswith("\n")
    return text[:-1]


@given(st.sampled_from(["text", "json"]), VALUES, st.dictionaries(NAMES, VALUES, max_size=12))
def test_every_line_is_printable_and_within_the_limit(form: LogFormat, event: Any, fields: dict[str, Any]) -> None:
    line = formatted(form, event, fields, HostileError())

    assert line.isprintable()
    assert len(line.encode()) < LINE_LIMIT_BYTES
    if form == "json":
        decoded = json.loads(line)
        assert (decoded["time"], decoded["level"]) == ("2023-11-14T22:13:20.007Z", "error")
        assert isinstance(decoded["event"], str)


@pytest.mark.parametrize("form", ["text", "json"])
def test_truncated_line_says_so(form: LogFormat) -> None:
    line = formatted(form, "x", {"a": "x" * 9_000, "b": 1})

    assert "truncated" in line
    assert "truncated" not in formatted(form, "x", {"a": "x" * 7_000, "b": 1})


def test_unprintable_values_show_their_type() -> None:
    line = formatted("text", "x", {"a": Hostile(), "b": float("nan"), "c": 10**5_000})

    assert 'a="(unprintable Hostile)"' in line
    assert 'b="(float that JSON cannot represent)"' in line
    assert 'c="(int that JSON cannot represent)"' in line


@pytest.mark.parametrize("form", ["text", "json"])
def test_fields_cannot_replace_reserved_names(form: LogFormat) -> None:
    line = formatted(form, "x", {"level": "info", "event": "y", "time": "never"})

    assert "level_" in line
    assert "event_" in line
    assert "time_" in line


def test_libraries_log_from_warning_on() -> None:
    lines = Lines("json")
    logging.getLogger("some.library").info("quiet")
    logging.getLogger("some.library").warning("%d things\nhappened", 3)
    line = json.loads(lines.only())

    assert (line["level"], line["event"]) == ("warning", "library")
    assert (line["logger"], line["message"]) == ("some.library", "3 things\nhappened")


def test_library_message_with_a_broken_format_is_logged() -> None:
    record = logging.LogRecord("lib", logging.WARNING, "", 0, "%d things", ("no number",), None)

    assert 'message="%d things"' in LineFormatter("text", StandingClock()).format(record)


def test_configure_replaces_the_previous_configuration() -> None:
    first = Lines("text")
    second = Lines("json")
    second.log.info("x")

    assert first.taken() == []
    assert len(second.taken()) == 1


@pytest.mark.parametrize("form", ["text", "json"])
def test_same_warning_is_written_once_in_ten_seconds_with_a_count(form: LogFormat) -> None:
    lines = Lines(form)
    for apart_ms in (1_000, 8_900, 100):
        for _ in range(1_000):
            lines.log.warning("background_waits", work="a", reason="no disk")
        lines.clock.advance(apart_ms)
    assert len(lines.taken()) == 1
    lines.log.warning("background_waits", work="a", reason="no disk")
    [line] = lines.taken()
    assert "22:13:29.907Z" in line, "the time of the last one that is counted"
    assert line.endswith(',"repeated":2999}' if form == "json" else " repeated=2999")
    lines.clock.advance(9_900)
    lines.log.warning("background_waits", work="a", reason="no disk")
    assert lines.taken() == []
    lines.clock.advance(100)
    lines.log.info("server_stopped")
    repeated, stopped = lines.taken()
    assert "repeated" not in stopped
    assert repeated.endswith(',"repeated":2}' if form == "json" else " repeated=2")
    lines.clock.advance(10_000)
    lines.log.warning("background_waits", work="a", reason="no disk")
    assert "repeated" not in lines.only()


def test_lines_that_differ_are_all_written() -> None:
    lines = Lines("json")
    for number in range(3):
        lines.log.warning("attempt", number=number)
        lines.log.error("attempt", number=number)
        lines.log.info("attempt")
        logging.getLogger("library").warning("attempt %d", number)
    assert len(lines.taken()) == 12


def test_repetitions_of_a_library_and_of_an_exception_are_counted_until_the_end() -> None:
    lines = Lines("json")
    error = LookupError("none")
    for _ in range(5):
        logging.getLogger("library").warning("attempt")
        lines.log.error("failed", exc_info=error)
    lines.log.warning("once")
    assert [json.loads(line)["event"] for line in lines.taken()] == ["library", "failed", "once"]
    logging.getLogger().handlers[0].close()
    found = [json.loads(line) for line in lines.taken()]
    assert [(line["event"], line["repeated"]) for line in found] == [("library", 4), ("failed", 4)]
    assert found[1]["exception"] == "LookupError: none"


def test_lines_that_are_remembered_are_limited() -> None:
    lines = Lines("text")
    for number in range(3_000):
        lines.log.warning("attempt", number=number % 1_500)
    assert len(lines.taken()) == 3_000, "1,500 lines come between two that are the same"
    lines.log.warning("attempt", number=1_499)
    assert lines.taken() == []
