"""Middleware for ASGI applications: Starlette, Litestar, Quart and others.

The application reads the event with `event_of(scope)`, which fails on requests that were not verified.
"""

from __future__ import annotations

from typing import Any

from discue_client.adapters.replies import HANDLED, reply_to
from discue_client.webhook import Event, Webhook


def event_of(scope: Any) -> Event[Any]:
    """Return the event of a request. Raises KeyError if the middleware did not verify it."""
    event: Event[Any] = scope["discue.event"]
    return event


class WebhookMiddleware:
    """Verifies the requests to `paths`, or to all, and turns what the application raises into responses."""

    def __init__(self, app: Any, webhook: Webhook, *, paths: tuple[str, ...] = (), data_type: Any = Any) -> None:
        self._app, self._webhook, self._paths, self._data_type = app, webhook, paths, data_type

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or (self._paths and scope["path"] not in self._paths):
            await self._app(scope, receive, send)
            return
        body, has_started = bytearray(), False
        while len(body) <= self._webhook.max_bytes:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        pending = [{"type": "http.request", "body": bytes(body)}]

        async def receive_again() -> Any:
            return pending.pop() if pending else await receive()

        async def tracked_send(message: Any) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        try:
            event = self._webhook.unwrap(bytes(body), headers, self._data_type)
            await self._app({**scope, "discue.event": event}, receive_again, tracked_send)
        except HANDLED as error:
            if has_started:
                raise
            reply = reply_to(error)
            fields = [(name.encode(), value.encode()) for name, value in reply.headers.items()]
            await send({"type": "http.response.start", "status": reply.status, "headers": fields})
            await send({"type": "http.response.body", "body": reply.text.encode()})
