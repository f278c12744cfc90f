"""Regular expressions of clients. Only those that match in linear time are accepted."""

from collections.abc import Callable
from typing import Final

from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

LINEAR: Final = RegexOptions(size_limit=262_144, dfa_size_limit=262_144)
"""An engine without backtracking. The time per character grows with the compiled pattern, hence the size limit."""

LARGE_PATTERNS: Final = 100
"""Maximum patterns of one schema that compile to more than 32 KiB."""

_SMALL: Final = RegexOptions(size_limit=32_768, dfa_size_limit=262_144)
_FLAGS: Final = frozenset("dgimsuvy")
_UNSUPPORTED: Final = (
    "is not a supported regular expression: it must compile to at most 256 KiB, without look-around and back-references"
)


def without_delimiters(pattern: str) -> str:
    """Return the expression without the slashes of `/.../`."""
    return pattern[1:-1] if len(pattern) > 1 and pattern[0] == pattern[-1] == "/" else pattern


class Patterns:
    """Checks the patterns of one schema."""

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}
        self._large = 0

    def fault(self, pattern: str) -> str | None:
        """Return the rule that an expression breaks, None if it is valid."""
        if pattern not in self._known:
            self._known[pattern] = self._checked(pattern)
        return self._known[pattern]

    def delimited_fault(self, pattern: str) -> str | None:
        """Return the rule that an expression with optional delimiters breaks. Flags are refused, not ignored."""
        before, slash, flags = pattern[1:].rpartition("/")
        if pattern[:1] == slash == "/" and flags and _FLAGS.issuperset(flags):
            return f"has flags after its delimiters, which are not supported; write (?i){before[:100]} to ignore case"
        return self.fault(without_delimiters(pattern))

    def _checked(self, pattern: str) -> str | None:
        if _compiles(pattern, _SMALL):
            return None
        # A large pattern costs more per character, so their number is limited for each schema.
        if not _compiles(pattern, LINEAR):
            return _UNSUPPORTED
        self._large += 1
        if self._large > LARGE_PATTERNS:
            return f"is one too many: at most {LARGE_PATTERNS} patterns of a schema may compile to more than 32 KiB"
        return None


def small_pattern_fault(pattern: str) -> str | None:
    """Return the rule that an expression breaks which must compile to at most 32 KiB, None if it is valid."""
    if _compiles(pattern, _SMALL):
        return None
    return _UNSUPPORTED.replace("256", "32")


def matcher(pattern: str) -> Callable[[str], bool]:
    """Return a function that reports whether a small expression matches anywhere in a text."""
    return Draft202012Validator({"pattern": pattern}, pattern_options=_SMALL, offline=True).is_valid


def _compiles(pattern: str, options: RegexOptions) -> bool:
    try:
        Draft202012Validator({"pattern": pattern}, pattern_options=options, offline=True)
    except ValidationError:
        return False
    return True
