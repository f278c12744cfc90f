"""HTTP responses to webhooks, for every framework."""

from __future__ import annotations

from typing import NamedTuple

from discue_client.responses import Response
from discue_client.webhook import DataInvalid, SignatureInvalid

HANDLED = (Response, SignatureInvalid, DataInvalid)
"""Exceptions that become a response. All others are the framework's, which responds with `500`."""


class Reply(NamedTuple):
    """A response."""

    status: int
    headers: dict[str, str]
    text: str
    """The reason, for the attempts that discue shows."""


def reply_to(error: Response | SignatureInvalid | DataInvalid) -> Reply:
    """Return the response that an exception stands for."""
    if isinstance(error, Response):
        return Reply(error.status, error.headers, "" if error.status == 204 else type(error).__name__)
    return Reply(error.status, {}, str(error))
