"""Types of messages, and the patterns that match them.

A type is a list of words separated by dots, such as `orders.eu.paid`. In a pattern, `*` matches exactly one word,
and `>` at the end matches one or more words.
"""

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

import msgspec

from discue.domain.errors import below, invalid
from discue.domain.headers import Headers

MAX_CHARACTERS: Final = 255
MAX_PATTERNS: Final = 100
"""Maximum types and patterns of a listener."""

MAX_TYPES: Final = 1_000
"""Maximum event types in the catalogue of an organization."""
MAX_CATALOGUE_BYTES: Final = 4_194_304
"""Maximum bytes of all schemas and examples of a catalogue."""

# Visible ASCII without the dot and the wildcards. There is only one way to match a text, so matching takes linear time.
_WORD: Final = r"[!-)+,\-/-=?-~]+"
TYPE: Final = rf"^{_WORD}(?:\.{_WORD})*$"
PATTERN: Final = rf"^(?:>|(?:\*|{_WORD})(?:\.(?:\*|{_WORD}))*(?:\.>)?)$"

_is_type: Final = re.compile(TYPE).fullmatch
_is_pattern: Final = re.compile(PATTERN).fullmatch
_RULE: Final = (
    f"must be words of visible ASCII characters, separated by single dots, at most {MAX_CHARACTERS} characters"
)


class TypePattern(msgspec.Struct, frozen=True, gc=False):
    """A parsed pattern."""

    words: tuple[str, ...]
    """The words before a final `>`."""
    is_open: bool
    """Whether the pattern ends with `>`."""

    def matches(self, event_type: str) -> bool:
        """Return whether the type matches, in linear time."""
        # Wildcards match whole words, so comparing word by word suffices; nothing backtracks.
        words = event_type.split(".")
        if len(words) <= len(self.words) if self.is_open else len(words) != len(self.words):
            return False
        return all(expected in ("*", word) for expected, word in zip(self.words, words, strict=False))


def is_type(text: str) -> bool:
    return len(text) <= MAX_CHARACTERS and _is_type(text) is not None


def check_type(text: str, pointer: str) -> None:
    if not is_type(text):
        raise invalid(pointer, f"{_RULE}, without * and >")


def checked_type(given: str | None, headers: Headers, pointer: str = "") -> str | None:
    """Return the type of a message with these headers.

    Raises Unprocessable for an invalid type, and for a header `ce-type` with another value.
    """
    if given is not None:
        check_type(given, f"{pointer}/type")
        for name, value in headers:
            if name.lower() == "ce-type" and unquote(value) != given:
                rule = f"must be the type of the message, {given}; leave out one of the two"
                raise invalid(below(f"{pointer}/headers", name), rule, code="conflicting_fields")
    return given


def check_pattern(pattern: str, pointer: str) -> None:
    if len(pattern) > MAX_CHARACTERS or not _is_pattern(pattern):
        raise invalid(pointer, f"{_RULE}; * must be a whole word, and > the last word")


def check_patterns(patterns: Sequence[str], pointer: str) -> None:
    """Raise Unprocessable unless these can be the types of a listener."""
    if not 1 <= len(patterns) <= MAX_PATTERNS:
        raise invalid(pointer, f"must have 1 to {MAX_PATTERNS} types or patterns; for all messages, send null")
    for index, pattern in enumerate(patterns):
        check_pattern(pattern, f"{pointer}/{index}")


def parse_pattern(text: str) -> TypePattern:
    # Parsed once per channel: publishing compares every type with every pattern of a topic.
    words = tuple(text.split("."))
    return TypePattern(words[:-1], is_open=True) if words[-1] == ">" else TypePattern(words, is_open=False)
