"""Regular expressions: which are supported, and how large they are."""

import re
from pathlib import Path

import pytest

from discue.domain.patterns import LARGE_PATTERNS, MAX_MATCHED, Patterns, compiled_kib

_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "schemas.md"


@pytest.mark.parametrize(
    ("pattern", "kib"),
    [
        (r"^[a-z0-9._%+-]+@[a-z0-9.-]+\.[a-z]{2,}$", 1),
        (r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$", 4),
        (r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?(Z|[+-]\d{2}:\d{2})$", 4),
        ("[ab]{1,100}a[ab]{1,100}x", 32),
        (r"^\p{L}+$", 64),
        (".*a.{200}x", 256),
        (r"^\p{L}{1,10}$", None),
        ("(a{0,100}){0,100}", None),
        ("(a{1000}){1000}", None),
        ("(?=a)", None),
        (r"(a)\1", None),
    ],
)
def test_compiled_size_of_a_pattern_is_rounded_up(pattern: str, kib: int | None) -> None:
    assert compiled_kib(pattern) == kib


def test_page_has_the_compiled_sizes_of_its_patterns() -> None:
    rows = re.findall(r"^\| `(.+)` \| ([0-9]+) \| ([0-9,]+) \|$", _PAGE.read_text(), re.MULTILINE)
    assert len(rows) == 4
    for pattern, kib, characters in rows:
        assert compiled_kib(pattern) == int(kib)
        assert MAX_MATCHED // int(kib) == int(characters.replace(",", ""))


def test_unsupported_pattern_is_refused_with_the_remedy() -> None:
    patterns = Patterns()
    for pattern in ("(?<!a)b", r"\p{L}{100}"):
        assert patterns.fault(pattern) == (
            "is not a supported regular expression: write it without look-around and back-references, and shorten "
            "repetitions such as {1,100} if it compiles to more than 256 KiB"
        )


def test_number_of_large_patterns_is_limited() -> None:
    patterns = Patterns()
    for number in range(LARGE_PATTERNS):
        assert patterns.fault(rf"{number}\p{{L}}") is None
    assert patterns.fault(r"1\p{L}") is None
    assert patterns.fault("a{10}") is None
    assert (
        patterns.fault(r"a\p{L}") == "is one too many: at most 20 patterns of a schema may compile to more than 32 KiB"
    )
