"""What a filter consists of when it was read."""

from typing import Any, Literal, TypeAlias

import msgspec

Member = Literal["data", "headers", "key"]


class Comparison(msgspec.Struct, frozen=True):
    """A value compared with an operand. `pointer` says where in the filter it stands."""

    pointer: str
    operator: str
    operand: Any


class AllOf(msgspec.Struct, frozen=True):
    """All of some conditions."""

    parts: "tuple[Condition, ...]"


class AnyOf(msgspec.Struct, frozen=True):
    """At least one of some conditions."""

    parts: "tuple[Condition, ...]"


class Not(msgspec.Struct, frozen=True):
    """That a condition does not hold."""

    part: "Condition"


class AtPath(msgspec.Struct, frozen=True):
    """A condition on what is found from a value by going along names and indices."""

    steps: tuple[str, ...]
    part: "Condition"


class OnMember(msgspec.Struct, frozen=True):
    """A condition on one part of a message. On data that is not JSON, none holds."""

    pointer: str
    member: Member
    part: "Condition"


Condition: TypeAlias = Comparison | AllOf | AnyOf | Not | AtPath | OnMember
