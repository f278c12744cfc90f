"""Conditional requests (RFC 9110, 13): ETag on what shows a single resource, If-None-Match and If-Match."""

from discue.api.request import Request
from discue.api.rsgi import HttpHeaders
from discue.domain.errors import BadRequest
from discue.domain.etags import EntityTags, etag_of, parse_etags


def if_match(headers: HttpHeaders) -> EntityTags | None:
    """What a change or a deletion is bound to. Raises BadRequest for what cannot be read."""
    return _etags(headers, "if-match", "If-Match")


def status_of(request: Request, version: str, content: bytes) -> int:
    """Adds the ETag to the response. 304 if the client has it already, else 200."""
    etag = etag_of(version, content)
    if request.scope.method not in {"GET", "HEAD"}:
        request.answer_headers.append(("etag", etag))
        return 200
    known = _etags(request.headers, "if-none-match", "If-None-Match")
    request.answer_headers.append(("etag", etag))
    return 304 if known is not None and known.matches(etag) else 200


def _etags(headers: HttpHeaders, name: str, shown_name: str) -> EntityTags | None:
    values = headers.get_all(name)
    if not values and name not in headers:
        return None
    try:
        return parse_etags(",".join(values))
    except ValueError:
        raise BadRequest(f'The header {shown_name} must be * or a list of entity tags such as "abc", "def".') from None
