"""The search of the documentation: an index of words, and the ranking of what it finds.

Anyone may search, on the event loop. Therefore only the beginning of a query counts, and a word stands for a bounded
number of words of the index.
"""

import html
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import log, sqrt
from typing import Final, NamedTuple

LONGEST_QUERY: Final = 200
"""Characters of a query that count."""

_MOST_WORDS: Final = 8
_MOST_RESULTS: Final = 20
_MOST_OF_PAGE: Final = 3
"""Results of one page, so that a long one does not hide all others."""
_MOST_FORMS: Final = 24
"""Words of the index that a word of the query can be the beginning of."""
_MOST_ENTRIES: Final = 800
"""Entries that are looked at for a word."""

# Weights: a title counts more than the text, the beginning of a word less than the word, and words together more.
_TITLE: Final = 7.0
_PAGE_TITLE: Final = 3.0
_NAME: Final = 3.0
_TEXT: Final = 1.0
_BEGINNING: Final = 0.9
_PHRASE: Final = 1.4
_EXACT: Final = 1_000.0
"""More than any sum of words: the query is the name of a setting, a route or an error."""
_DEFINED: Final = 40.0
"""A name such as `max_waiting_bytes` in a query leads to where it is explained."""

_WORD: Final = re.compile(r"[^\W_]+(?:[_-][^\W_]+)*")
_PART: Final = re.compile(r"[^\W_]+")
_ENDING: Final = re.compile(r"(?:(?<=.{3})(?:ations?|ions?|ies|ied|ing|ed|es|y|s|e))$")
_SHORT_WORD: Final = 3
"""Characters of words that have no ending to remove, and of the shortest beginning of a word that finds it."""
_SATURATION: Final = 1.2
"""`k1` of Okapi BM25: the lower, the less each repetition of a word adds."""
_BEFORE: Final = 50
_AFTER: Final = 130
"""Characters of an excerpt, before and after the first word that is found."""

_QUESTION_WORDS: Final = (
    "a an and are be by can do does for from how i in is it its many me my of on or our should that the there this to "
    "use was what when where which who why will with you your"
)
_FILLERS: Final = frozenset(_QUESTION_WORDS.split())
"""Words of questions that say nothing of the subject."""


class SearchEntry(NamedTuple):
    """A section of a page, an operation, or an error, which a search can find."""

    path: str
    """The path of the page, with the section's anchor."""
    page: str
    """The title of the page."""
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
        self._pages = [entry.path.partition("#")[0] for entry in self._entries]
        self._titles = [f" {' '.join(_stems(entry.title))} " for entry in self._entries]
        self._texts = [f" {' '.join(_stems(entry.text))} " for entry in self._entries]
        self._routes = {number: _pattern_of(entry.route) for number, entry in enumerate(self._entries) if entry.route}
        self._called: defaultdict[str, list[int]] = defaultdict(list)
        self._named: defaultdict[str, list[int]] = defaultdict(list)
        self._weights: defaultdict[str, dict[int, float]] = defaultdict(dict)
        for number, entry in enumerate(self._entries):
            for stem, weight in _weights(entry).items():
                self._weights[stem][number] = weight * entry.share
            for name in entry.calls:
                self._called[name].append(number)
            for name in entry.names:
                self._named[name].append(number)
        self._stems = sorted(self._weights)

    def search(self, query: str) -> list[SearchResult]:
        """Return the best entries for a query, best first. Empty if it has no words, or nothing has them."""
        query = query[:LONGEST_QUERY].strip().lower()
        words = _words_of(query)
        stems = dict.fromkeys(map(_stem, words))
        found = list(filter(None, map(self._matches, stems)))
        scores = self._scores(found, f" {' '.join(stems)} ")
        for number in self._asked_for(query):
            scores[number] += _EXACT
        for word in words:
            for number in () if word.isalpha() else self._named.get(word, ()):
                scores[number] += _DEFINED
        marks = _marks(stems)
        return [SearchResult(entry, _excerpt(entry.text, stems, marks)) for entry in self._best(scores)]

    def _asked_for(self, query: str) -> list[int]:
        """Return the entries that a query names: by a name alone, or by a route."""
        routes = self._routes.items() if "/" in query else ()
        return [*self._called.get(query, ()), *(number for number, pattern in routes if pattern.fullmatch(query))]

    def _matches(self, stem: str) -> dict[int, float]:
        """Return how much a stem of the query counts in each entry that has it, or a longer word."""
        best = dict(self._weights.get(stem, {}))
        longer: list[str] = []
        if len(stem) >= _SHORT_WORD:
            start = bisect_left(self._stems, stem)
            longer = [each for each in self._stems[start : start + _MOST_FORMS] if each.startswith(stem)]
        for each in sorted(longer, key=len):
            entries = self._weights[each]
            if each == stem or len(best) + len(entries) > _MOST_ENTRIES:
                continue
            share = _BEGINNING * len(stem) / len(each)
            for number, weight in entries.items():
                best[number] = max(share * weight, best.get(number, 0.0))
        rarity = log(1 + (len(self._entries) - len(best) + 0.5) / (len(best) + 0.5))
        return {number: rarity * weight for number, weight in best.items()}

    def _scores(self, found: Sequence[dict[int, float]], phrase: str) -> defaultdict[int, float]:
        """Return the score of each entry: higher for one that has more of the words, by itself or on its page."""
        scores: defaultdict[int, float] = defaultdict(float)
        matched: defaultdict[int, int] = defaultdict(int)
        on_page: defaultdict[str, int] = defaultdict(int)
        for at, of_word in enumerate(found):
            for number, score in of_word.items():
                scores[number] += score
                matched[number] |= 1 << at
        for number, which in matched.items():
            on_page[self._pages[number]] |= which
        for number, which in matched.items():
            coverage = (which.bit_count() + on_page[self._pages[number]].bit_count()) / (2 * len(found))
            title = self._titles[number]
            together = _PHRASE * _PHRASE if title == phrase else _PHRASE if phrase in title else 1.0
            if len(found) > 1 and which.bit_count() == len(found) and phrase in self._texts[number]:
                together *= _PHRASE
            scores[number] *= coverage * coverage * together
        return scores

    def _best(self, scores: Mapping[int, float]) -> Iterator[SearchEntry]:
        shown: Counter[str] = Counter()
        for number in sorted(scores, key=lambda number: (-scores[number], number)):
            page = self._pages[number]
            if shown[page] < _MOST_OF_PAGE:
                shown[page] += 1
                yield self._entries[number]
            if shown.total() == _MOST_RESULTS:
                return


