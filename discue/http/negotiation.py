"""Content negotiation (RFC 9110, 12.5), Content-Type, and errors as problem documents (RFC 9457)."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, Literal

from discue.domain.errors import REASONS, DiscueError, reason_phrase

JSON = "application/json"
PROBLEM = "application/problem+json"
EVENTS = "text/event-stream"
HTML = "text/html"

Negotiated = Literal["json", "problem", "nothing"]
"""How to respond: in the route's media type, with errors as JSON or as problem documents; or not acceptable."""

_CACHED = 64
"""Few, because clients choose the keys, which may be as long as a header."""

ACCEPT_CHARACTERS = 1_024
"""Characters of an Accept header that are read. Reading 32 KiB would take the event loop for milliseconds."""

WWW_AUTHENTICATE: Final = 'ApiKey realm="discue", header="X-API-KEY"'

_CHARSETS = frozenset({"utf-8", "utf8"})


@lru_cache(_CACHED)
def negotiate(accept: str, media_type: str = JSON) -> Negotiated:
    """Match an Accept header with the media type of a route. Ranges that cannot be parsed are ignored."""
    weights = _weights(accept)
    # A header without a valid range says nothing, like no header (RFC 9110, 12.5.1).
    if not weights:
        return "json"
    if not _weight_of(media_type, weights):
        return "nothing"
    return "problem" if weights.get(PROBLEM, 0) > 0 else "json"


@lru_cache(_CACHED)
def prefers_json(accept: str) -> bool:
    """Whether an Accept header prefers JSON to HTML: by its weight, or by naming only JSON."""
    weights = _weights(accept)
    return (_weight_of(JSON, weights), JSON in weights) > (_weight_of(HTML, weights), HTML in weights)


@lru_cache(_CACHED)
def prefers_events(accept: str) -> bool:
    """Whether an Accept header names server-sent events, and does not prefer JSON."""
    weights = _weights(accept)
    return weights.get(EVENTS, 0) > 0 and weights[EVENTS] >= weights.get(JSON, 0)


@lru_cache(_CACHED)
def asks_for_page(accept: str) -> bool:
    """Whether an Accept header names HTML, as those of browsers do, and does not prefer JSON."""
    return _weights(accept).get(HTML, 0) > 0 and not prefers_json(accept)


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header names gzip (RFC 9110, 12.5.3). A client that sends none may not read it."""
    for element in accept_encoding[:ACCEPT_CHARACTERS].lower().split(","):
        coding, *parameters = (part.strip() for part in element.split(";"))
        if coding in {"gzip", "x-gzip", "*"}:
            return not any(parameter.partition("=")[2].strip(" 0.") == "" for parameter in parameters)
    return False


def _weight_of(media_type: str, weights: Mapping[str, float]) -> float:
    """Return the weight of the most specific range that matches; 0 if none does."""
    # A client that accepts only problem documents reads JSON, the only form of successful responses.
    if media_type == JSON and JSON not in weights and weights.get(PROBLEM, 0) > 0:
        return weights[PROBLEM]
    ranges = (media_type, media_type.partition("/")[0] + "/*", "*/*")
    return next((weights[each] for each in ranges if each in weights), 0)


def _weights(accept: str) -> dict[str, float]:
    return dict(filter(None, map(_weight, accept.split(","))))


def _weight(element: str) -> tuple[str, float] | None:
    media_range, *parameters = (part.strip().lower() for part in element.split(";"))
    if media_range.count("/") != 1:
        return None
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            whole, _, fraction = value.strip().partition(".")
            # Java's HttpURLConnection sends `.2` unless the application sets Accept.
            if whole not in {"0", "1", ""} or not (fraction + "0").isdecimal():
                return None
            return media_range, min(float(f"{whole or '0'}.{fraction or '0'}"), 1.0)
    return media_range, 1.0


@lru_cache(_CACHED)
def is_json(content_type: str) -> bool:
    """Whether a Content-Type is JSON in UTF-8. Parameters other than the charset are ignored."""
    return is_of_type(content_type, JSON)


def is_of_type(content_type: str, wanted: str) -> bool:
    """Whether a Content-Type is the wanted one, in UTF-8."""
    media_type, *parameters = (part.strip() for part in content_type.lower().split(";"))
    if media_type != wanted:
        return False
    pairs = (parameter.partition("=") for parameter in parameters)
    return all(name.strip() != "charset" or value.strip().strip('"') in _CHARSETS for name, _, value in pairs)


def problem_of(error: DiscueError, request_id: str, origin: str) -> dict[str, Any]:
    """Return the body of an error: see `Problem` in `discue/api/openapi/responses.py`.

    `origin` is the URL of the service, without a version. If it is empty, `type` is a path.
    """
    meaning, remedy = REASONS[error.code][1:]
    problem: dict[str, Any] = {
        "type": f"{origin}/docs/errors/{error.code}",
        "code": error.code,
        "title": reason_phrase(error.status),
        "status": error.status,
        "request_id": request_id,
        "detail": f"{meaning} {remedy}" if error.detail == meaning else error.detail,
    }
    if error.faults:
        problem["errors"] = [{"pointer": fault.pointer, "detail": fault.detail} for fault in error.faults]
    return problem


def headers_of(error: DiscueError, negotiated: Negotiated) -> list[tuple[str, str]]:
    """Return the headers of an error, Content-Type first."""
    headers = [("content-type", PROBLEM if negotiated == "problem" else JSON)]
    # RFC 9110 requires the header of a 401 (15.5.2) and that of a 405 (15.5.6).
    if error.status == 401:
        headers.append(("www-authenticate", WWW_AUTHENTICATE))
    return headers + hints_of(error)


def hints_of(error: DiscueError) -> list[tuple[str, str]]:
    """Return the headers that say which methods are possible, and when to try again."""
    hints = [("allow", ", ".join(error.allow))] if error.allow else []
    if error.retry_after_seconds is not None:
        hints.append(("retry-after", str(error.retry_after_seconds)))
    return hints
