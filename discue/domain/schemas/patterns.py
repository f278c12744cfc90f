"""Regular expressions of clients: what runs in linear time is taken, nothing else."""

from collections.abc import Callable
from typing import Final

from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

LINEAR: Final = RegexOptions(size_limit=262_144, dfa_size_limit=262_144)
"""The engine that never goes back in a text. What a character costs grows with the compiled pattern: that is small."""

LARGE_PATTERNS: Final = 100
"""At most so many in one schema that compile to more than 32 KiB."""

_SMALL: Final = RegexOptions(size_limit=32_768, dfa_size_limit=262_144)
_FLAGS: Final = frozenset("dgimsuvy")
_NOT_SUPPORTED: Final = (
    "is not a regular expression that is supported: it must compile to 256 KiB at most, and look-around and "
    "back-references are not"
)


def without_delimiters(pattern: str) -> str:
    """The expression itself: it may be written as `/.../`."""
    return pattern[1:-1] if len(pattern) > 1 and pattern[0] == pattern[-1] == "/" else pattern


class Patterns:
    """The patterns of one schema: which of them are refused, and why."""

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}
        self._large = 0

    def refusal(self, pattern: str) -> str | None:
        """What is wrong with an expression; None for one that can be used."""
        if pattern not in self._known:
            self._known[pattern] = self._judged(pattern)
        return self._known[pattern]

    def refusal_of_delimited(self, pattern: str) -> str | None:
        """The same for one that may have delimiters. Flags behind them would go unheard, and are refused."""
        before, slash, flags = pattern[1:].rpartition("/")
        if pattern[:1] == slash == "/" and flags and _FLAGS.issuperset(flags):
            return f"has flags behind its delimiters, which are not supported: (?i){before[:100]} ignores case"
        return self.refusal(without_delimiters(pattern))

    def _judged(self, pattern: str) -> str | None:
        if _compiles(pattern, _SMALL):
            return None
        if not _compiles(pattern, LINEAR):
            return _NOT_SUPPORTED
        self._large += 1
        if self._large > LARGE_PATTERNS:
            return f"is one too many: {LARGE_PATTERNS} patterns of a schema may compile to more than 32 KiB"
        return None


def small_refusal(pattern: str) -> str | None:
    """What is wrong with an expression that must be small: 32 KiB when it is compiled."""
    if _compiles(pattern, _SMALL):
        return None
    return _NOT_SUPPORTED.replace("256", "32")


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a small expression matches anywhere in a text."""
    return Draft202012Validator({"pattern": pattern}, pattern_options=_SMALL, offline=True).is_valid


def _compiles(pattern: str, options: RegexOptions) -> bool:
    try:
        Draft202012Validator({"pattern": pattern}, pattern_options=options, offline=True)
    except ValidationError:
        return False
    return True
