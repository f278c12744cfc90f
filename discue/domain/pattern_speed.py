"""How fast a regular expression matches in the worst case, measured on texts made from the expression itself.

Matching takes linear time, but the factor differs by three orders of magnitude: an engine that keeps its states in a
bounded cache falls back to following all of them, one character at a time. `[ab]{1,100}a[ab]{1,100}x` does so on a text
of `a` and `b`, and on no other. Therefore the texts follow the expression, and enter each of its repetitions.
"""

import string
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias, TypeVar

import msgspec

T = TypeVar("T")

CpuTime: TypeAlias = Callable[[], int]
"""Nanoseconds of processor time of the calling thread. Unlike the time of day, it does not run while others work."""

_WRITTEN_CHARACTERS: Final = 768
_ANCHORED_CHARACTERS: Final = 4_096
"""Only a true beginning of a match keeps an engine busy with an anchored expression, so it is written longer."""
_TEXT_CHARACTERS: Final = 16_384
"""Long enough that an engine whose cache of states is too small gives up on it."""
_MAX_REPETITIONS: Final = 64
_MEASUREMENTS: Final = 8
_LONG_COUNT: Final = 4
"""Repetitions of fewer than this many are too short to make an engine slow."""
_EXTRA_COUNT: Final = 40
_SPAN: Final = 16
_MAX_DEPTH: Final = 250
_MASK: Final = (1 << 64) - 1

_CLASSES: Final = {
    "d": string.digits,
    "w": f"{string.ascii_letters}{string.digits}_",
    "s": " \t\n",
    "D": "ab .é",
    "W": " .-é😀",
    "S": "ab0.é",
}
_CONTROLS: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
_HEX_DIGITS: Final = {"x": 2, "u": 4}
_ANY: Final = "ab0 .é😀"


class _Characters(msgspec.Struct, frozen=True):
    """A choice of characters. No choice stands for an assertion such as `^`."""

    choices: str


class _Sequence(msgspec.Struct, frozen=True):
    parts: "tuple[_Node, ...]"


class _Alternatives(msgspec.Struct, frozen=True):
    parts: "tuple[_Node, ...]"


class _Repetition(msgspec.Struct, frozen=True):
    id: int
    part: "_Node"
    least: int
    most: int | None


_Node: TypeAlias = _Characters | _Sequence | _Alternatives | _Repetition


class _Random:
    """Pseudo-random numbers, always the same ones: an expression is accepted or refused for good."""

    def __init__(self) -> None:
        self._state = 1

    def below(self, limit: int) -> int:
        # The multiplier and increment of Knuth's MMIX; its high bits are the random ones.
        self._state = (self._state * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) & _MASK
        return (self._state >> 33) % limit

    def one_of(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]


def slowest_ns(pattern: str, matches: Callable[[str], bool], cpu_time: CpuTime, *, limit_ns: float) -> float:
    """Return the nanoseconds per character of the slowest text. Stops at the first one above `limit_ns`.

    Takes at most some milliseconds for an expression within the limit.
    """
    slowest = 0.0
    for text in texts_for(pattern):
        slowest = max(slowest, _ns_per_character(text, matches, cpu_time, limit_ns / 4))
        if slowest > limit_ns:
            break
    return slowest


def texts_for(pattern: str) -> Iterator[str]:
    """Yield texts that keep an engine busy: beginnings of matches, one after another, that are never completed."""
    parser = _Parser(pattern)
    tree = parser.parse()
    random = _Random()
    targets: list[int | None] = [None, *parser.repetitions[:_MAX_REPETITIONS]]
    for target in targets:
        is_long = target in parser.endless and "^" in pattern
        writer = _Writer(random, target, _ANCHORED_CHARACTERS if is_long else _WRITTEN_CHARACTERS)
        writer.write_until_full(tree)
        text = "".join(writer.text)
        yield text
        yield _lengthened(text, random)


