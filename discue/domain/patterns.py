"""Regular expressions of clients. Only those are accepted that match in linear time, and quickly on every text."""

from collections.abc import Callable
from typing import Final

from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

from discue.domain.pattern_speed import CpuTime, slowest_ns

LINEAR: Final = RegexOptions(size_limit=262_144, dfa_size_limit=262_144)
"""An engine without backtracking. The time per character grows with the compiled pattern, hence the size limit."""

MAX_PATTERNS: Final = 200
"""Maximum different patterns of one schema."""

LARGE_PATTERNS: Final = 20
"""Maximum patterns of one schema that compile to more than 32 KiB."""

SLOWEST_NS: Final = 40
"""Nanoseconds that matching may take per character. Ordinary expressions take 1 to 8, slow ones 60 to 5,000."""

LONGEST_NS: Final = 10_000_000_000
"""Nanoseconds of a processor that measuring the patterns of one schema may take. Ordinary ones take 5 to 40 ms each."""

_SMALL: Final = RegexOptions(size_limit=32_768, dfa_size_limit=262_144)
_FLAGS: Final = frozenset("dgimsuvy")
_UNSUPPORTED: Final = (
    "is not a supported regular expression: it must compile to at most 256 KiB, without look-around and back-references"
)
_TOO_SLOW: Final = (
    "matches too slowly: repetitions such as {1,100} before or after one of the same characters have to be tried at "
    "every position; shorten them, or separate them by a character that they do not contain"
)


def without_delimiters(pattern: str) -> str:
    """Return the expression without the slashes of `/.../`."""
    return pattern[1:-1] if len(pattern) > 1 and pattern[0] == pattern[-1] == "/" else pattern


class Patterns:
    """Checks the patterns of one schema, each of them once."""

    def __init__(self, cpu_time: CpuTime | None, longest_ns: int = LONGEST_NS) -> None:
        """Measure the speed of the patterns, unless `cpu_time` is None: then they were accepted before."""
        self._cpu_time = cpu_time
        self._remaining_ns = longest_ns
        self._known: dict[str, str | None] = {}
        self._large = 0

    def fault(self, pattern: str) -> str | None:
        """Return the rule that an expression breaks, None if it is valid."""
        if pattern not in self._known:
            if len(self._known) == MAX_PATTERNS:
                return f"is one too many: a schema can have at most {MAX_PATTERNS} different patterns"
            self._known[pattern] = self._checked(pattern)
        return self._known[pattern]

    def delimited_fault(self, pattern: str) -> str | None:
        """Return the rule that an expression with optional delimiters breaks. Flags are refused, not ignored."""
        before, slash, flags = pattern[1:].rpartition("/")
        if pattern[:1] == slash == "/" and flags and _FLAGS.issuperset(flags):
            return f"has flags after its delimiters, which are not supported; write (?i){before[:100]} to ignore case"
        return self.fault(without_delimiters(pattern))

    def _checked(self, pattern: str) -> str | None:
        matches = _compiled(pattern, _SMALL)
        if matches is None:
            # A large pattern takes longer to compile, so their number is limited for each schema.
            matches = _compiled(pattern, LINEAR)
            if matches is None:
                return _UNSUPPORTED
            self._large += 1
            if self._large > LARGE_PATTERNS:
                return f"is one too many: at most {LARGE_PATTERNS} patterns of a schema may compile to more than 32 KiB"
        return None if self._cpu_time is None else self._measured(pattern, self._cpu_time)

    def _measured(self, pattern: str, cpu_time: CpuTime) -> str | None:
        if self._remaining_ns <= 0:
            return "is one too many: the patterns before it took too long to measure; shorten them"
        started = cpu_time()
        fault = _speed_fault(pattern, cpu_time)
        self._remaining_ns -= cpu_time() - started
        return fault


def small_pattern_fault(pattern: str, cpu_time: CpuTime | None) -> str | None:
    """Return the rule that an expression breaks which must compile to at most 32 KiB, None if it is valid.

    Without `cpu_time`, the expression was accepted before, and its speed is not measured.
    """
    if _compiled(pattern, _SMALL) is None:
        return _UNSUPPORTED.replace("256", "32")
    return None if cpu_time is None else _speed_fault(pattern, cpu_time)


def matcher(pattern: str) -> Callable[[str], bool]:
    """Return a function that reports whether a small expression matches anywhere in a text."""
    return Draft202012Validator({"pattern": pattern}, pattern_options=_SMALL, offline=True).is_valid


def _compiled(pattern: str, options: RegexOptions = LINEAR) -> Callable[[str], bool] | None:
    try:
        return Draft202012Validator({"pattern": pattern}, pattern_options=options, offline=True).is_valid
    except ValidationError:
        return None


def _speed_fault(pattern: str, cpu_time: CpuTime) -> str | None:
    is_slow = slowest_ns(pattern, _compiled, cpu_time, limit_ns=SLOWEST_NS) > SLOWEST_NS
    return _TOO_SLOW if is_slow else None
