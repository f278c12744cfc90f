"""The pages of the documentation, rendered from the Markdown files that the program brings with it."""

import posixpath
import re
from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from discue.api.openapi.rendered import BuiltOnce, RenderedDocument
from discue.guides.layout import ROOT, SLOTS, ContentsEntry, Group, page, relative, text
from discue.guides.search import SearchEntry

if TYPE_CHECKING:
    from discue.guides.markdown import Rendered

OPERATIONS: Final = f"{ROOT}/api"
"""The path of the page with all operations, which is not made from a file."""

_REFERENCE: Final = f"{ROOT}/reference"
_PARTS: Final = frozenset({_REFERENCE, f"{ROOT}/architecture"})
"""Pages with pages below them. Their links, in order, are the contents of that part."""

SEARCH_ENTRIES: Final = "search-entries.jsonl"
"""The file in the folder that has the search entries, one per line."""

_OPENAPI: Final = "openapi.json"
_PACKAGE: Final = Path(__file__).parents[1]
_LINK: Final = re.compile(r"\[([^\]]+)\]\(([^)#:]+\.md)\)")
_SEARCH_ENTRIES: Final = msgspec.json.Decoder(SearchEntry)
_LISTED_LEVEL: Final = 2
"""The level of headings that the contents list below their page."""


def documentation_folder() -> Path:
    """Return the folder with the pages: in the package if that was installed, else in the clone of the repository."""
    packaged = _PACKAGE / "docs"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "docs"


class Library:
    """The pages in a folder, by the path at which each is served."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def files(self) -> dict[str, str]:
        """The file of each page, relative to the folder."""
        names = sorted(file.relative_to(self._folder).as_posix() for file in self._folder.rglob("*.md"))
        return {_path_of(name): name for name in names}

    @cached_property
    def pages(self) -> dict[str, BuiltOnce[RenderedDocument]]:
        """Each page, which is read and rendered when it is first asked for."""
        return {path: BuiltOnce(partial(self._page, path)) for path in self.files}

    @cached_property
    def contents(self) -> tuple[Group, ...]:
        """The headings of the start page, with the pages that it links to below each."""
        parts = re.split(r"^## ", self._source(ROOT), flags=re.MULTILINE)[1:]
        return tuple(Group(part.partition("\n")[0], self._linked_in(part, ROOT)) for part in parts)

    def contents_for(self, path: str, sections: Sequence[ContentsEntry] = ()) -> tuple[Group, ...]:
        """Return the contents as the page at `path` shows them: with its sections, and with its part's pages."""
        part = path if path in _PARTS else posixpath.dirname(path)

        def unfolded(entry: ContentsEntry) -> ContentsEntry:
            if entry.path == part and part in _PARTS:
                linked = self._linked_in(self._source(part), part)
                below = (
                    each._replace(title=self._title(each.path))
                    for each in linked
                    if posixpath.dirname(each.path) == part
                )
                return entry._replace(below=tuple(map(unfolded, below)))
            return entry._replace(below=sections) if entry.path == path else entry

        return tuple(Group(group.title, tuple(map(unfolded, group.entries))) for group in self.contents)

    def search_entries(self) -> list[SearchEntry]:
        """Read the search entries from their file: rendering all pages would take too long."""
        return _SEARCH_ENTRIES.decode_lines((self._folder / SEARCH_ENTRIES).read_bytes())

    def rendered(self, path: str) -> "Rendered":
        # Imported here, so that commands, and workers that show no page, save 20 ms and the memory of the parser.
        from discue.guides.markdown import render  # noqa: PLC0415

        return render(self._source(path), partial(self._href, path))

    def _page(self, path: str) -> RenderedDocument:
        rendered = self.rendered(path)
        sections = (
            ()
            if path == ROOT
            else tuple(
                ContentsEntry(f"{path}#{section.anchor}", section.title)
                for section in rendered.sections
                if section.level == _LISTED_LEVEL
            )
        )
        contents = self.contents_for(path, sections)
        body = f"{rendered.html}{_neighbours(contents, path)}"
        return RenderedDocument(page(rendered.sections[0].title, body, path=path, contents=contents), SLOTS)

    def _source(self, path: str) -> str:
        return (self._folder / self.files[path]).read_text(encoding="utf-8")

    def _title(self, path: str) -> str:
        return self._source(path).partition("\n")[0].removeprefix("# ")

    def _href(self, path: str, target: str) -> str | None:
        """Return the link for the target of a link in a file; None if it leads to a file that is not served."""
        if "://" in target:
            return target
        name, _, anchor = target.partition("#")
        to = self._target(name, path) if name else path
        if to not in self.files and to != _OPENAPI:
            return None
        return relative(f"{to}#{anchor}" if anchor else to, path)

    def _target(self, link: str, path: str) -> str:
        """Return the path that a link in the file of the page at `path` leads to."""
        file = posixpath.normpath(posixpath.join(posixpath.dirname(self.files[path]), link))
        return file if file == _OPENAPI else _path_of(file)

    def _linked_in(self, source: str, path: str) -> tuple[ContentsEntry, ...]:
        """Return the served pages that a text in the file of the page at `path` links to, each once."""
        found: dict[str, ContentsEntry] = {}
        for title, link in _LINK.findall(source):
            to = self._target(link, path)
            if to in self.files:
                found.setdefault(to, ContentsEntry(to, title))
            if to == _REFERENCE and path == ROOT:
                found[OPERATIONS] = ContentsEntry(OPERATIONS, "All operations")
        return tuple(found.values())


def _path_of(file: str) -> str:
    name = file.removesuffix(".md")
    if posixpath.basename(name) == "README":
        name = posixpath.dirname(name)
    return f"{ROOT}/{name}" if name else ROOT


def _neighbours(contents: Iterable[Group], path: str) -> str:
    entries = [each for group in contents for entry in group.entries for each in (entry, *entry.below)]
    pages = [entry for entry in entries if "#" not in entry.path]
    at = next((number for number, entry in enumerate(pages) if entry.path == path), None)
    if at is None:
        return ""
    before, after = pages[max(at - 1, 0) : at], pages[at + 1 : at + 2]
    links = [
        *(f'<a rel="prev" href="{relative(entry.path, path)}">← {text(entry.title)}</a>' for entry in before),
        *(f'<a rel="next" href="{relative(entry.path, path)}">{text(entry.title)} →</a>' for entry in after),
    ]
    return f'<p class="neighbours">{"".join(links)}</p>'
