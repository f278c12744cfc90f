"""The speed of patterns is measured on the texts that slow them down."""

import json
import time
from collections.abc import Callable

import pytest
from jsonschema_rs import Draft202012Validator, ValidationError

from discue.domain.errors import Unprocessable
from discue.domain.filter_parser import parse_filter
from discue.domain.pattern_speed import slowest_ns
from discue.domain.pattern_texts import texts_for
from discue.domain.patterns import LINEAR, Patterns
from discue.domain.schemas import parse_schema

_SLOW = (
    "[ab]{1,100}a[ab]{1,100}x",
    "^prefix(?:[ab]{1,100}a[ab]{1,100}x)*$",
    "^prefix (?:yes|no|[ab]{1,100}a[ab]{1,100}x)*$",
    "[ab]{1,30}a[ab]{1,30}x",
    ".*a.{12}x",
    "^.*a.{14}$",
    "^p(?:[ab]*a[ab]{12}x)*$",
    "x|y|z|(?:a|b)*a(?:a|b){13}c",
    # The members of a class are not what its syntax suggests.
    r"[^\x00-\x60c-\u{10ffff}]{1,100}a[^\x00-\x60c-\u{10ffff}]{1,100}x",
    r"\p{Hiragana}{15,40}あ\p{Hiragana}{15,40}x",
    # Only characters that the class shares with the end of the repetition make it slow.
    r"^[\s\S]*q[\s\S]{30}x",
    # The engine looks for the end first: only matches that lack something before it keep it busy.
    r"\w{30,100}q\w{30,100}-",
    # A cut word would end all matches.
    "(?:foo|bar){10,40}foo(?:foo|bar){10,40}x",
    # The beginning is longer than other texts.
    "^p{5000}[ab]*a[ab]{14}x",
    # Syntax that other engines do not have.
    "[ab]{1, 100}a[ab]{1 ,100}x",
    r"\A\b{start}[ab]*a[ab]{14}x",
    "^ (?x)[ab]*  a[ab]{14} #(((\n x",
)
_QUICK = (
    r"^[a-z0-9._%+-]+@[a-z0-9.-]+\.[a-z]{2,}$",
    r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
    r"^(https?|ftp)://[^\s/$.?#].[^\s]*$",
    r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?(Z|[+-]\d{2}:\d{2})$",
    r"^((25[0-5]|(2[0-4]|1\d|[1-9]|)\d)\.?\b){4}$",
    r"^[a-z0-9-]+-[a-z0-9-]+-[0-9]{1,8}$",
    r"^\+?[1-9]\d{1,14}$",
    "foo.*bar.*baz",
    "(x+x+)+y",
    "(a?){50}a{50}",
)


def _matcher(pattern: str) -> Callable[[str], bool] | None:
    try:
        return Draft202012Validator({"pattern": pattern}, pattern_options=LINEAR, offline=True).is_valid
    except ValidationError:
        return None


@pytest.mark.parametrize("pattern", _SLOW)
def test_slow_pattern_is_refused(pattern: str) -> None:
    assert "matches too slowly" in (Patterns(time.thread_time_ns).fault(pattern) or "")


@pytest.mark.parametrize("pattern", _QUICK)
def test_quick_pattern_is_accepted(pattern: str) -> None:
    assert Patterns(time.thread_time_ns).fault(pattern) is None


def test_slow_pattern_of_a_schema_or_filter_is_named() -> None:
    rules = json.dumps({"a": {"type": "string", "pattern": _SLOW[0]}}).encode()
    with pytest.raises(Unprocessable, match="/schema/a/pattern matches too slowly"):
        parse_schema(rules, "rules", time.thread_time_ns)
    document = json.dumps({"patternProperties": {_SLOW[0]: True}}).encode()
    with pytest.raises(Unprocessable, match="matches too slowly"):
        parse_schema(document, "json_schema", time.thread_time_ns)
    condition = json.dumps({"data": {"a": {"$regex": _SLOW[0]}}}).encode()
    with pytest.raises(Unprocessable, match=r"/filter/data/a/\$regex matches too slowly"):
        parse_filter(condition, "/filter", time.thread_time_ns)


def test_pattern_that_was_accepted_before_is_not_measured_again() -> None:
    assert Patterns(None).fault(_SLOW[0]) is None


def test_measuring_the_patterns_of_a_schema_ends() -> None:
    patterns = Patterns(time.thread_time_ns, longest_ns=1)
    assert patterns.fault("^a{2,9}$") is None
    assert "took too long to measure" in (patterns.fault("^b{2,9}$") or "")


def test_time_is_measured_per_character_of_the_slowest_text() -> None:
    texts = [each.text for each in texts_for("^a{2,9}(b|c)*$", _matcher)]
    lengths: list[int] = []
    spent = 0

    def matches(text: str) -> bool:
        nonlocal spent
        lengths.append(len(text))
        spent += len(text) * (70 if text == texts[2] else 3)
        return True

    assert slowest_ns("^a{2,9}(b|c)*$", lambda _: matches, lambda: spent, limit_ns=1_000) == 70
    assert set(lengths) == {len(text) for text in texts}


def test_measuring_stops_at_the_first_slow_text() -> None:
    spent = 0

    def matches(text: str) -> bool:
        nonlocal spent
        spent += len(text) * 500
        return True

    assert slowest_ns("a+b+c+", lambda _: matches, lambda: spent, limit_ns=40) == 500
    assert spent < 20_000 * 500


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "(",
        "a{",
        "a{2",
        "[",
        "[]]",
        "[^]a]",
        "\\",
        r"\p{L}\P{N}\u{1F600}\u00e9\x41\cA\b\B\0",
        "(?<n>a)(?i:b)(?i)",
        "a|*",
        ")a",
        "(?x)a #",
        "(?x)",
        "a{ }",
        "[a{4,}",
        r"\b{",
        r"[\p{Greek}&&[^α]]{2,9}",
        "(?:(?:a{3}){3}){3}",
        "(?:x{10}y+){0}",
        "(?:|a{0}){1000}{1000}{1000}b{20}",
    ],
)
def test_any_text_can_be_read_as_a_pattern(pattern: str) -> None:
    assert all(len(each.text) > 100 for each in texts_for(pattern, _matcher))


@pytest.mark.parametrize(
    ("pattern", "beginnings"), [("^ab{2,4}[c-f]+g$", ("abb",)), (r"^(yes|no)-\d{3,9}!$", ("yes-", "no-"))]
)
def test_texts_begin_matches_without_completing_them(pattern: str, beginnings: tuple[str, ...]) -> None:
    matches = _matcher(pattern)
    assert matches is not None
    texts = [each.text for each in texts_for(pattern, _matcher)]
    assert not any(matches(text) for text in texts)
    assert all(text.startswith(beginnings) for text in texts)
