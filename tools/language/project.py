"""Runs all rules over the repository."""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

from tools.language import references, rules
from tools.language.hit import Hit
from tools.language.source import Source, read_source
from tools.language.words import EXCEPTIONS

ROOT: Final = Path(__file__).parents[2]

_PROGRAM: Final = "discue"
_CODE: Final = (_PROGRAM, "docs", "tests", "tools", "benchmarks", "clients")
_PAGES: Final = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")
_SKIPPED: Final = ("tools/", "benchmarks/")
_EXCEPTIONS: Final = [(re.compile(path), rule, re.compile(text)) for path, rule, text in EXCEPTIONS]


def all_hits() -> list[Hit]:
    """Return every hit of every rule, in the order of paths and lines."""
    return sorted(hit for hit in {*_file_hits(), *_project_hits()} if not _is_exempt(hit))


def hits_below(paths: Iterable[str]) -> list[Hit]:
    """Return the hits in these files and folders, named relative to the root."""
    wanted = [path.rstrip("/") for path in paths]
    return [hit for hit in all_hits() if any(hit.path == path or hit.path.startswith(f"{path}/") for path in wanted)]


def package_of(path: str) -> str:
    """Return the folder that a hit is counted for: two levels of the source and the tests, else the top level."""
    parts = path.split("/")
    depth = 2 if parts[0] in {_PROGRAM, "tests"} and len(parts) > 2 else 1
    return "/".join(parts[:depth])


def _is_exempt(hit: Hit) -> bool:
    return any(
        rule == hit.rule and path.fullmatch(hit.path) and text.search(hit.text) for path, rule, text in _EXCEPTIONS
    )


def _file_hits() -> Iterator[Hit]:
    for path, source in _sources().items():
        is_test = path.startswith("tests/")
        yield from rules.source_hits(path, source, is_test=is_test)
        if not is_test:
            yield from rules.file_hits(path)
    files = _files()
    for path, content in _pages().items():
        yield from rules.page_hits(path, content)
        yield from references.paths(ROOT, path, content, files)


def _project_hits() -> Iterator[Hit]:
    program = {path: source for path, source in _sources().items() if path.startswith(f"{_PROGRAM}/")}
    texts = _python()
    yield from references.duplicate_classes(program)
    yield from references.unused_constants(program, texts)
    yield from references.layers(ROOT)
    yield from references.glossary(ROOT, {path: text for path, text in texts.items() if path in program})


@cache
def _sources() -> dict[str, Source]:
    return {path: read_source(ROOT / path) for path in _python() if not path.startswith(_SKIPPED)}


@cache
def _python() -> dict[str, str]:
    paths = [path for top in _CODE for path in sorted((ROOT / top).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


@cache
def _pages() -> dict[str, str]:
    paths = [*(ROOT / page for page in _PAGES), *sorted((ROOT / "docs").rglob("*.md"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


@cache
def _files() -> frozenset[str]:
    tops = [*_CODE, "requirements", "deploy", ".ci"]
    found = [path for top in tops for path in (ROOT / top).rglob("*")] + list(ROOT.glob("*"))
    names = {path.relative_to(ROOT).as_posix() + ("/" if path.is_dir() else "") for path in found}
    return frozenset(name for name in names if "__pycache__" not in name)
