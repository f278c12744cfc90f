"""Regular expressions of clients, matched by an engine without backtracking.

Matching takes linear time, but up to 0.2 µs for each character and KiB of the compiled expression. Therefore the
product of both is limited.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator

MAX_PATTERNS: Final = 200
"""Maximum different patterns of one schema."""

LARGE_PATTERNS: Final = 20
"""Maximum patterns of one schema that compile to more than 32 KiB, which takes milliseconds each."""

MAX_MATCHED: Final = 262_144
"""Limit of the characters that patterns match, each multiplied by the pattern's compiled size in KiB: about 50 ms."""

SMALL_KIB: Final = 32

_LARGEST_KIB: Final = 256
_CACHE_BYTES: Final = 262_144
_SIZES: Final = tuple(1 << power for power in range(9))
"""Sizes in KiB."""

_CALL_CHARACTERS: Final = 4
"""Characters whose matching takes as long as counting a text."""
_FLAGS: Final = frozenset("dgimsuvy")


class TooMuchText(Exception):
    """The patterns of a schema would match more text of a message than `MAX_MATCHED` allows."""


class Patterns:
    """Checks the patterns of one schema, each of them once."""

    def __init__(self) -> None:
        self._kib: dict[str, int] = {}
        self._faults: dict[str, str] = {}
        self._large = 0

    def fault(self, pattern: str) -> str | None:
        """Return the rule that an expression breaks, None if it is valid."""
        if pattern not in self._kib and pattern not in self._faults:
            if len(self._kib) + len(self._faults) == MAX_PATTERNS:
                return f"is one too many: a schema can have at most {MAX_PATTERNS} different patterns"
            self._check(pattern)
        return self._faults.get(pattern)

    def delimited_fault(self, pattern: str) -> str | None:
        """Return the rule that an expression with optional delimiters breaks. Flags are refused, not ignored."""
        before, slash, flags = pattern[1:].rpartition("/")
        if pattern[:1] == slash == "/" and flags and _FLAGS.issuperset(flags):
            return f"has flags after its delimiters, which are not supported; write (?i){before[:100]} to ignore case"
        return self.fault(without_delimiters(pattern))

    @property
    def largest(self) -> int:
        """The compiled size of the largest of the valid expressions."""
        return max(self._kib.values(), default=0)

    def kib(self, pattern: str) -> int:
        """Return the compiled size of a valid expression."""
        return self._kib[pattern]

    def counted(
        self, patterns: Iterable[str], keywords: dict[str, Any], *, are_of_names: bool = False
    ) -> dict[str, Any]:
        """Return a schema that counts a text, or the names of members, before its keywords match valid patterns.

        Without the formats of `MatchedText`, it does not count.
        """
        count = {"allOf": [{"format": str(self._kib[pattern])} for pattern in patterns]}
        return {"if": {"propertyNames": count} if are_of_names else count, "then": keywords}

    def _check(self, pattern: str) -> None:
        kib = compiled_kib(pattern)
        self._large += kib is not None and kib > SMALL_KIB
        if kib is None:
            self._faults[pattern] = unsupported(_LARGEST_KIB)
        elif kib > SMALL_KIB and self._large > LARGE_PATTERNS:
            self._faults[pattern] = (
                f"is one too many: at most {LARGE_PATTERNS} patterns of a schema may compile to more than 32 KiB"
            )
        else:
            self._kib[pattern] = kib


class MatchedText:
    """Counts the text that the patterns of a schema match in one message."""

    def __init__(self) -> None:
        self._left = 0
        self.formats: dict[str, Callable[[str], bool]] = {str(kib): partial(self._count, kib) for kib in _SIZES}
        """Formats of the schemas that `Patterns.counted` returns."""

    def begin(self) -> None:
        self._left = MAX_MATCHED

    def _count(self, kib: int, text: str) -> bool:
        self._left -= kib * (len(text) + _CALL_CHARACTERS)
        if self._left < 0:
            raise TooMuchText
        return True


def compiled_kib(pattern: str, most: int = _LARGEST_KIB) -> int | None:
    """Return the compiled size, rounded up to a power of two; None if it is larger, or the syntax is not supported."""
    return next((kib for kib in _SIZES if kib <= most and _is_supported(pattern, kib)), None)


def unsupported(kib: int) -> str:
    """Return the rule that an expression breaks which does not compile to at most this size."""
    return (
        "is not a supported regular expression: write it without look-around and back-references, and shorten "
        f"repetitions such as {{1,100}} if it compiles to more than {kib} KiB"
    )


def without_delimiters(pattern: str) -> str:
    """Return the expression without the slashes of `/.../`."""
    return pattern[1:-1] if len(pattern) > 1 and pattern[0] == pattern[-1] == "/" else pattern


def matcher(pattern: str) -> Callable[[str], bool]:
    """Return a function that reports whether a small expression matches anywhere in a text."""
    return validator_of({"pattern": pattern}, SMALL_KIB).is_valid


def validator_of(document: Any, kib: int = _LARGEST_KIB, matched: MatchedText | None = None) -> "Draft202012Validator":
    """Return a validator of a JSON Schema. Raises ValueError unless its patterns compile to at most `kib`.

    With `matched`, it counts the text that patterns match.
    """
    # The library takes 4 MB, which a process that validates nothing does not need. The import takes 4 ms.
    from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError  # noqa: PLC0415

    try:
        return Draft202012Validator(
            document,
            pattern_options=RegexOptions(size_limit=1024 * kib, dfa_size_limit=_CACHE_BYTES),
            offline=True,
            formats=None if matched is None else matched.formats,
            validate_formats=matched is not None,
        )
    except ValidationError as error:
        raise ValueError(error.message) from None


def _is_supported(pattern: str, kib: int) -> bool:
    try:
        validator_of({"pattern": pattern}, kib)
    except ValueError:
        return False
    return True
