"""Search in the documentation: an in-memory SQLite FTS5 index over entries that `make docs` writes.

Anyone may search. So only the beginning of a query counts, and at most eight of its words; and searches run one at a
time, on a thread.
"""

import asyncio
import html
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import apsw

from discue.domain.errors import Overloaded

LONGEST_QUERY: Final = 200
"""Characters of a query that count."""

_MOST_WAITING: Final = 32
"""Searches that run or wait: they take a few milliseconds each."""
_MOST_WORDS: Final = 8
_MOST_RESULTS: Final = 20
_MOST_OF_PAGE: Final = 3
"""Results of one page, so that a long one does not hide all others."""
_SHORTEST_BEGINNING: Final = 3
"""Characters of the shortest word of a query that also finds longer words."""

_TITLE_START: Final = 1.2
"""Factor for an entry whose title starts with the query."""
_EXACT: Final = 1_000.0
"""More than any sum of words: the query is the name of a setting, a route or an error."""

_WORD: Final = re.compile(r"[^\W_]+(?:[_-][^\W_]+)*")
_JOINT: Final = re.compile("[_-]")
_EXCERPT_CHARACTERS: Final = 180
"""Length of an excerpt without marked words, in characters."""

_QUESTION_WORDS: Final = (
    "a an and are be by can do does for from how i in is it its many me my of on or our should that the there this to "
    "use was what when where which who why will with you your"
)
_FILLERS: Final = frozenset(_QUESTION_WORDS.split())
"""Words of questions that say nothing of the subject."""

# The prefix index makes searches for three-letter prefixes, the most frequent ones, cheaper.
_TABLE: Final = "CREATE VIRTUAL TABLE entry USING fts5(title, page, names, text, tokenize='porter', prefix='3')"
_INSERT: Final = "INSERT INTO entry (rowid, title, page, names, text) VALUES (?, ?, ?, ?, ?)"
# A word counts more in a title, or in the title of the page. Ranks of FTS5 are negative.
_SCORES: Final = "SELECT rowid, -bm25(entry, 20, 4, 1, 1) FROM entry WHERE entry MATCH ?"
# With the `+`, the table is read once, rather than once for each row.
_EXCERPTS: Final = (
    "SELECT rowid, snippet(entry, 3, char(1), char(2), ' … ', 28) FROM entry"
    " WHERE entry MATCH ?1 AND +rowid IN (SELECT value FROM json_each(?2))"
)


class SearchEntry(NamedTuple):
    """A section of a page, an operation, or an error, which a search can find."""

    path: str
    """The path of the page, with the section's anchor."""
    page: str
    title: str
    text: str
    names: frozenset[str] = frozenset()
    """Settings, fields and codes that the entry explains, in lower case."""
    calls: frozenset[str] = frozenset()
    """Queries that ask for this entry rather than for all others, in lower case."""
    route: str = ""
    """The method and the path of an operation."""
    share: float = 1.0
    """How much its words count, compared with other entries."""


class SearchResult(NamedTuple):
    """An entry with the part of its text that is shown."""

    entry: SearchEntry
    excerpt: str
    """HTML: the words that were found are marked."""


class SearchIndex:
    """The entries by the words in them."""

    def __init__(self, entries: Iterable[SearchEntry]) -> None:
        self._entries = tuple(entries)
        self._database = apsw.Connection(":memory:")
        self._database.execute(_TABLE)
        with self._database:
            self._database.executemany(
                _INSERT,
                (
                    (number, entry.title, entry.page, " ".join(sorted(entry.names)), entry.text)
                    for number, entry in enumerate(self._entries)
                ),
            )

    def search(self, query: str) -> list[SearchResult]:
        """Return the best entries for a query, best first. Empty if it has no words, or nothing has them."""
        query = query[:LONGEST_QUERY].strip().lower()
        words = match_expression(query)
        best = list(self._best(self._scores(query, words)))
        excerpts = dict(self._database.execute(_EXCERPTS, (words, str(best)))) if words else {}
        return [SearchResult(self._entries[number], self._excerpt(number, excerpts)) for number in best]

    def _scores(self, query: str, words: str) -> Mapping[int, float]:
        scores: defaultdict[int, float] = defaultdict(float)
        for number, score in self._database.execute(_SCORES, (words,)) if words else ():
            entry = self._entries[number]
            scores[number] = score * entry.share * (_TITLE_START if entry.title.lower().startswith(query) else 1)
        for number, entry in enumerate(self._entries):
            if query in entry.calls or (entry.route and _is_for(query, entry.route)):
                scores[number] += _EXACT
        return scores

    def _best(self, scores: Mapping[int, float]) -> Iterator[int]:
        shown: Counter[str] = Counter()
        for number in sorted(scores, key=lambda number: (-scores[number], number)):
            page = self._entries[number].path.partition("#")[0]
            if shown[page] < _MOST_OF_PAGE:
                shown[page] += 1
                yield number
            if shown.total() == _MOST_RESULTS:
                return

    def _excerpt(self, number: int, excerpts: Mapping[int, str]) -> str:
        # A query without words, such as the route "/", marks nothing.
        excerpt = excerpts.get(number, self._entries[number].text[:_EXCERPT_CHARACTERS])
        return html.escape(excerpt.strip()).replace("\1", "<mark>").replace("\2", "</mark>")


class Searches:
    """The searches of a process: one at a time, on a thread of their own. Any event loop may ask for them."""

    def __init__(self, build: Callable[[], SearchIndex]) -> None:
        self._build = build
        self._index: SearchIndex | None = None
        self._thread = ThreadPoolExecutor(1, "discue_search")
        self._waiting = 0

    async def search(self, query: str) -> list[SearchResult]:
        """Search. The first search builds the index. Raises Overloaded if too many searches wait."""
        if self._waiting >= _MOST_WAITING:
            raise Overloaded("Too many searches of the documentation wait. Try again soon.")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._search, query)
        finally:
            self._waiting -= 1

    def _search(self, query: str) -> list[SearchResult]:
        if self._index is None:
            self._index = self._build()
        return self._index.search(query)


def match_expression(query: str) -> str:
    """Return the FTS5 query for any of the first words, or longer words that begin with them. Empty without words.

    A word with hyphens or underscores is a phrase, and counts as several.
    """
    words = list(dict.fromkeys(_WORD.findall(query)))
    phrases, left = [], _MOST_WORDS
    for word in [word for word in words if word not in _FILLERS] or words:
        parts = _JOINT.split(word)
        left -= len(parts)
        if left < 0:
            break
        phrases.append(f'"{word}"{"*" if len(parts[-1]) >= _SHORTEST_BEGINNING else ""}')
    return " OR ".join(phrases)


def _is_for(query: str, route: str) -> bool:
    """Return whether a query is the path of an operation, with or without method, version and ids."""
    method, _, path = route.lower().partition(" ")
    steps = path.split("/")
    given = query.removeprefix(f"{method} ").removeprefix("/v1").split("/")
    return len(given) == len(steps) and all(
        one == step or (one and step.startswith("{")) for one, step in zip(given, steps, strict=True)
    )