def _lengthened(text: str, random: _Random) -> str:
    """Continue a text with random pieces of itself."""
    pieces = [text]
    for _ in range(_TEXT_CHARACTERS // _SPAN):
        start = random.below(len(text))
        pieces.append(text[start : start + 1 + random.below(2 * _SPAN)])
    return "".join(pieces)


def _ns_per_character(text: str, matches: Callable[[str], bool], cpu_time: CpuTime, enough_ns: float) -> float:
    """Return the time of the fastest of several matches, or of the first one that is fast enough."""
    # The first match fills caches, and the processor may be shared with others.
    fastest = float("inf")
    for _ in range(_MEASUREMENTS):
        started = cpu_time()
        matches(text)
        fastest = min(fastest, (cpu_time() - started) / max(1, len(text)))
        if fastest <= enough_ns:
            break
    return fastest


class _Writer:
    """Writes one text."""

    def __init__(self, random: _Random, target: int | None, characters: int) -> None:
        self._random = random
        self._characters = characters
        self._target = target
        """The repetition that the text must enter; None: any."""
        self.text: list[str] = []

    def _is_full(self) -> bool:
        return len(self.text) >= self._characters

    def write_until_full(self, tree: _Node) -> None:
        while not self._is_full():
            before = len(self.text)
            self._write(tree)
            # Without its end, the match is not complete, and the engine goes on.
            written = len(self.text) - before
            if written > 1 and not self._is_full():
                del self.text[before + (written + 1) // 2 + self._random.below(written // 2) :]
            if written <= 1:
                self.text.append(self._random.one_of(_ANY))

    def _write(self, node: _Node) -> None:
        if self._is_full():
            return
        if isinstance(node, _Characters):
            if node.choices:
                self.text.append(self._random.one_of(node.choices))
        elif isinstance(node, _Sequence):
            for part in node.parts:
                self._write(part)
        elif isinstance(node, _Alternatives):
            leading = [part for part in node.parts if _contains(part, self._target)]
            self._write(self._random.one_of(leading or node.parts))
        else:
            for _ in range(self._count(node)):
                if self._is_full():
                    break
                self._write(node.part)

    def _count(self, node: _Repetition) -> int:
        most = node.least + _EXTRA_COUNT if node.most is None else node.most
        if node.id == self._target and node.most is None:
            return self._characters
        least = max(node.least, min(1, most)) if _contains(node, self._target) else node.least
        return least + self._random.below(max(1, most - least + 1))


def _contains(node: _Node, target: int | None) -> bool:
    if target is None:
        return False
    if isinstance(node, _Repetition):
        return node.id == target or _contains(node.part, target)
    return not isinstance(node, _Characters) and any(_contains(part, target) for part in node.parts)


class _Parser:
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

    def parse(self) -> _Node:
        tree = self._alternatives()
        while self._at < len(self._pattern):
            self._at += 1
            tree = _Sequence((tree, self._alternatives()))
        return tree

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _take(self) -> str:
        self._at += 1
        return self._pattern[self._at - 1 : self._at]

    def _alternatives(self) -> _Node:
        parts = [self._sequence()]
        while self._peek() == "|":
            self._at += 1
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else _Alternatives(tuple(parts))

    def _sequence(self) -> _Node:
        parts = []
        while self._peek() not in {"", "|", ")"}:
            parts.append(self._repeated(self._atom()))
        return parts[0] if len(parts) == 1 else _Sequence(tuple(parts))

    def _repeated(self, part: _Node) -> _Node:
        while (counts := self._counts()) is not None:
            least, most = counts
            self._ids += 1
            if most is None or most >= _LONG_COUNT:
                self.repetitions.append(self._ids)
            if most is None:
                self.endless.add(self._ids)
            part = _Repetition(self._ids, part, least, most)
        return part

    def _counts(self) -> tuple[int, int | None] | None:
        """Read a quantifier. Returns None if there is none."""
        mark, counts = self._peek(), None
        if mark and mark in "*+?":
            self._at += 1
            counts = {"*": (0, None), "+": (1, None), "?": (0, 1)}[mark]
        elif mark == "{":
            end = self._pattern.find("}", self._at)
            least, comma, most = self._pattern[self._at + 1 : max(end, 0)].partition(",")
            if not least.isdecimal() or (most and not most.isdecimal()):
                return None
            self._at = end + 1
            counts = int(least), (int(most) if most else None if comma else int(least))
        if counts is not None and self._peek() == "?":
            self._at += 1
        return counts

    def _atom(self) -> _Node:
        char = self._take()
        if char == "(":
            return self._group()
        if char == "[":
            return _Characters(self._bracketed())
        if char == ".":
            return _Characters(_ANY)
        if char == "\\":
            return _Characters(self._escaped())
        return _Characters("" if char in {"^", "$"} else char)

    def _group(self) -> _Node:
        if self._peek() == "?":
            # Up to the colon or the end of a name: flags and names do not matter here.
            while self._peek() not in {"", ":", ">", ")"}:
                self._at += 1
            if self._peek() != ")":
                self._at += 1
        self._depth += 1
        inner = self._alternatives() if self._depth < _MAX_DEPTH else _Characters("")
        self._depth -= 1
        if self._peek() == ")":
            self._at += 1
        return inner

    def _escaped(self) -> str:
        char = self._take()
        if char in {"p", "P"}:
            self._skip_braces()
            return "éaß0." if char == "P" else "éaß"
        if char in _HEX_DIGITS:
            return self._code_point(_HEX_DIGITS[char])
        if char in {"b", "B"}:
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

    def _bracketed(self) -> str:
        """Read a character class up to its bracket."""
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
        choices = "".join(members)
        if not negated:
            return choices
        return "".join(char for char in _ANY + string.ascii_lowercase if char not in choices) or "~"


def _range(first: str, last: str) -> str:
    """Return some characters of a range, the ends included."""
    low, high = ord(first), max(ord(first), ord(last))
    step = max(1, (high - low) // _SPAN)
    return "".join(dict.fromkeys((*map(chr, range(low, high + 1, step)), chr(high))))
