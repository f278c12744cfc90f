"""A decorator for Django views, sync and async.

    @verified(webhook, Order)
    def paid(request, event): ...

A view that returns None responds with `204`. It needs no CSRF token: the signature proves where the request is from.
"""

from __future__ import annotations

from functools import wraps
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

from django.http import HttpResponse

from discue_client.adapters.replies import HANDLED, reply_to

if TYPE_CHECKING:
    from collections.abc import Callable

    from discue_client.webhook import Event, Webhook


def verified(webhook: Webhook, data_type: Any = Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Pass the verified event to the view after the request, and turn what the view raises into the response."""

    def event_of(request: Any) -> Event[Any]:
        event: Event[Any] = webhook.unwrap(request.read(webhook.max_bytes + 1), request.headers, data_type)
        return event

    def decorate(view: Callable[..., Any]) -> Any:
        @wraps(view)
        def wrapper(request: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return _response_of(view(request, event_of(request), *args, **kwargs))
            except HANDLED as error:
                return _response_to(error)

        @wraps(view)
        async def async_wrapper(request: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return _response_of(await view(request, event_of(request), *args, **kwargs))
            except HANDLED as error:
                return _response_to(error)

        chosen: Any = async_wrapper if iscoroutinefunction(view) else wrapper
        chosen.csrf_exempt = True
        return chosen

    return decorate


def _response_of(returned: Any) -> Any:
    return HttpResponse(status=204) if returned is None else returned


def _response_to(error: Any) -> Any:
    reply = reply_to(error)
    return HttpResponse(reply.text.encode(), "text/plain; charset=utf-8", reply.status, headers=reply.headers)
