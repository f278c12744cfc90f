"""A decorator for Flask views.

    @app.post("/orders")
    @verified(webhook, Order)
    def paid(event): ...

A view that returns None responds with `204`.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from flask import current_app, request

from discue_client.adapters.replies import HANDLED, reply_to

if TYPE_CHECKING:
    from collections.abc import Callable

    from discue_client.webhook import Webhook


def verified(webhook: Webhook, data_type: Any = Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Pass the verified event to the view as its first argument, and turn what the view raises into the response."""

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            try:
                event = webhook.unwrap(_body(webhook.max_bytes), request.headers.items(), data_type)
                response = current_app.ensure_sync(view)(event, *args, **kwargs)
                return ("", 204) if response is None else response
            except HANDLED as error:
                reply = reply_to(error)
                return reply.text, reply.status, {**reply.headers, "content-type": "text/plain; charset=utf-8"}

        return wrapper

    return decorate


def _body(max_bytes: int) -> bytes:
    """Return the body, or the start of one that is too large."""
    length = request.content_length
    # `get_data` keeps the body for other readers; the stream is for bodies that may have any size.
    body: bytes = request.stream.read(max_bytes + 1) if length is None or length > max_bytes else request.get_data()
    return body
