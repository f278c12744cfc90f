"""Suggestions for misspelled names: settings, commands, parameters."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

_LONGEST: Final = 100


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the most similar known name, or "" if none is similar."""
    # Comparing takes longer for long words, and a name of that length resembles none.
    return next(iter(get_close_matches(word[:_LONGEST], known, n=1)), "")


def suggestion(word: str, known: Iterable[str], prefix: str = "") -> str:
    """Return "; did you mean NAME?" with the most similar known name, or "" if none is similar.

    `prefix` is what all names start with. It is not in `known`, because it would make all of them similar.
    """
    close = nearest(word, known)
    return f"; did you mean {prefix}{close}?" if close else ""
