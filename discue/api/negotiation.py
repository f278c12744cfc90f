"""What a client takes and sends: Accept (RFC 9110, 12.5.1) and Content-Type."""

from functools import lru_cache
from typing import Literal

JSON = "application/json"
PROBLEM = "application/problem+json"
EVENTS = "text/event-stream"

Negotiated = Literal["json", "problem", "nothing"]
"""What to answer with: the route's type, with errors as problem documents or not, or nothing that would be accepted."""

_REMEMBERED = 512
_CHARSETS = frozenset({"utf-8", "utf8"})


@lru_cache(_REMEMBERED)
def negotiate(accept: str, media_type: str = JSON) -> Negotiated:
    """What an Accept header takes, where answers are of that type. Ranges that cannot be read count as not there."""
    weights = dict(filter(None, map(_weighed, accept.split(","))))
    if not weights:
        return "json"
    if _weight(weights, media_type) == 0:
        return "nothing"
    return "problem" if weights.get(PROBLEM, 0) > 0 else "json"


@lru_cache(_REMEMBERED)
def prefers_events(accept: str) -> bool:
    """Whether an Accept header names server-sent events, and JSON not before them."""
    weights = dict(filter(None, map(_weighed, accept.split(","))))
    return weights.get(EVENTS, 0) > 0 and weights[EVENTS] >= weights.get(JSON, 0)


def _weight(weights: dict[str, float], media_type: str) -> float:
    """The quality of a type: the most specific range that fits it decides."""
    for pattern in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        if pattern in weights:
            return weights[pattern]
    return 0


def _weighed(element: str) -> tuple[str, float] | None:
    media_range, *parameters = (part.strip().lower() for part in element.split(";"))
    if media_range.count("/") != 1:
        return None
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            return _with_quality(media_range, value.strip())
    return media_range, 1.0


def _with_quality(media_range: str, text: str) -> tuple[str, float] | None:
    whole, _, fraction = text.partition(".")
    # Java's own client has long sent `.2`, and sends it to everybody who does not set Accept.
    if whole not in {"0", "1", ""} or not (fraction + "0").isdecimal():
        return None
    return media_range, min(float(f"{whole or '0'}.{fraction or '0'}"), 1.0)


@lru_cache(_REMEMBERED)
def is_json(content_type: str) -> bool:
    """Whether a Content-Type says JSON in UTF-8. Parameters other than the charset do not matter."""
    return is_of_type(content_type, JSON)


def is_of_type(content_type: str, wanted: str) -> bool:
    """The same of another type of JSON."""
    media_type, *parameters = (part.strip() for part in content_type.lower().split(";"))
    if media_type != wanted:
        return False
    return all(_is_harmless(parameter) for parameter in parameters)


def _is_harmless(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name.strip() != "charset" or value.strip().strip('"') in _CHARSETS
