"""A dependency for FastAPI that gives a handler its verified event.

@app.post("/orders", status_code=204)
async def paid(event: Annotated[Event[Order], Depends(verified(webhook, Order))]) -> None: ...
"""

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar, overload

from fastapi import HTTPException, Request

from discue_client.adapters.replies import HANDLED, reply_to
from discue_client.webhook import Event, Webhook

T = TypeVar("T")


@overload
def verified(webhook: Webhook) -> Callable[[Request], AsyncIterator[Event[Any]]]: ...


@overload
def verified(webhook: Webhook, data_type: type[T]) -> Callable[[Request], AsyncIterator[Event[T]]]: ...


def verified(webhook: Webhook, data_type: Any = Any) -> Callable[[Request], AsyncIterator[Event[Any]]]:
    """Return a dependency that verifies a request, and turns what the handler raises into the response."""

    async def dependency(request: Request) -> AsyncIterator[Event[Any]]:
        try:
            yield webhook.unwrap(await _body(request, webhook.max_bytes), request.headers, data_type)
        except HANDLED as error:
            reply = reply_to(error)
            raise HTTPException(reply.status, reply.text, reply.headers) from error

    return dependency


async def _body(request: Request, max_bytes: int) -> bytes:
    """Read the body, and stop beyond the limit."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > max_bytes:
            break
    return bytes(body)
