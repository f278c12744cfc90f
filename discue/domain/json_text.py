"""JSON from clients: the limit of its nesting, its values, strict decoding and canonical encoding.

The time of decoding depends only on the length of the text.
"""

import json
import math
import re
from array import array
from decimal import Decimal
from itertools import accumulate
from typing import Any, Final

import msgspec

from discue.domain.errors import invalid

MOST_LEVELS: Final = 900
"""Below the limit of every version of Python, with room for the functions that call a decoder.

Python's own limit for decoders is 1,000 levels in version 3.11 and tens of thousands in 3.14. Workers of two versions
must agree on what they can read.
"""
SHORTEST_TOO_DEEP: Final = 2 * MOST_LEVELS
"""In bytes: a level takes two."""

# An unterminated string extends to the end of the text, so that no part of the text is scanned twice.
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


MAX_BYTES: Final = 65_536

# Double precision ends at 1.8e308. Converting more digits would take quadratic time.
_MAX_DIGITS: Final = 308


class _NotStrict(ValueError):
    """The rule that a text breaks."""


def decode_strictly(text: bytes, pointer: str, *, code: str) -> object:
    """Return the value of a text that is valid JSON and means the same to every parser.

    Raises Unprocessable with `code` if it is too large, and for repeated members, numbers out of the range of double
    precision, unpaired surrogates, and excessive nesting.
    """
    try:
        if len(text) > MAX_BYTES:
            raise _NotStrict(f"has {len(text)} bytes; at most {MAX_BYTES} are allowed")
        if is_too_deep(text):
            raise RecursionError
        content = text.decode()
        value = _decode(content)
        # Python decodes unpaired surrogates, which cannot be stored as UTF-8. Only escapes can produce them.
        if "\\u" in content:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError:
        rule = "has an unpaired surrogate"
    except RecursionError:
        rule = "is nested too deeply"
    except json.JSONDecodeError:
        rule = "is not JSON"
    except msgspec.ValidationError:
        rule = "has a number beyond the range of double precision"
    except _NotStrict as error:
        rule = str(error)
    else:
        return value
    raise invalid(pointer, rule, code=code)


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Parsers disagree about which of several equal names counts, so the text would be ambiguous.
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise _NotStrict(f"has {repeated[:100]!r} twice in one object")
    return members


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise msgspec.ValidationError
    return int(digits)


def _constant(name: str) -> float:
    raise _NotStrict(f"has {name}, which is not JSON")


_decode: Final = json.JSONDecoder(
    object_pairs_hook=_unique_members, parse_int=_integer, parse_float=_double, parse_constant=_constant
).decode


_to_json = json.JSONEncoder(ensure_ascii=False).encode

_MIN_WITH_EXPONENT = 1e21
_MIN_EXPONENT_AS_DECIMAL = -6


def canonical_json(value: object) -> str:
    """Return a decoded value as canonical JSON (RFC 8785), so that equal values have equal texts.

    Unlike in the RFC, integers keep their exact value.
    """
    if isinstance(value, dict):
        # By UTF-16 code units, as the RFC demands: code points above the basic plane sort differently.
        members = sorted(value.items(), key=lambda member: member[0].encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(f"{_to_json(name)}:{canonical_json(each)}" for name, each in members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(canonical_json(each) for each in value) + "]"
    if isinstance(value, float):
        return _ecmascript_number(value)
    return _to_json(value)


def _ecmascript_number(value: float) -> str:
    """Format a number like ECMAScript."""
    if value.is_integer() and abs(value) < _MIN_WITH_EXPONENT:
        return str(int(Decimal(repr(value))))
    digits, _, power = repr(value).partition("e")
    if not power:
        return digits
    if int(power) < _MIN_EXPONENT_AS_DECIMAL:
        return f"{digits}e{int(power)}"
    if int(power) < 0:
        return format(Decimal(repr(value)), "f")
    return f"{digits}e+{int(power)}"
