"""What is said of a field."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

LATEST: Final = 253_402_300_799_999
"""The last millisecond of the year 9999."""

INSTANT: Final[Mapping[str, Any]] = {"minimum": 0, "maximum": LATEST}


class Rule(msgspec.Struct, frozen=True):
    """What a field means, an example of it, and its limits as keywords of JSON Schema beside those of its type."""

    description: str
    example: Any
    limits: Mapping[str, Any] = {}
