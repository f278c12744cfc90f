"""Subjects of messages, and the patterns that channels choose them by.

A subject is words with dots between them, such as `orders.eu.paid`. In a pattern `*` stands for any one word, and `>`,
as the last one, for one word or more.
"""

import re
from typing import Final

import msgspec

from discue.domain.errors import Fault, Unprocessable

LONGEST: Final = 255

# Visible ASCII without the dot and the wildcards. No two ways lead through these expressions: they take linear time.
_WORD: Final = r"[!-)+,\-/-=?-~]+"
SUBJECT: Final = rf"^{_WORD}(?:\.{_WORD})*$"
PATTERN: Final = rf"^(?:>|(?:\*|{_WORD})(?:\.(?:\*|{_WORD}))*(?:\.>)?)$"

_is_subject: Final = re.compile(SUBJECT).fullmatch
_is_pattern: Final = re.compile(PATTERN).fullmatch
_WORDS: Final = f"must be words of visible ASCII characters with one dot between them, {LONGEST} characters at most"


class Pattern(msgspec.Struct, frozen=True, gc=False):
    """`words` are those before `>`; with it, it is `open`."""

    words: tuple[str, ...]
    open: bool

    def matches(self, subject: str) -> bool:
        """In time linear in the subject: each of its words is looked at once at most."""
        words = subject.split(".")
        if len(words) <= len(self.words) if self.open else len(words) != len(self.words):
            return False
        return all(wanted in ("*", word) for wanted, word in zip(self.words, words, strict=False))


def is_subject(text: str) -> bool:
    return len(text) <= LONGEST and _is_subject(text) is not None


def check_subject(subject: str, pointer: str) -> None:
    """Raise Unprocessable for what is no subject."""
    if not is_subject(subject):
        raise _unacceptable(pointer, f"{_WORDS}, without * and >")


def check_pattern(pattern: str, pointer: str) -> None:
    """Raise Unprocessable for what is no pattern."""
    if len(pattern) > LONGEST or not _is_pattern(pattern):
        raise _unacceptable(pointer, f"{_WORDS}; * stands alone for one word, > alone at the end for all that follow")


def pattern_of(text: str) -> Pattern:
    """From the text of a pattern that was found acceptable."""
    words = tuple(text.split("."))
    return Pattern(words[:-1], open=True) if words[-1] == ">" else Pattern(words, open=False)


def _unacceptable(pointer: str, rule: str) -> Unprocessable:
    return Unprocessable(f"The value at {pointer} {rule}.", faults=(Fault(pointer, rule),))
