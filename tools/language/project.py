"""Runs all rules over the repository."""

import hashlib
import pickle
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from tools.language import references, rules
from tools.language.hit import Hit
from tools.language.source import Source, Text, read_source
from tools.language.words import EXCEPTIONS

ROOT: Final = Path(__file__).parents[2]

_PROGRAM: Final = "discue"
_CODE: Final = (_PROGRAM, "docs", "tests", "tools", "benchmarks", "clients", "examples")
_PAGES: Final = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")
_SKIPPED: Final = (
    *("tools/", "benchmarks/", "tests/language/"),
    # Generated from the OpenAPI document and from the async half, whose texts are checked.
    "clients/python/discue_client/_async/resources.py",
    "clients/python/discue_client/_sync/",
    "clients/python/discue_client/models.py",
)
_CACHE: Final = ROOT / ".language_cache"
_EXCEPTIONS: Final = [(re.compile(path), rule, re.compile(text)) for path, rule, text in EXCEPTIONS]


def all_hits() -> list[Hit]:
    """Return every hit of every rule, in the order of paths and lines."""
    return sorted(hit for hit in {*_file_hits(), *_project_hits()} if not _is_exempt(hit))


def hits_below(paths: Iterable[str]) -> list[Hit]:
    """Return the hits in these files and folders, named relative to the root."""
    wanted = [path.rstrip("/") for path in paths]
    return [hit for hit in all_hits() if any(hit.path == path or hit.path.startswith(f"{path}/") for path in wanted)]


def program_texts() -> list[tuple[str, Text]]:
    """Return the docstrings, comments and strings of the program, each with the path of its file."""
    paths = [path for path in _python() if path.startswith(f"{_PROGRAM}/")]
    return [(path, text) for path in paths for text in read_source(ROOT / path).texts]


def _is_exempt(hit: Hit) -> bool:
    return any(
        rule == hit.rule and path.fullmatch(hit.path) and text.search(hit.text) for path, rule, text in _EXCEPTIONS
    )


def _file_hits() -> Iterator[Hit]:
    for path, checked in _checked().items():
        yield from checked.hits
        if not path.startswith("tests/"):
            yield from rules.file_hits(path)
    files = _files()
    for path, content in pages().items():
        yield from rules.page_hits(path, content)
        yield from references.paths(ROOT, path, content, files)


def _project_hits() -> Iterator[Hit]:
    program = {path: checked.source for path, checked in _checked().items() if path.startswith(f"{_PROGRAM}/")}
    texts = _python()
    yield from references.duplicate_classes(program)
    yield from references.unused_constants(program, texts)
    yield from references.layers(ROOT)
    yield from references.glossary(ROOT, {path: text for path, text in texts.items() if path in program})


class _Checked(NamedTuple):
    """A file's own hits, and what the rules for the project need of it."""

    hits: list[Hit]
    source: Source


@cache
def _checked() -> dict[str, _Checked]:
    """Check each Python file, or take the result of an earlier run with the same text and the same rules."""
    salt = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    kept = _read_cache()
    checked: dict[str, tuple[bytes, _Checked]] = {}
    for path, text in _python().items():
        if path.startswith(_SKIPPED):
            continue
        digest = hashlib.sha256(salt + text.encode()).digest()
        known = kept.get(path)
        checked[path] = known if known is not None and known[0] == digest else (digest, _check(path))
    if checked != kept:
        with suppress(OSError):
            _CACHE.write_bytes(pickle.dumps(checked))
    return {path: result for path, (_, result) in checked.items()}


def _check(path: str) -> _Checked:
    source = read_source(ROOT / path)
    hits = list(rules.source_hits(path, source, is_test=path.startswith("tests/")))
    source.texts, source.names = [], []
    return _Checked(hits, source)


def _read_cache() -> dict[str, tuple[bytes, _Checked]]:
    try:
        kept: dict[str, tuple[bytes, _Checked]] = pickle.loads(_CACHE.read_bytes())  # noqa: S301 - our own file
    except Exception:  # noqa: BLE001 - a cache that cannot be read is an empty one
        return {}
    return kept


@cache
def _python() -> dict[str, str]:
    paths = [path for top in _CODE for path in sorted((ROOT / top).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


@cache
def pages() -> dict[str, str]:
    """Return the pages of documentation by path."""
    folders = ("docs", "examples")
    paths = [
        *(ROOT / page for page in _PAGES),
        *(path for top in folders for path in sorted((ROOT / top).rglob("*.md"))),
    ]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


@cache
def _files() -> frozenset[str]:
    tops = [*_CODE, "requirements", "deploy", ".ci"]
    found = [path for top in tops for path in (ROOT / top).rglob("*")] + list(ROOT.glob("*"))
    names = {path.relative_to(ROOT).as_posix() + ("/" if path.is_dir() else "") for path in found}
    return frozenset(name for name in names if "__pycache__" not in name)
