"""Texts that keep an engine busy with a regular expression, made from the expression itself.

An engine that keeps its states in a bounded cache falls back to following all of them, one character at a time.
`[ab]{1,100}a[ab]{1,100}x` makes it do so on a text of `a` and `b`, and on no other. Therefore texts enter each of the
repetitions, and mix a character that continues and ends them with one that only continues them.
"""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Final, NamedTuple, TypeAlias, TypeVar

from discue.domain import pattern_syntax
from discue.domain.pattern_syntax import LONG_COUNT, Alternatives, Characters, Node, Parser, Repetition

T = TypeVar("T")

Matcher: TypeAlias = Callable[[str], bool]
Compile: TypeAlias = Callable[[str], Matcher | None]
"""Returns a function that says whether an expression matches a text; None if it is not supported."""

_WRITTEN_CHARACTERS: Final = 768
_ANCHORED_CHARACTERS: Final = 4_096
"""Only a true beginning of a match keeps an engine busy with an anchored expression, so it is written longer."""
_TEXT_CHARACTERS: Final = 16_384
"""Long enough that an engine whose cache of states is too small gives up on it."""
_LONGEST_START: Final = 12_288
"""Characters in front of a repetition: more than the largest expression can require."""
_MAX_REPETITIONS: Final = 64
_MAX_ENDLESS: Final = 8
_MAX_SHARED: Final = 48
_MAX_TRIED: Final = 128
_EXTRA_COUNT: Final = 40
_SPAN: Final = 16
_PART: Final = 8
_LONG_LEAST: Final = 10
"""With shorter matches, an engine has so few states that it keeps them all."""
_POOL: Final = 4_096
_MASK: Final = (1 << 64) - 1
_LAST_CODE: Final = 0x10_FFFF
_LAST_TRIED: Final = 0x2_0000
"""The end of nearly all scripts."""
_USUAL: Final = "abkxzABKXZ0189 _-.,:/@\t\n\0éßſαβжאの中😀"


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


class _Plan(NamedTuple):
    """The contents of a text."""

    target: int | None = None
    """The repetition that it must enter; None: any."""
    shared: str = ""
    """The character that half of the choices with it take; none: all choices are even."""
    is_short: bool = False
    """Whether its matches have their ends, and lack some of the least repetitions instead.

    An engine that looks for the end first is busy with no other text.
    """
    is_endless: bool = False
    """Whether the target is repeated up to the end of the text, whatever its most: each place in it begins a match.

    Words that it chooses from, such as `foo|bar`, stay whole. In other texts, a cut word ends all matches.
    """


class Text(NamedTuple):
    """A text to match."""

    text: str
    another: Callable[[], str] | None = None
    """Writes a text like it, for an engine that would know this one when it matches it again; None: this one does."""


def texts_for(pattern: str, compiled: Compile) -> Iterator[Text]:
    """Yield texts that keep an engine busy: beginnings of matches, one after another, that are never completed."""
    parser = Parser(pattern)
    tree = parser.parse()
    alphabet = _Alphabet(tree, compiled)
    random = _Random()
    is_anchored = "^" in pattern or r"\A" in pattern

    def write(plan: _Plan, characters: int) -> str:
        return _Writer(random, alphabet, plan, characters).write(tree)

    for plan in _plans(parser, alphabet):
        characters = _WRITTEN_CHARACTERS
        if plan.is_short or plan.is_endless:
            characters = _TEXT_CHARACTERS
        elif is_anchored and plan.target in parser.endless:
            characters = _ANCHORED_CHARACTERS
        if plan.is_short or plan.is_endless:
            # Pieces of short matches are parts that no match has. An engine knows the states of the first text.
            yield Text(write(plan, characters), partial(write, plan, characters))
        else:
            text = write(plan, characters)
            yield Text(text)
            yield Text(_lengthened(text, random))


def _plans(parser: Parser, alphabet: "_Alphabet") -> Iterator[_Plan]:
    repetitions = parser.repetitions[:_MAX_REPETITIONS]
    yield _Plan()
    for target in repetitions:
        yield _Plan(target)
    for target in _spread([target for target in repetitions if target in parser.composite], _MAX_ENDLESS):
        yield _Plan(target, is_endless=True)
    is_long = bool(repetitions) and parser.longest_least >= _LONG_LEAST
    if is_long:
        yield _Plan(repetitions[-1], is_short=True)
    for shared in _spread(alphabet.shared(repetitions), _MAX_SHARED):
        entered = alphabet.repetitions_with(shared, repetitions)
        # The first and the last: a repetition in between is entered on the way from one to the other.
        for target in dict.fromkeys((entered[0], entered[-1])):
            yield _Plan(target, shared)
        if is_long:
            yield _Plan(entered[-1], shared, is_short=True)


