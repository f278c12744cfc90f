"""Suggestions for misspelled names: settings, commands, parameters."""

from collections.abc import Iterable
from difflib import get_close_matches


def suggestion(word: str, known: Iterable[str], prefix: str = "") -> str:
    """Return "; did you mean NAME?" with the most similar known name, or "" if none is similar.

    `prefix` is what all names start with. It is not in `known`, because it would make all of them similar.
    """
    close = get_close_matches(word, known, n=1)
    return f"; did you mean {prefix}{close[0]}?" if close else ""
