"""How deeply JSON may be nested, the same on every version of Python.

Python's own limit for decoders is 1,000 levels in version 3.11 and tens of thousands in 3.14. Workers of two versions
must agree about what they can read.
"""

import re
from array import array
from itertools import accumulate
from typing import Final

MOST_LEVELS: Final = 900
"""Below the limit of every version, with room for the functions that call a decoder."""
SHORTEST_TOO_DEEP: Final = 2 * MOST_LEVELS
"""In bytes: a level takes two."""

# A string without an end goes to the end of the text, so that no part of it is looked at twice.
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_OTHERS: Final = bytes(sorted(set(range(256)) - set(b"[]{}")))
_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_STEPS: Final = bytes.maketrans(b"[]", b"\x01\xff")
"""Signed bytes: 1 for a level that opens, -1 for one that closes."""
_PASSES: Final = 2


def levels_of(text: bytes) -> int:
    """Return the nesting depth of JSON, or up to two levels more. The JSON need not be valid."""
    brackets = _STRING.sub(b"", text).translate(_BRACKETS, _OTHERS)
    # Most values are flat: little or nothing is left of them. Each pass takes away the innermost level.
    for _ in range(_PASSES):
        brackets = brackets.replace(b"[]", b"")
    return max(accumulate(array("b", brackets.translate(_STEPS))), default=0) + _PASSES


def is_too_deep(text: bytes) -> bool:
    """Return whether JSON is nested deeper than `MOST_LEVELS`. The JSON need not be valid."""
    if len(text) < SHORTEST_TOO_DEEP or text.count(b"[") + text.count(b"{") <= MOST_LEVELS:
        return False
    return levels_of(text) > MOST_LEVELS