def _spread(items: Sequence[T], most: int) -> Sequence[T]:
    """Return at most so many of the items, evenly spread."""
    return items if len(items) <= most else [items[index * len(items) // most] for index in range(most)]


def _lengthened(text: str, random: _Random) -> str:
    """Continue a text with random pieces of itself."""
    pieces = [text]
    for _ in range(_TEXT_CHARACTERS // _SPAN):
        start = random.below(len(text))
        pieces.append(text[start : start + 1 + random.below(2 * _SPAN)])
    return "".join(pieces)


class _Alphabet:
    """The characters that each choice of an expression has, as the engine itself says."""

    def __init__(self, tree: Node, compiled: Compile) -> None:
        self._compiled = compiled
        self._members: dict[str, str] = {}
        self._pools: dict[tuple[str, str], str] = {}
        self._choices: dict[int | None, dict[str, Characters]] = {None: {}}
        """The different choices in each repetition, by their keys; those of the whole expression by None."""
        self._collect(tree, (None,))
        choices = self._choices[None].values()
        written = _spread(list(dict.fromkeys("".join(each.written for each in choices))), _MAX_TRIED)
        self._tried = "".join(_around([*_USUAL, *written]))
        self._holders: dict[str, set[str]] = {}
        """The keys of the choices that have a character."""
        for key, each in self._choices[None].items():
            for char in self.members(each):
                self._holders.setdefault(char, set()).add(key)

    def _collect(self, node: Node, within: tuple[int | None, ...]) -> None:
        if isinstance(node, Characters):
            if node.choices:
                for each in within:
                    self._choices[each].setdefault(_key(node), node)
        elif isinstance(node, Repetition):
            self._choices[node.id] = {}
            self._collect(node.part, (*within, node.id))
        else:
            for part in node.parts:
                self._collect(part, within)

    def members(self, node: Characters) -> str:
        """Return characters that a choice has."""
        if not node.source:
            return node.choices
        if node.source not in self._members:
            self._members[node.source] = self._found(node)
        return self._members[node.source]

    def _found(self, node: Characters) -> str:
        matches = self._compiled(f"^{node.source}$")
        if matches is None:
            return node.choices
        tried = [*_around(_spread(node.written, _MAX_TRIED)), *self._tried]
        if r"\p" in node.source.lower():
            tried += _of_each_script()
        return "".join(char for char in dict.fromkeys(tried) if matches(char)) or node.choices

    def some(self, node: Characters, shared: str, random: _Random, count: int = 1) -> str:
        """Return so many characters of a choice. Half of them are `shared`, if it has that one."""
        if not node.choices:
            return ""
        if not node.source:
            return node.choices * count
        key = node.source, shared
        if key not in self._pools:
            self._pools[key] = self._pool(node, shared)
        pool, start = self._pools[key], random.below(_POOL)
        return pool[start : start + count] if count <= _POOL else (pool * (count // _POOL + 1))[start : start + count]

    def _pool(self, node: Characters, shared: str) -> str:
        """Return characters to take pieces of, twice the same ones."""
        members = self.members(node)
        likely = "".join(char for char in node.choices if char in members)
        chars = self._rare(members) if shared or not likely else likely
        if shared and shared in members:
            chars = "".join(shared + char for char in chars)
        return "".join(chars[number % len(chars)] for number in _noise()) * 2

    def _rare(self, members: str) -> str:
        """Return a few of the characters: those that the fewest choices have."""
        fewest = min(len(self._holders[char]) for char in members)
        found = [char for char in members if len(self._holders[char]) == fewest]
        # Characters of several bytes are several steps for the engine.
        return "".join(dict.fromkeys((*found[:2], *found[-2:], found[len(found) // 2])))

    def shared(self, repetitions: Sequence[int]) -> list[str]:
        """Return a character for each set of choices that have one in common, and of which one is repeated."""
        repeated = {key for target in repetitions for key in self._choices[target]}
        found: dict[frozenset[str], str] = {}
        for char, holders in self._holders.items():
            if len(holders) > 1 and not repeated.isdisjoint(holders):
                found.setdefault(frozenset(holders), char)
        return list(found.values())

    def repetitions_with(self, shared: str, repetitions: Sequence[int]) -> list[int]:
        """Return the repetitions with a choice that has a character."""
        return [target for target in repetitions if not self._holders[shared].isdisjoint(self._choices[target])]


def _key(node: Characters) -> str:
    return node.source or f"={node.choices}"


def _around(characters: Iterable[str]) -> Iterator[str]:
    """Yield characters, and those next to them, which a range that ends there has or has not."""
    for char in characters:
        if len(char.swapcase()) == 1:
            yield char.swapcase()
        for code in (ord(char), ord(char) - 1, ord(char) + 1):
            if 0 <= code <= _LAST_CODE and not _is_surrogate(code):
                yield chr(code)


def _is_surrogate(code: int) -> bool:
    return 0xD800 <= code <= 0xDFFF


@cache
def _noise() -> Sequence[int]:
    random = _Random()
    return [random.below(1 << 16) for _ in range(_POOL)]


@cache
def _of_each_script() -> str:
    """Return two characters of each script and category."""
    found: dict[str, list[str]] = {}
    for code in range(_LAST_TRIED):
        char = chr(code)
        for kind in (unicodedata.category(char), unicodedata.name(char, "").partition(" ")[0]):
            chars = found.setdefault(kind, [])
            if len(chars) < 2 and not _is_surrogate(code):
                chars.append(char)
    return "".join(char for chars in found.values() for char in chars)


class _Writer:
    """Writes one text."""

    def __init__(self, random: _Random, alphabet: _Alphabet, plan: _Plan, characters: int) -> None:
        self._random = random
        self._alphabet = alphabet
        self._target, self._shared, self._is_short, self._is_endless = plan
        self._characters = characters
        self._entered: int | None = 0 if self._target is None else None
        """The position at which the text has entered the target; None: not yet."""
        self._length = 0
        self._pieces: list[str] = []
        self._lacks = False
        """Whether the present match lacks some of the least repetitions."""
        self._leading: set[int] = set()
        """The identities of the nodes with the target."""

    def write(self, tree: Node) -> str:
        """Return beginnings of matches, one after another."""
        finished: list[str] = []
        if self._target is not None:
            self._find_target(tree)
        while not self._is_full():
            before = self._length
            self._write(tree)
            if self._entered is None:
                # Nothing leads there.
                self._entered = 0
            text = "".join(self._pieces)
            if not text or (len(text) == 1 and not self._is_short):
                text += self._random.one_of(pattern_syntax.ANY)
            elif not self._is_full() and not self._is_short:
                text = self._broken(text)
            finished.append(text)
            self._pieces.clear()
            self._lacks = False
            self._length = before + len(text)
        return "".join(finished)

    def _is_full(self) -> bool:
        if self._entered is None:
            return self._length >= _LONGEST_START
        # At least as long as what leads to the target, on which the engine may be quick.
        return self._length >= self._entered + max(self._characters, self._entered)

    def _broken(self, text: str) -> str:
        """Take a part away from a match, so that the engine goes on."""
        return text[: (len(text) + 1) // 2 + self._random.below(len(text) // 2)]

    def _write(self, node: Node) -> None:
        if self._is_full():
            return
        if isinstance(node, Characters):
            self._add(self._alphabet.some(node, self._shared, self._random))
        elif isinstance(node, Repetition):
            if node.id == self._target and self._entered is None:
                self._entered = self._length
            self._repeat(node.part, self._count(node))
        elif isinstance(node, Alternatives):
            leading = [part for part in node.parts if id(part) in self._leading]
            self._write(self._random.one_of(leading or node.parts))
        else:
            for part in node.parts:
                self._write(part)

    def _repeat(self, node: Node, count: int) -> None:
        if isinstance(node, Characters):
            self._add(self._alphabet.some(node, self._shared, self._random, min(count, _LONGEST_START)))
            return
        for _ in range(count):
            if self._is_full():
                break
            self._write(node)

    def _add(self, text: str) -> None:
        self._pieces.append(text)
        self._length += len(text)

    def _count(self, node: Repetition) -> int:
        most = node.least + _EXTRA_COUNT if node.most is None else node.most
        if self._is_short:
            if node.least >= LONG_COUNT or (node.least > 1 and not self._lacks):
                self._lacks = True
                return node.least - 1 - self._random.below(1 + node.least // _PART)
            return node.least or min(most, int(id(node) in self._leading))
        if node.id == self._target and (node.most is None or self._is_endless):
            return max(self._characters, self._entered or 0)
        least = max(node.least, min(1, most)) if id(node) in self._leading else node.least
        return least + self._random.below(max(1, most - least + 1))

    def _find_target(self, node: Node) -> bool:
        """Note the nodes that lead to the target. Returns whether this one does."""
        if isinstance(node, Characters):
            return False
        if isinstance(node, Repetition):
            found = node.id == self._target or self._find_target(node.part)
        else:
            found = any(self._find_target(part) for part in node.parts)
        if found:
            self._leading.add(id(node))
        return found
