"""Conditional requests (RFC 9110, 13): ETag in responses with a single resource, If-None-Match and If-Match."""

from discue.api.admission import Request
from discue.api.rsgi import HttpHeaders
from discue.domain.errors import BadRequest
from discue.domain.etags import EntityTags, etag_of, parse_etags


def if_match(headers: HttpHeaders) -> EntityTags | None:
    """Return the tags in If-Match; None without the header. Raises BadRequest if it cannot be parsed."""
    return _etags(headers, "If-Match")


def add_etag(request: Request, version: str, content: bytes) -> int:
    """Add the ETag to the response. Returns 304 if the client has this response already, else 200."""
    etag = etag_of(version, content)
    known = _etags(request.headers, "If-None-Match") if request.scope.method in {"GET", "HEAD"} else None
    request.response_headers.append(("etag", etag))
    return 304 if known is not None and known.matches(etag) else 200


def _etags(headers: HttpHeaders, name: str) -> EntityTags | None:
    values = headers.get_all(name.lower())
    if not values and name.lower() not in headers:
        return None
    try:
        return parse_etags(",".join(values))
    except ValueError:
        raise BadRequest(f'The header {name} must be * or a list of entity tags such as "abc", "def".') from None
