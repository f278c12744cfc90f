"""The entries of the documentation search: sections of pages, operations and errors."""

from collections.abc import Iterator

import msgspec

from discue.api.openapi.document import document_of
from discue.domain.errors import REASONS
from discue.guides.layout import ROOT
from discue.guides.library import OPERATIONS, Library, documentation_folder
from discue.guides.operations import title_of
from discue.guides.search import SearchEntry
from discue.product import ROUTES

_INTERNAL = tuple(f"{ROOT}/{name}" for name in ("architecture", "benchmarks", "conformance", "dependencies"))
_INTERNAL_SHARE = 0.35
"""The weight of words in pages about internals, which few people look for."""

_START_SHARE = 1.2
"""The weight of the beginning of a page, which leads to all of its sections."""

_SETTINGS = f"{ROOT}/settings"
"""A search for the name of a setting leads to this page."""

_OPERATION_SHARE = 0.6
"""The weight of an operation's words: most people look for a guide, and those who want an operation know its path."""

_ERROR_SHARE = 0.6
"""The weight of pages about errors: they have few words, each of which would otherwise count for too much."""


def search_entries_file() -> str:
    """Return the text of the file of entries. Each entry is a line, so that versions of the file can be compared."""
    entries = [*_sections(Library(documentation_folder())), *_operations(), *_errors()]
    return msgspec.json.Encoder(order="deterministic").encode_lines(entries).decode()


def _sections(library: Library) -> Iterator[SearchEntry]:
    for path in library.files:
        first, *others = library.rendered(path).sections
        is_internal, title = path.startswith(_INTERNAL), first.title
        called = frozenset() if is_internal else frozenset({title.lower()})
        share = _INTERNAL_SHARE if is_internal else 1.0
        yield SearchEntry(path, title, title, first.text, first.names, called, share=_START_SHARE * share)
        for section in others:
            called = section.names if path == _SETTINGS else frozenset()
            place = f"{path}#{section.anchor}"
            yield SearchEntry(place, title, section.title, section.text, section.names, called, share=share)


def _operations() -> Iterator[SearchEntry]:
    for path, item in document_of(ROUTES, "", aliases=False)["paths"].items():
        for verb, operation in item.items():
            route, name = f"{verb.upper()} {path}", operation["operationId"]
            text = f"{route} {operation.get('description', '')}".rstrip()
            group = f"Operation: {title_of(operation['tags'][0])}"
            called = frozenset({name.lower()})
            place, summary = f"{OPERATIONS}#{name}", operation["summary"]
            yield SearchEntry(place, group, summary, text, called, called, route=route, share=_OPERATION_SHARE)


def _errors() -> Iterator[SearchEntry]:
    for code, reason in REASONS.items():
        text = f"{reason.meaning} {reason.remedy}".replace("`", "")
        called = frozenset({code})
        yield SearchEntry(f"{ROOT}/errors/{code}", "Errors", code, text, called, called, share=_ERROR_SHARE)
