"""Middleware for WSGI applications: Bottle, Falcon, Pyramid and others.

The application reads the event with `event_of(environ)`, which fails on requests that were not verified.
"""

from __future__ import annotations

import sys
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, Any

from discue_client.adapters.replies import HANDLED, reply_to

if TYPE_CHECKING:
    from collections.abc import Iterator

    from discue_client.webhook import Event, Webhook


def event_of(environ: Any) -> Event[Any]:
    """Return the event of a request. Raises KeyError if the middleware did not verify it."""
    event: Event[Any] = environ["discue.event"]
    return event


class WebhookMiddleware:
    """Verifies the requests to `paths`, or to all, and turns what the application raises into responses."""

    def __init__(self, app: Any, webhook: Webhook, *, paths: tuple[str, ...] = (), data_type: Any = Any) -> None:
        self._app, self._webhook, self._paths, self._data_type = app, webhook, paths, data_type

    def __call__(self, environ: Any, start_response: Any) -> Any:
        if self._paths and environ.get("PATH_INFO") not in self._paths:
            return self._app(environ, start_response)
        return self._verified(environ, start_response)

    def _verified(self, environ: Any, start_response: Any) -> Iterator[bytes]:
        fields = {name[5:].replace("_", "-"): value for name, value in environ.items() if name.startswith("HTTP_")}
        headers = {**fields, "CONTENT-TYPE": environ.get("CONTENT_TYPE", "")}
        size = int(environ.get("CONTENT_LENGTH") or (sys.maxsize if environ.get("wsgi.input_terminated") else 0))
        try:
            body = environ["wsgi.input"].read(min(max(size, 0), self._webhook.max_bytes + 1))
            event = self._webhook.unwrap(body, headers, self._data_type)
            response = self._app({**environ, "discue.event": event, "wsgi.input": BytesIO(body)}, start_response)
            try:
                yield from response
            finally:
                getattr(response, "close", bool)()
        except HANDLED as error:
            reply = reply_to(error)
            status = f"{reply.status} {HTTPStatus(reply.status).phrase}"
            start_response(status, list(reply.headers.items()), sys.exc_info())
            yield reply.text.encode()
