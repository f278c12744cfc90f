"""The rules for one file: what its texts say, how its docstrings begin, and how its names are built."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.language.hit import Hit
from tools.language.source import Source, Text
from tools.language.words import (
    FILES,
    FUNCTION_OPENINGS,
    IDENTIFIERS,
    NAMES,
    OPENINGS,
    PAGE_WORDS,
    PHRASES,
    TEST_NAMES,
    WORDS,
    compiled,
)

_PHRASES: Final = compiled(PHRASES, whole_words=False)
_WORDS: Final = compiled(WORDS, whole_words=True)
_PAGE_WORDS: Final = compiled(PAGE_WORDS, whole_words=True)
_ANY_PHRASE: Final = re.compile(
    "|".join(f"(?:{pattern.pattern})" for pattern, _ in [*_PHRASES, *_WORDS]), re.IGNORECASE
)
_OPENING: Final = re.compile(rf"(?:{OPENINGS})\b(?![-'’])")
_FUNCTION_OPENING: Final = re.compile(rf"(?:{FUNCTION_OPENINGS})\b(?![-'’])")
_IDENTIFIERS: Final = [(re.compile(rf"(?:^|_)(?:{regex})(?=_|$)"), advice) for regex, advice in IDENTIFIERS.items()]
_ANY_IDENTIFIER: Final = re.compile("|".join(f"(?:{pattern.pattern})" for pattern, _ in _IDENTIFIERS))
_NAMES: Final = [(re.compile(regex), advice) for regex, advice in NAMES.items()]
_FILES: Final = [(re.compile(regex), advice) for regex, advice in FILES.items()]
_TEST_NAMES: Final = [(re.compile(regex), advice) for regex, advice in TEST_NAMES.items()]
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_CODE: Final = re.compile(r"``[^`]+``|`[^`\n]+`|\]\([^)]*\)|<[a-z/][^>]*>|https?://\S+")
_PARAGRAPH: Final = re.compile(r"\s*(?:$|[|#>]|[-*] |\d+\. )")
_BULLET: Final = re.compile(r"^\s*(?:#+|[-*>]|\d+\.)\s+")
_FENCE: Final = re.compile(r"^\s*(```|~~~)")


def file_hits(path: str) -> Iterator[Hit]:
    """Check the name of a file."""
    for pattern, advice in _FILES:
        if pattern.fullmatch(path):
            yield Hit(path, 1, "file-name", f"`{Path(path).name}`: {advice}")
            return


def source_hits(path: str, source: Source, *, is_test: bool) -> Iterator[Hit]:
    """Check the texts and names of a Python file. Of a test file only tests have names that are checked."""
    for text in source.texts:
        yield from _text_hits(path, text)
        yield from _opening_hits(path, text, is_test=is_test)
    if is_test:
        for test in source.tests:
            yield from _test_name_hits(path, test.line, test.name)
        if re.search(r"(?:^|/)test_[^/]*\.py$", path):
            yield from _test_name_hits(path, 1, Path(path).stem, is_file=True)
        return
    seen: set[str] = set()
    for line, name in source.names:
        if name not in seen:
            seen.add(name)
            yield from _name_hits(path, line, name)


def page_hits(path: str, content: str) -> Iterator[Hit]:
    """Check a page of Markdown. What stands in code is not text."""
    for line, paragraph in _paragraphs(content):
        yield from _phrase_hits(path, line, paragraph)
        yield from _matches(path, line, "word", _PAGE_WORDS, text=paragraph)


def _text_hits(path: str, text: Text) -> Iterator[Hit]:
    yield from _phrase_hits(path, text.line, _CODE.sub(_blank, text.text) if text.kind != "string" else text.text)


def _phrase_hits(path: str, line: int, text: str) -> Iterator[Hit]:
    flat = re.sub(r"\n\s*", lambda found: "\n" if found[0].count("\n") > 1 else " ", text)
    if not _ANY_PHRASE.search(flat):
        return
    yield from _matches(path, line, "phrase", _PHRASES, text=flat)
    yield from _matches(path, line, "word", _WORDS, text=flat)


def _matches(
    path: str, line: int, rule: str, patterns: list[tuple[re.Pattern[str], str]], *, text: str
) -> Iterator[Hit]:
    for pattern, advice in patterns:
        for found in pattern.finditer(text):
            around = " ".join(text[max(0, found.start() - 30) : found.end() + 30].split())
            yield Hit(path, line, rule, f'"{found[0].strip()}" in "{around}": {advice}')


def _opening_hits(path: str, text: Text, *, is_test: bool) -> Iterator[Hit]:
    if not text.kind.endswith("docstring"):
        return
    begin = text.text.strip()
    if found := _OPENING.match(begin):
        yield Hit(path, text.line, "opening", f'"{_first_words(begin)}": a docstring does not begin with "{found[0]}"')
    elif text.kind == "function docstring" and not is_test and (found := _FUNCTION_OPENING.match(begin)):
        yield Hit(
            path, text.line, "opening", f'"{_first_words(begin)}": the docstring of a function begins with a verb'
        )


def _first_words(text: str) -> str:
    words = text.split(maxsplit=6)[:6]
    return " ".join(words)


def _name_hits(path: str, line: int, name: str) -> Iterator[Hit]:
    for pattern, advice in _NAMES:
        if pattern.fullmatch(name):
            yield Hit(path, line, "identifier", f"`{name}`: {advice}")
            return
    parts = _CAMEL.sub("_", name.strip("_")).lower()
    if not _ANY_IDENTIFIER.search(parts):
        return
    for pattern, advice in _IDENTIFIERS:
        if pattern.search(parts):
            yield Hit(path, line, "identifier", f"`{name}`: {advice}")
            return


def _test_name_hits(path: str, line: int, name: str, *, is_file: bool = False) -> Iterator[Hit]:
    for pattern, advice in _TEST_NAMES:
        if pattern.search(name) and not (is_file and pattern.pattern.endswith("+$")):
            yield Hit(path, line, "test-name", f"`{name}`: {advice}")
            return


def _paragraphs(content: str) -> Iterator[tuple[int, str]]:
    """Yield the paragraphs and table cells of a page with their first lines, without code."""
    first, lines, is_code = 0, list[str](), False
    for number, line in enumerate([*content.splitlines(), ""], 1):
        is_fence = bool(_FENCE.match(line))
        is_code ^= is_fence
        if lines and (is_fence or _PARAGRAPH.match(line)):
            yield first, _CODE.sub(_blank, "\n".join(lines))
            lines = []
        if is_fence or is_code:
            continue
        if line.lstrip().startswith("|"):
            for cell in line.split("|"):
                yield number, _CODE.sub(_blank, cell.strip())
        elif line.strip():
            first = first if lines else number
            lines.append(_BULLET.sub("", line))


def _blank(found: re.Match[str]) -> str:
    return f"`{'x' * max(1, len(found[0]) - 2)}`" if found[0].startswith("`") else " "
