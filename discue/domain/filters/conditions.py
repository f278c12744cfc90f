"""The syntax tree of a filter."""

from typing import Any, Literal, TypeAlias

import msgspec

MessageMember = Literal["data", "headers", "key"]


class Comparison(msgspec.Struct, frozen=True):
    """Compares a value with an operand."""

    pointer: str
    """JSON pointer in the filter."""
    operator: str
    operand: Any


class AllOf(msgspec.Struct, frozen=True):
    """Holds if all parts hold."""

    parts: "tuple[Condition, ...]"


class AnyOf(msgspec.Struct, frozen=True):
    """Holds if at least one part holds."""

    parts: "tuple[Condition, ...]"


class Not(msgspec.Struct, frozen=True):
    """Holds if its part does not hold."""

    part: "Condition"


class AtPath(msgspec.Struct, frozen=True):
    """Applies a condition to the value at a path of member names and indexes."""

    steps: tuple[str, ...]
    part: "Condition"


class OnMember(msgspec.Struct, frozen=True):
    """Applies a condition to one member of a message. Conditions on data that is not JSON never hold."""

    pointer: str
    """JSON pointer in the filter."""
    member: MessageMember
    part: "Condition"


Condition: TypeAlias = Comparison | AllOf | AnyOf | Not | AtPath | OnMember
