"""JSON of clients as Python values, in a time that grows with its length only."""

import math
from typing import Final

import msgspec

LARGEST_EXACT: Final = 2**53
"""Every double beyond it is an integer."""


def _double(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise msgspec.ValidationError("Number out of range")
    return value


def _integer_or_double(text: str) -> int | float:
    value = _double(text)
    return int(value) if value.is_integer() and abs(value) <= LARGEST_EXACT else value


decode_value: Final = msgspec.json.Decoder(float_hook=_double).decode
"""Return the value of a JSON text. Raises msgspec.DecodeError, also for numbers out of the range of double precision.

Without the hook, a number near the ends of that range takes 10 microseconds: `[1e308,1e308,…]` of 256 KiB takes 0.4 s.
"""

decode_for_schema: Final = msgspec.json.Decoder(float_hook=_integer_or_double).decode
"""Like `decode_value`, but return an integer for a double such as 1.0, which a schema does not distinguish from 1.

The validation library finds an integer among those of an enumeration at once, but compares a double with each of them.
"""
