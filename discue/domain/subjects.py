"""Subjects of messages that are published to topics, and the patterns that match them.

A subject is a list of words separated by dots, such as `orders.eu.paid`. In a pattern, `*` matches exactly one word,
and `>` at the end matches one or more words.
"""

import re
from typing import Final

import msgspec

from discue.domain.errors import invalid

MAX_CHARACTERS: Final = 255

# Visible ASCII without the dot and the wildcards. There is only one way to match a text, so matching takes linear time.
_WORD: Final = r"[!-)+,\-/-=?-~]+"
SUBJECT: Final = rf"^{_WORD}(?:\.{_WORD})*$"
PATTERN: Final = rf"^(?:>|(?:\*|{_WORD})(?:\.(?:\*|{_WORD}))*(?:\.>)?)$"

_is_subject: Final = re.compile(SUBJECT).fullmatch
_is_pattern: Final = re.compile(PATTERN).fullmatch
_RULE: Final = (
    f"must be words of visible ASCII characters, separated by single dots, at most {MAX_CHARACTERS} characters"
)


class SubjectPattern(msgspec.Struct, frozen=True, gc=False):
    """A parsed pattern."""

    words: tuple[str, ...]
    """The words before a final `>`."""
    is_open: bool
    """Whether the pattern ends with `>`."""

    def matches(self, subject: str) -> bool:
        """Return whether the subject matches, in linear time."""
        # Wildcards match whole words, so comparing word by word suffices; nothing backtracks.
        words = subject.split(".")
        if len(words) <= len(self.words) if self.is_open else len(words) != len(self.words):
            return False
        return all(expected in ("*", word) for expected, word in zip(self.words, words, strict=False))


def is_subject(text: str) -> bool:
    return len(text) <= MAX_CHARACTERS and _is_subject(text) is not None


def check_subject(subject: str, pointer: str) -> None:
    if not is_subject(subject):
        raise invalid(pointer, f"{_RULE}, without * and >")


def check_pattern(pattern: str, pointer: str) -> None:
    if len(pattern) > MAX_CHARACTERS or not _is_pattern(pattern):
        raise invalid(pointer, f"{_RULE}; * must be a whole word, and > the last word")


def parse_pattern(text: str) -> SubjectPattern:
    # Parsed once per channel: publishing compares every subject with every pattern of a topic.
    words = tuple(text.split("."))
    return SubjectPattern(words[:-1], is_open=True) if words[-1] == ">" else SubjectPattern(words, is_open=False)
