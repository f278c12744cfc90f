"""What is said of a field."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from discue.domain.clock import LAST_INSTANT

INSTANT: Final[Mapping[str, Any]] = {"minimum": 0, "maximum": LAST_INSTANT}


class Rule(msgspec.Struct, frozen=True):
    """What a field means, an example of it, and its limits as keywords of JSON Schema beside those of its type."""

    description: str
    example: Any
    limits: Mapping[str, Any] = {}
