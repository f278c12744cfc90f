"""Every event of the log is in the table, with its fields."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from discue.observability.log_events import (
    FIELDS,
    LIBRARY,
    MAPPED_FIELDS,
    MEANINGS,
    LogEvent,
    event_schema,
    line_schema,
)
from discue.observability.logs import Log, configure
from docs.log_events_page import lines, log_events
from tests.cli.commands import kept_logging
from tests.support.clocks import StandingClock


@pytest.fixture(scope="module")
def by_name() -> dict[str, LogEvent]:
    """Return the events by name. Finding them parses the whole program, so it must not happen at import."""
    return {event.name: event for event in log_events()}


def test_each_call_has_the_fields_of_its_event(by_name: dict[str, LogEvent]) -> None:
    for line in lines():
        event, fields = by_name[line.event], set(line.fields)
        assert fields <= {*event.fields, *event.optional}, line
        assert not line.is_complete or fields >= set(event.fields), line
        assert line.has_traceback is event.has_traceback, line


def test_each_event_that_is_described_is_written(by_name: dict[str, LogEvent]) -> None:
    assert list(MEANINGS) == [name for name in by_name if name != LIBRARY.name]
    assert set(MAPPED_FIELDS) == {line.event for line in lines() if not line.is_complete}


def test_each_field_of_the_table_belongs_to_an_event(by_name: dict[str, LogEvent]) -> None:
    events = by_name.values()
    assert list(FIELDS) == sorted({name for event in events for name in (*event.fields, *event.optional)})


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    with kept_logging():
        written = io.StringIO()
        configure("json", "debug", StandingClock(1_700_000_000_007), written)
        yield written


_VALUES: dict[str, Any] = {"string": "some text", "integer": 17, "number": 1.5}


@pytest.mark.parametrize("name_of_event", MEANINGS)
def test_line_of_each_event_matches_its_schema_and_no_other(
    stream: io.StringIO, by_name: dict[str, LogEvent], name_of_event: str
) -> None:
    event, line = by_name[name_of_event], dict[str, Any]()
    for names in (event.fields, (*event.fields, *event.optional)):
        types = {name: FIELDS[name].type for name in names}
        fields = {name: _VALUES[kind if isinstance(kind, str) else kind[0]] for name, kind in types.items()}
        error: dict[str, Any] = {"exc_info": ValueError("wrong")} if event.has_traceback else {}
        getattr(Log("test"), event.levels[-1])(event.name, **fields, **error)
        line = json.loads(stream.getvalue().splitlines()[-1])
        assert list(Draft202012Validator(line_schema(log_events())).iter_errors(line)) == []
        assert set(fields) <= set(line)
    strict = Draft202012Validator(event_schema(event))
    assert not strict.is_valid({**line, "unknown": 1})
    assert not strict.is_valid({**line, "event": "unknown"})
    for name in event.fields:
        assert not strict.is_valid({key: value for key, value in line.items() if key != name})
        assert not strict.is_valid({**line, name: ["another type"]})


def test_truncated_and_repeated_lines_match_the_schema(stream: io.StringIO) -> None:
    log = Log("test")
    for _ in range(3):
        log.warning("background_waits", work="poller", reason="x" * 10_000)
    log.error("background_failed", exc_info=ValueError("y" * 9_000), work="z" * 9_000)
    for handler in list(logging.getLogger().handlers):
        handler.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert any("repeated" in line for line in lines)
    assert all("truncated" in line for line in lines)
    validator = Draft202012Validator(line_schema(log_events()))
    assert [list(validator.iter_errors(line)) for line in lines] == [[]] * len(lines)
