"""The syntax of regular expressions, as far as texts are to be made from it."""

import re
import string
from typing import Final, TypeAlias

import msgspec

LONG_COUNT: Final = 4
"""Repetitions of fewer than this many are too short to make an engine slow."""
_SPAN: Final = 16
_MAX_DEPTH: Final = 250

_CLASSES: Final = {
    "d": string.digits,
    "w": f"{string.ascii_letters}{string.digits}_",
    "s": " \t\n",
    "D": "ab .é",
    "W": " .-é😀",
    "S": "ab0.é",
}
_CONTROLS: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
_HEX_DIGITS: Final = {"x": 2, "u": 4, "U": 8}
_ASSERTIONS: Final = frozenset("bBAz<>")
_READ_FLAGS: Final = frozenset("ix")
_SPACE: Final = re.compile(r"(?:\s|#[^\n]*)*")
ANY: Final = "ab0 .é😀"


class Characters(msgspec.Struct, frozen=True):
    """A choice of characters. No choice stands for an assertion such as `^`."""

    choices: str
    """Some of the characters, guessed from the syntax."""
    source: str = ""
    """The part of the expression. Empty for a single character, which is no guess."""
    written: str = ""
    """The characters that the source names, those that it excludes included."""


class Sequence(msgspec.Struct, frozen=True):
    parts: "tuple[Node, ...]"


class Alternatives(msgspec.Struct, frozen=True):
    parts: "tuple[Node, ...]"


class Repetition(msgspec.Struct, frozen=True):
    id: int
    part: "Node"
    least: int
    most: int | None


Node: TypeAlias = Characters | Sequence | Alternatives | Repetition


def shortest(node: Node) -> int:
    """Return the least number of characters that match."""
    if isinstance(node, Characters):
        return 1 if node.choices else 0
    if isinstance(node, Repetition):
        return node.least * shortest(node.part) if node.least else 0
    lengths = [shortest(part) for part in node.parts]
    return sum(lengths) if isinstance(node, Sequence) else min(lengths)


def _is_void(node: Node) -> bool:
    """Whether nothing but the empty text can match. A parsed repetition always has something to repeat."""
    if isinstance(node, Characters):
        return not node.choices
    return not isinstance(node, Repetition) and all(map(_is_void, node.parts))


