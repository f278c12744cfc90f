"""Canonical JSON (RFC 8785): one text for one value, however that was written. Integers stay exact."""

import json
from decimal import Decimal

_ESCAPED = json.JSONEncoder(ensure_ascii=False).encode

_FIRST_WITH_EXPONENT = 1e21
_LAST_WITHOUT_EXPONENT = -6


def canonical_json(value: object) -> str:
    """The text of a decoded JSON value: members in the order of their names, no spaces, one form a number."""
    if isinstance(value, dict):
        members = sorted(value.items(), key=_utf16)
        return "{" + ",".join(f"{_ESCAPED(name)}:{canonical_json(each)}" for name, each in members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(canonical_json(each) for each in value) + "]"
    if isinstance(value, float):
        return _number(value)
    return _ESCAPED(value)


def _utf16(member: tuple[str, object]) -> bytes:
    return member[0].encode("utf-16-be", "surrogatepass")


def _number(value: float) -> str:
    """As ECMAScript writes it."""
    if value.is_integer() and abs(value) < _FIRST_WITH_EXPONENT:
        return str(int(Decimal(repr(value))))
    digits, _, power = repr(value).partition("e")
    if not power:
        return digits
    if int(power) < _LAST_WITHOUT_EXPONENT:
        return f"{digits}e{int(power)}"
    if int(power) < 0:
        return format(Decimal(repr(value)), "f")
    return f"{digits}e+{int(power)}"
