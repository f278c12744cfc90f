"""Every event of the log is in the table, with its fields."""

import ast
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

import discue
from discue.observability.log_events import EVENTS, FIELDS, event_schema, line_schema
from discue.observability.logs import Log, configure
from tests.cli.commands import kept_logging
from tests.support.clocks import StandingClock

_BY_NAME = {event.name: event for event in EVENTS}
_LEVELS = {"debug": "debug", "debug_unescaped": "debug", "info": "info", "warning": "warning", "error": "error"}
_OF_THE_FORMATTER = {"library"}
"""Records of libraries, which the formatter gives this event."""


class _Line(NamedTuple):
    """A call that writes a line."""

    place: str
    event: str
    level: str
    fields: frozenset[str]
    is_complete: bool
    """Whether all fields are in the call, and none in a mapping."""
    has_traceback: bool


def _lines() -> Iterator[_Line]:
    root = Path(discue.__file__).parent
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield from _lines_of(node, f"{path.relative_to(root)}:{node.lineno}")


def _lines_of(call: ast.Call, place: str) -> Iterator[_Line]:
    function = call.func
    if isinstance(function, ast.Name) and function.id == "BackgroundTasks":
        yield from [_Line(place, event, "error", frozenset(), True, True) for event in _texts(call.args[1])]
    if not isinstance(function, ast.Attribute) or function.attr not in _LEVELS or not call.args:
        return
    if ast.unparse(function.value).rpartition(".")[2] not in {"log", "_log"}:
        return
    names = [keyword.arg for keyword in call.keywords]
    fields = frozenset(name for name in names if name not in {None, "exc_info"})
    for event in _texts(call.args[0]):
        yield _Line(place, event, _LEVELS[function.attr], fields, None not in names, "exc_info" in names)


def _texts(node: ast.expr) -> list[str]:
    """The events that an expression can name."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.IfExp):
        return [*_texts(node.body), *_texts(node.orelse)]
    # The wrappers themselves, which pass on what their callers name.
    assert ast.unparse(node) in {"event", "self._event"}, ast.unparse(node)
    return []


LINES = list(_lines())


def test_each_line_that_the_program_writes_is_an_event_of_the_table() -> None:
    assert [line for line in LINES if not _is_in_table(line)] == []


def _is_in_table(line: _Line) -> bool:
    event = _BY_NAME.get(line.event)
    if event is None or line.level not in event.levels or line.has_traceback is not event.has_traceback:
        return False
    missing = set(event.fields) - line.fields if line.is_complete else set()
    return not missing and line.fields <= {*event.fields, *event.optional}


def test_each_event_of_the_table_is_written() -> None:
    assert set(_BY_NAME) == {line.event for line in LINES} | _OF_THE_FORMATTER


def test_each_field_of_the_table_belongs_to_an_event() -> None:
    assert set(FIELDS) == {name for event in EVENTS for name in (*event.fields, *event.optional)}


def test_events_and_fields_are_in_alphabetical_order() -> None:
    assert list(_BY_NAME) == sorted(_BY_NAME)
    assert list(FIELDS) == sorted(FIELDS)


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    with kept_logging():
        written = io.StringIO()
        configure("json", "debug", StandingClock(1_700_000_000_007), written)
        yield written


_VALUES: dict[str, Any] = {"string": "some text", "integer": 17, "number": 1.5}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_line_of_each_event_matches_its_schema_and_no_other(stream: io.StringIO, event: Any) -> None:
    if event.name in _OF_THE_FORMATTER:
        return
    line: dict[str, Any] = {}
    for names in (event.fields, (*event.fields, *event.optional)):
        types = {name: FIELDS[name].type for name in names}
        fields = {name: _VALUES[kind if isinstance(kind, str) else kind[0]] for name, kind in types.items()}
        error: dict[str, Any] = {"exc_info": ValueError("wrong")} if event.has_traceback else {}
        getattr(Log("test"), event.levels[-1])(event.name, **fields, **error)
        line = json.loads(stream.getvalue().splitlines()[-1])
        assert list(Draft202012Validator(line_schema()).iter_errors(line)) == []
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
    validator = Draft202012Validator(line_schema())
    assert [list(validator.iter_errors(line)) for line in lines] == [[]] * len(lines)
