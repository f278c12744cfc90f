"""Endpoints for webhooks, each in another web framework, called without a socket."""

import asyncio
import io
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Annotated, Any, NamedTuple

import django
import fastapi
import flask
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

import discue_client.adapters.asgi
import discue_client.adapters.django
import discue_client.adapters.fastapi
import discue_client.adapters.flask
import discue_client.adapters.wsgi
from discue_client.webhook import Webhook

Handler = Callable[[Any], None]
Call = Callable[..., "Answer"]
"""Sends a body and headers to the endpoint `/hook`, or to another path."""


class Answer(NamedTuple):
    """A response. An exception that no framework handled counts as one, with the status 500."""

    status: int
    headers: dict[str, str]
    text: str


FAILED = Answer(500, {}, "")


async def _call_asgi(app: Any, body: Iterator[bytes], headers: Mapping[str, str], path: str) -> Answer:
    remaining = chain(((part, True) for part in body), [(b"", False)])
    sent: list[Any] = []
    finished = asyncio.Event()

    async def receive() -> Any:
        for part, has_more in remaining:
            return {"type": "http.request", "body": part, "more_body": has_more}
        await finished.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            finished.set()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
    }
    try:
        await app(scope, receive, send)
    except RuntimeError:
        return FAILED
    start = sent[0]
    names = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], names, b"".join(message.get("body", b"") for message in sent[1:]).decode())


def call_asgi(app: Any, body: bytes | Iterator[bytes], headers: Mapping[str, str], path: str = "/hook") -> Answer:
    # In parts, as servers deliver bodies.
    parts = iter((body[:3], body[3:])) if isinstance(body, bytes) else body
    return asyncio.run(_call_asgi(app, parts, headers, path))


def call_wsgi(app: Any, body: bytes, headers: Mapping[str, str], path: str = "/hook", **changed: Any) -> Answer:
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, fields: list[tuple[str, str]], exc_info: Any = None) -> None:
        started.append((status, fields))

    environ = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "127.0.0.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.url_scheme": "http",
        "wsgi.errors": io.StringIO(),
        "wsgi.version": (1, 0),
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        **{"HTTP_" + name.upper().replace("-", "_"): value for name, value in headers.items()},
        "CONTENT_TYPE": headers.get("content-type", ""),
        **changed,
    }
    try:
        response = app(environ, start_response)
        content = b"".join(response)
        getattr(response, "close", bool)()
    except RuntimeError:
        return FAILED
    status, fields = started[-1]
    return Answer(int(status.split()[0]), {name.lower(): value for name, value in fields}, content.decode())


def _fastapi(webhook: Webhook, data_type: Any, handler: Handler) -> Call:
    app = fastapi.FastAPI()
    dependency = discue_client.adapters.fastapi.verified(webhook, data_type)

    async def hook(event: Annotated[Any, fastapi.Depends(dependency)]) -> None:
        handler(event)

    app.post("/hook", status_code=204)(hook)
    return partial(call_asgi, app)


def _asgi(webhook: Webhook, data_type: Any, handler: Handler) -> Call:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        event = discue_client.adapters.asgi.event_of(scope)
        assert (await receive())["body"] == event.body
        handler(event)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        assert (await receive())["type"] == "http.disconnect"

    return partial(call_asgi, discue_client.adapters.asgi.WebhookMiddleware(app, webhook, data_type=data_type))


def _wsgi(webhook: Webhook, data_type: Any, handler: Handler) -> Call:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        event = discue_client.adapters.wsgi.event_of(environ)
        assert environ["wsgi.input"].read() == event.body
        handler(event)
        start_response("204 No Content", [])
        return []

    return partial(call_wsgi, discue_client.adapters.wsgi.WebhookMiddleware(app, webhook, data_type=data_type))


def _flask(webhook: Webhook, data_type: Any, handler: Handler) -> Call:
    app = flask.Flask("receiver")

    def hook(event: Any) -> None:
        assert flask.request.get_data() == event.body
        handler(event)

    app.post("/hook")(discue_client.adapters.flask.verified(webhook, data_type)(hook))
    return partial(call_wsgi, app)


_VIEWS: dict[str, Any] = {}


def _view(request: Any) -> Any:
    return _VIEWS["sync"](request)


async def _async_view(request: Any) -> Any:
    return await _VIEWS["async"](request)


def _start_django() -> None:
    """Configure Django, once in a process, with its protection against forged forms."""
    if settings.configured:
        return
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"],
        # The URLs are fixed, and the views change: the mark of the decorator must be theirs.
        ROOT_URLCONF=(path("hook", csrf_exempt(_view)), path("async", csrf_exempt(_async_view))),
        MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"],
        LOGGING_CONFIG=None,
    )
    django.setup()


def _django(webhook: Webhook, data_type: Any, handler: Handler) -> Call:
    _start_django()

    def hook(request: Any, event: Any) -> None:
        handler(event)

    _VIEWS["sync"] = discue_client.adapters.django.verified(webhook, data_type)(hook)
    assert _VIEWS["sync"].csrf_exempt
    return partial(call_wsgi, WSGIHandler())


def _async_django(webhook: Webhook, data_type: Any, handler: Handler) -> Call:
    _start_django()

    async def hook(request: Any, event: Any) -> None:
        handler(event)

    _VIEWS["async"] = discue_client.adapters.django.verified(webhook, data_type)(hook)
    assert _VIEWS["async"].csrf_exempt
    return partial(call_asgi, ASGIHandler(), path="/async")


ENDPOINTS: dict[str, Callable[[Webhook, Any, Handler], Call]] = {
    "fastapi": _fastapi,
    "asgi": _asgi,
    "wsgi": _wsgi,
    "flask": _flask,
    "django": _django,
    "async django": _async_django,
}


def answer_of_django(view: Any, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Call a view in Django."""
    _start_django()
    _VIEWS["sync"] = view
    return call_wsgi(WSGIHandler(), body, headers)
