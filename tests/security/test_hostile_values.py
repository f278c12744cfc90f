"""Values, queries and texts from strangers take little processor time, whatever they contain."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from discue.domain import causes
from discue.domain.json_text import decode_value
from discue.domain.schemas import compile_schema
from discue.guides.library import Library, documentation_folder
from discue.guides.search import SearchIndex
from discue.observability.logs import redact
from tests.guides.test_search import HOSTILE
from tests.support.clocks import no_time

_WORDS = [f"word {number}" for number in range(3_000)]
_MIXED: dict[str, Any] = {"enum": [*_WORDS, None, True, *range(3_000)]}


def _seconds(work: Callable[[], object], repeated: int = 3) -> float:
    """Return the shortest processor time of several tries: other programs may slow down some of them."""
    found = []
    for _ in range(repeated):
        before = time.thread_time()
        work()
        found.append(time.thread_time() - before)
    return min(found)


@pytest.mark.parametrize("number", [b"1e308", b"-1.5e-310", b"5e-324"])
def test_numbers_near_the_ends_of_the_range_take_no_longer_than_others(number: bytes) -> None:
    text = b"[" + b",".join([number] * 2_000) + b"]"
    assert _seconds(lambda: decode_value(text)) < 6 * _seconds(lambda: json.loads(text))


@pytest.mark.parametrize("number", ["1.5", "5000.0", "1e-300", "1e300"])
def test_fractions_are_not_compared_with_each_integer_of_an_enumeration(number: str) -> None:
    schema = compile_schema(json.dumps({"items": {"not": {"enum": list(range(2_000))}}}), "json_schema")
    text = f"[{','.join([number] * 500)}]".encode()
    assert schema.violations(text, "/data", no_time) == ()
    # Exact comparisons take a second.
    assert _seconds(lambda: schema.violations(text, "/data", no_time)) < 0.1


@pytest.mark.parametrize(
    ("language", "schema"),
    [
        ("json_schema", {"properties": {"a": {"items": _MIXED}}}),
        ("json_schema", {"properties": {"a": {"items": {"enum": [*_WORDS, None]}}}}),
        ("rules", {"a": {"type": "array", "items": {"type": "string", "required": False, "enum": _WORDS}}}),
    ],
)
def test_text_is_not_compared_with_each_text_of_an_enumeration(language: Any, schema: dict[str, Any]) -> None:
    checker, word = compile_schema(json.dumps(schema), language), f'"{_WORDS[-1]}"'
    message = f'{{"a": [{",".join([word] * 20_000)}]}}'.encode()
    assert checker.violations(message, "/data", no_time) == ()
    # Comparing with each of them takes half a second.
    assert _seconds(lambda: checker.violations(message, "/data", no_time)) < 0.1


@pytest.fixture(scope="module")
def index() -> SearchIndex:
    return SearchIndex(Library(documentation_folder()).search_entries())


@pytest.mark.parametrize("query", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_query_of_the_documentation_takes_little_time(index: SearchIndex, query: str) -> None:
    """On an idle machine, the slowest query takes 5 ms."""
    assert len(index.search(query)) <= 20
    assert _seconds(lambda: index.search(query), 10) < 0.025


@pytest.mark.parametrize("part", ["postgres://a:", "://a:", "a.b-", "password=", "postgres://"])
def test_redaction_takes_linear_time(part: str) -> None:
    short, long = ("://password=" + part * (1 << size) for size in (11, 14))
    assert _seconds(lambda: redact(long)) < 16 * max(_seconds(lambda: redact(short)), 0.000_1)


@pytest.mark.parametrize(
    "part", ["a-", "-", "g", "a.", "a@", "mon ", "may", "ab:", "deadbeef-", "ab:ab:zz-", "#", "1 "]
)
def test_time_to_compare_responses_is_linear(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causes, "TEXT_CHARACTERS", 16_384)
    short, long = (part * (length // len(part)) for length in (1_024, 16_384))
    # 16 times as long. Quadratic time is 256 times as long.
    assert _seconds(lambda: causes.fingerprint(long)) < 64 * _seconds(lambda: causes.fingerprint(short), 10)
