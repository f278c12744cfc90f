"""The text of a schema, or of a filter: what of JSON it may hold, so that it means the same to whoever reads it."""

import json
from typing import Any, Final

from discue.domain.errors import Fault, Unprocessable

BYTES: Final = 65_536

_DIGITS: Final = 308


class _Unfit(ValueError):
    """What is wrong with a text as a whole."""


def decoded(text: bytes, pointer: str) -> object:
    """The value of a text that is known to be JSON.

    Raises Unprocessable for one that is too large, and for members that occur twice, numbers out of the range of
    double precision, half a surrogate pair, and nesting without measure.
    """
    try:
        if len(text) > BYTES:
            raise _Unfit(f"has {len(text)} bytes; at most {BYTES} are allowed")
        content = text.decode()
        value = _decode(content)
        if "\\u" in content:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError:
        refused = "has half a surrogate pair"
    except RecursionError:
        refused = "is nested too deeply"
    except json.JSONDecodeError:
        refused = "is not JSON"
    except _Unfit as unfit:
        refused = str(unfit)
    else:
        return value
    raise Unprocessable(f"What stands at {pointer} {refused}.", faults=(Fault(pointer, refused),))


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Unfit(f"has {twice[:100]!r} twice in one object")
    return members


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise _Unfit(_TOO_LARGE)
    return int(digits)


def _fraction(digits: str) -> float:
    number = float(digits)
    if number in {float("inf"), float("-inf")}:
        raise _Unfit(_TOO_LARGE)
    return number


def _constant(name: str) -> float:
    raise _Unfit(f"has {name}, which is not JSON")


_TOO_LARGE: Final = "has a number beyond the range of double precision"

_decode: Final = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_whole, parse_float=_fraction, parse_constant=_constant
).decode
