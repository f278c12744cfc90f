"""Errors as problem documents (RFC 9457), in the API and on pages."""

from typing import Any, Final

from discue.domain.errors import REASONS, DiscueError, reason_phrase
from discue.http.negotiation import JSON, PROBLEM, Negotiated

WWW_AUTHENTICATE: Final = 'ApiKey realm="discue", header="X-API-KEY"'


def problem_of(error: DiscueError, request_id: str, origin: str) -> dict[str, Any]:
    """Return the body of an error: see `Problem` in `discue/api/problems.py`.

    `origin` is the URL of the service, without a version; empty: `type` is a path.
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
    if error.allow:
        headers.append(("allow", ", ".join(error.allow)))
    if error.retry_after_seconds is not None:
        headers.append(("retry-after", str(error.retry_after_seconds)))
    return headers