def _pattern_of(route: str) -> re.Pattern[str]:
    """Return the pattern of queries for an operation: its path, with or without method, version and ids."""
    method, _, path = route.lower().partition(" ")
    steps = "/".join(r"[^/\s]+" if step.startswith("{") else re.escape(step) for step in path.split("/"))
    return re.compile(f"(?:{method} )?(?:/v1)?{steps}")


def _words_of(query: str) -> Sequence[str]:
    """Return the words of a query to look for, each once."""
    words = list(dict.fromkeys(_WORD.findall(query)))
    return [word for word in words if word not in _FILLERS][:_MOST_WORDS] or words[:_MOST_WORDS]


def _stem(word: str) -> str:
    """Return what a word has in common with its other forms: retry, retries, retried; rotate, rotation."""
    if len(word) <= _SHORT_WORD or not word.isalpha():
        return word
    return _ENDING.sub("", word)


def _stems(text: str) -> list[str]:
    """Return the stems of the words in a text, and of the parts of words such as `webhook-id`."""
    words = _WORD.findall(text.lower())
    return [_stem(each) for word in words for each in (word, *(_PART.findall(word) if not word.isalnum() else ()))]


def _weights(entry: SearchEntry) -> dict[str, float]:
    """Return how much each stem counts in an entry."""
    weights: defaultdict[str, float] = defaultdict(float)
    in_text = _stems(entry.text)
    # As in Okapi BM25: each repetition adds less than the previous one, and all count less in a long text.
    for stem, count in Counter(in_text).items():
        weights[stem] += _TEXT * 2 * count / (count + _SATURATION * (0.5 + len(in_text) / 200))
    for title, weight in ((entry.title, _TITLE), (entry.page, _PAGE_TITLE)):
        stems = set(_stems(title))
        for stem in stems:
            weights[stem] += weight / sqrt(len(stems))
    for stem in {stem for name in entry.names for stem in _stems(name)}:
        weights[stem] += _NAME
    return weights


def _marks(stems: Iterable[str]) -> re.Pattern[str]:
    # A query may have no words, as the route "/" has none: then nothing is marked.
    either = "|".join(map(re.escape, stems)) or "(?!)"
    return re.compile(rf"\b(?:{either})[\w-]*", re.IGNORECASE)


def _excerpt(text: str, stems: Iterable[str], marks: re.Pattern[str]) -> str:
    """Return the text around the first word that was found, as HTML, with all such words marked."""
    lower = text.lower()
    at = min((place for stem in stems if (place := lower.find(stem)) >= 0), default=0)
    start = text.rfind(" ", 0, at - _BEFORE) + 1 if at > _BEFORE else 0
    end = len(text)
    if end > at + _AFTER:
        end = max(text.rfind(" ", at, at + _AFTER), at + 1)
    pieces, last = [], start
    for match in marks.finditer(text, start, end):
        pieces += [html.escape(text[last : match.start()]), f"<mark>{html.escape(match[0])}</mark>"]
        last = match.end()
    return f"{'… ' if start else ''}{''.join(pieces)}{html.escape(text[last:end])}{' …' if end < len(text) else ''}"