class Parser:
    """Reads an expression that the engine has accepted. It takes unknown syntax literally."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._depth = 0
        self._ids = 0
        self.repetitions: list[int] = []
        """Ids of the repetitions that are long enough to make an engine slow."""
        self.endless: set[int] = set()
        """Repetitions without an upper bound."""
        self.composite: set[int] = set()
        """Repetitions of more than a character."""
        self.longest_least = 0
        """The characters that a match needs at least for one of the repetitions."""
        self._flags: frozenset[str] = frozenset()

    def parse(self) -> Node:
        tree = self._alternatives()
        while self._at < len(self._pattern):
            self._at += 1
            tree = Sequence((tree, self._alternatives()))
        return tree

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _next(self) -> str:
        """Peek at the next character outside of classes, where the flag `x` skips space and comments."""
        if "x" in self._flags and (skipped := _SPACE.match(self._pattern, self._at)) is not None:
            self._at = skipped.end()
        return self._peek()

    def _take(self) -> str:
        self._at += 1
        return self._pattern[self._at - 1 : self._at]

    def _alternatives(self) -> Node:
        parts = [self._sequence()]
        while self._next() == "|":
            self._at += 1
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else Alternatives(tuple(parts))

    def _sequence(self) -> Node:
        parts = []
        while self._next() not in {"", "|", ")"}:
            known = len(self.repetitions)
            parts.append(self._repeated(self._atom(), known))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _repeated(self, part: Node, known: int) -> Node:
        """Read the quantifiers of a part. The repetitions in it are those after the `known` ones."""
        while (counts := self._counts()) is not None:
            least, most = counts
            if most == 0 or _is_void(part):
                # The engine accepts any number of repetitions of nothing.
                part = Characters("")
                del self.repetitions[known:]
                continue
            self._ids += 1
            if most is None or most * max(1, shortest(part)) >= LONG_COUNT:
                self.repetitions.append(self._ids)
            if most is None:
                self.endless.add(self._ids)
            if not isinstance(part, Characters):
                self.composite.add(self._ids)
            part = Repetition(self._ids, part, least, most)
            self.longest_least = max(self.longest_least, shortest(part))
        return part

    def _counts(self) -> tuple[int, int | None] | None:
        """Read a quantifier. Returns None if there is none."""
        mark, counts = self._next(), None
        if mark and mark in "*+?":
            self._at += 1
            counts = {"*": (0, None), "+": (1, None), "?": (0, 1)}[mark]
        elif mark == "{":
            end = self._pattern.find("}", self._at)
            least, comma, most = self._pattern[self._at + 1 : max(end, 0)].partition(",")
            least, most = least.strip(), most.strip()
            if not least.isdecimal() or (most and not most.isdecimal()):
                return None
            self._at = end + 1
            counts = int(least), (int(most) if most else None if comma else int(least))
        if counts is not None and self._next() == "?":
            self._at += 1
        return counts

    def _atom(self) -> Node:
        start, char = self._at, self._take()
        if char == "(":
            return self._group()
        if char in {"^", "$"}:
            return Characters("")
        choices = written = char
        if char == "[":
            choices, written = self._bracketed()
        elif char == ".":
            choices = ANY
        elif char == "\\":
            choices = written = self._escaped()
        flags = "".join(sorted(self._flags))
        source = self._pattern[start : self._at]
        is_guess = len(choices) > 1 or char == "["
        return Characters(choices, (f"(?{flags})" if flags else "") + source if is_guess else "", written)

    def _group(self) -> Node:
        outer = self._flags
        if self._peek() == "?":
            # Up to the colon or the end of a name, which may be flags.
            start = self._at + 1
            while self._peek() not in {"", ":", ">", ")"}:
                self._at += 1
            self._set_flags(self._pattern[start : self._at])
            if self._peek() == ")":
                # Flags alone hold up to the end of the group around them.
                self._at += 1
                return Characters("")
            self._at += 1
        self._depth += 1
        inner = self._alternatives() if self._depth < _MAX_DEPTH else Characters("")
        self._depth -= 1
        if self._next() == ")":
            self._at += 1
        self._flags = outer
        return inner

    def _set_flags(self, text: str) -> None:
        on, _, off = text.partition("-")
        if text.replace("-", "").isalpha():
            self._flags = (self._flags | _READ_FLAGS.intersection(on)) - set(off)

    def _escaped(self) -> str:
        char = self._take()
        if char in {"p", "P"}:
            self._skip_braces()
            return "éaß0." if char == "P" else "éaß"
        if char in _HEX_DIGITS:
            return self._code_point(_HEX_DIGITS[char])
        if char in _ASSERTIONS:
            if self._peek() == "{" and not self._pattern[self._at + 1 : self._at + 2].isdecimal():
                self._skip_braces()
            return ""
        if char == "c":
            return chr(ord(self._take() or "@") % 32)
        return _CLASSES.get(char) or _CONTROLS.get(char) or char

    def _code_point(self, digits: int) -> str:
        if self._peek() == "{":
            text = self._skip_braces()
        else:
            text = self._pattern[self._at : self._at + digits]
            self._at += digits
        try:
            return chr(int(text, 16))
        except (ValueError, OverflowError):
            return "x"

    def _skip_braces(self) -> str:
        """Skip `{…}` and return what is inside; one character without braces."""
        if self._peek() != "{":
            return self._take()
        end = self._pattern.find("}", self._at)
        start, self._at = self._at + 1, (end if end >= 0 else len(self._pattern)) + 1
        return self._pattern[start : self._at - 1]

    def _bracketed(self) -> tuple[str, str]:
        """Read a character class up to its bracket. Returns some of its characters, and those that it names."""
        negated = self._peek() == "^"
        if negated:
            self._at += 1
        members: list[str] = []
        is_first = True
        while (char := self._take()) and (is_first or char != "]"):
            is_first = False
            one = self._escaped() if char == "\\" else char
            if self._peek() == "-" and self._pattern[self._at + 1 : self._at + 2] not in {"", "]"} and len(one) == 1:
                self._at += 1
                last = self._take()
                last = self._escaped() if last == "\\" else last
                one = _range(one, last[:1] or one)
            members.append(one)
        named = "".join(members)
        if not negated:
            return named, named
        return "".join(char for char in ANY + string.ascii_lowercase if char not in named) or "~", named


def _range(first: str, last: str) -> str:
    """Return some characters of a range, the ends included."""
    low, high = ord(first), max(ord(first), ord(last))
    step = max(1, (high - low) // _SPAN)
    return "".join(dict.fromkeys((*map(chr, range(low, high + 1, step)), chr(high))))
