"""Suggestions for misspelled names: settings, commands, parameters."""

from collections.abc import Iterable
from difflib import SequenceMatcher
from heapq import nlargest
from typing import Final

_LONGEST: Final = 100
_SIMILAR: Final = 0.75
_SIMILAR_IF_SHORT: Final = 0.6
"""Swapping two letters changes half of a short word."""
_SHORT: Final = 4
_SIMILAR_IN_LENGTH: Final = 0.85
"""Names of very different lengths are not similar: `secret` is all in `secret_key`."""
_LISTED: Final = 20
_COMPARED: Final = 4
"""How many names are compared exactly, each of which takes up to a millisecond: clients may ask in a loop."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the most similar known name, else the first that starts with the word or has it between `_`, else ""."""
    names = tuple(known)
    # Comparing takes longer for long words, and a name of that length resembles none.
    matcher = SequenceMatcher(b=word[:_LONGEST])
    similar = _SIMILAR if len(word) > _SHORT else _SIMILAR_IF_SHORT
    likely: list[tuple[float, str]] = []
    for name in names:
        matcher.set_seq1(name)
        # The letters that both have, whatever their order.
        common = matcher.quick_ratio() if matcher.real_quick_ratio() >= _SIMILAR_IN_LENGTH else 0
        if common >= similar:
            likely.append((common, name))
    compared: list[tuple[float, str]] = []
    for _, name in nlargest(_COMPARED, likely):
        matcher.set_seq1(name)
        compared.append((matcher.ratio(), name))
    similarity, right = max(compared, default=(0.0, ""))
    if similarity >= similar:
        return right
    return next((name for name in names if word in name.split("_") or (len(word) > 2 and name.startswith(word))), "")


def suggestion(word: str, known: Iterable[str], prefix: str = "") -> str:
    """Return "; did you mean NAME?" with the most similar known name, or "" if none is similar.

    `prefix` is what all names start with. It is not in `known`, because it would make all of them similar.
    """
    close = nearest(word, known)
    return f"; did you mean {prefix}{close}?" if close else ""


def alternatives(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean NAME?" with the most similar known name, else "; known names: A, B, …", sorted."""
    names = tuple(known)
    more = f" and {len(names) - _LISTED} more: see /docs/api" if len(names) > _LISTED else ""
    listed = f"; known names: {', '.join(sorted(names)[:_LISTED])}{more}" if names else ""
    return suggestion(word, names) or listed
