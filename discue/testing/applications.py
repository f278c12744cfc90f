"""Handlers that are called without a server of their own: ASGI and WSGI applications, and headers for others."""

import asyncio
import inspect
import io
import logging
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, MutableMapping, Sequence
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import suppress
from datetime import datetime
from typing import Any
from urllib.parse import quote
from wsgiref.util import setup_testing_defaults

from discue.crypto.signing import decode_private_key, decode_secret, sign
from discue.domain.clock import SystemClock
from discue.domain.ids import PublicIds
from discue.testing.receiver import Received, Reply

Environment = MutableMapping[str, Any]
WsgiApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
AsgiApplication = Callable[
    [Environment, Callable[[], Awaitable[Environment]], Callable[[Environment], Awaitable[None]]], Awaitable[None]
]
Application = AsgiApplication | WsgiApplication

_SERVER = ("testserver", 80)
_CLIENT = ("127.0.0.1", 50_000)
_END_SECONDS = 0.2

_logger = logging.getLogger("discue.testing")


def is_asgi(application: Any) -> bool:
    """Whether the application is called with a scope, `receive` and `send`."""
    call = application if inspect.isroutine(application) else type(application).__call__
    if inspect.iscoroutinefunction(application) or inspect.iscoroutinefunction(call):
        return True
    return len(inspect.signature(application).parameters) == 3


class ApplicationEndpoint:
    """Calls an application for each request. An exception in it becomes a `500`, and is kept."""

    def __init__(
        self, application: Any, submit: Callable[[Coroutine[Any, Any, Reply]], "Future[Reply]"], name: str
    ) -> None:
        """`submit` runs a coroutine on the loop of the application."""
        self._application = application
        self._is_asgi = is_asgi(application)
        self._submit = submit
        self._name = name
        self._running: dict[Future[Reply], Received] = {}
        self._starting = threading.Lock()
        """Held while a call starts: the application may block before the call is one of those that run."""
        self.requests: list[Received] = []
        self.errors: list[Exception] = []
        """The exceptions that the application has raised, oldest first."""

    def respond(self, received: Received) -> "Future[Reply]":
        """Call the application on its own thread."""
        self.requests.append(received)
        with self._starting:
            if self._is_asgi:
                future = self._submit(self._call_asgi(received))
            else:
                future = Future()
                threading.Thread(target=self._run_wsgi, args=(received, future), name=self._name, daemon=True).start()
            self._running[future] = received
        future.add_done_callback(lambda ended: self._running.pop(ended, None))
        return future

    def waits_for(self, message_id: str) -> str:
        """Return why a message is in flight; "" if the application is not the reason."""
        for request in tuple(self._running.values()):
            if request.fields["webhook-id"] == message_id:
                return f"The application has not responded to {request.method} {request.path}."
        return ""

    def abandon(self) -> Sequence[Received]:
        """Cancel the calls that do not return within a moment: a test may end in the middle of one. Return these."""
        with self._starting:
            running = dict(self._running)
        _, hanging = wait(running, _END_SECONDS)
        for future in hanging:
            future.cancel()
        return [running[future] for future in hanging]

    async def _call_asgi(self, received: Received) -> Reply:
        try:
            return await call_asgi(self._application, received)
        except Exception as error:
            return self._failed(received, error)

    def _run_wsgi(self, received: Received, future: "Future[Reply]") -> None:
        try:
            reply = call_wsgi(self._application, received)
        except Exception as error:
            reply = self._failed(received, error)
        # The caller no longer waits for an application that took too long.
        with suppress(InvalidStateError):
            future.set_result(reply)

    def _failed(self, received: Received, error: Exception) -> Reply:
        self.errors.append(error)
        raised = f"{type(error).__name__}: {error}"
        _logger.error("%s %s: the application raised %s", received.method, received.path, raised, exc_info=error)
        return Reply(500)


async def call_asgi(application: AsgiApplication, received: Received) -> Reply:
    """Return the response of an application to a request. Raises what the application raises."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": received.method,
        "scheme": "http",
        "path": received.path,
        "raw_path": quote(received.path).encode(),
        "query_string": received.query.encode("latin-1"),
        "root_path": "",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in received.headers],
        "client": _CLIENT,
        "server": _SERVER,
    }
    is_read = False
    ended = asyncio.Event()
    sent: list[Environment] = []

    async def receive() -> Environment:
        nonlocal is_read
        if is_read:
            await ended.wait()
            return {"type": "http.disconnect"}
        is_read = True
        return {"type": "http.request", "body": received.body, "more_body": False}

    async def send(event: Environment) -> None:
        sent.append(event)
        if event["type"] == "http.response.body" and not event.get("more_body", False):
            ended.set()

    await application(scope, receive, send)
    start = next((event for event in sent if event["type"] == "http.response.start"), None)
    if start is None or not ended.is_set():
        raise RuntimeError("The application returned without a complete response.")
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in start.get("headers", ()))
    body = b"".join(event.get("body", b"") for event in sent if event["type"] == "http.response.body")
    return Reply(start["status"], headers, body)


def call_wsgi(application: WsgiApplication, received: Received) -> Reply:
    """Return the response of an application to a request. Raises what the application raises."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": received.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": received.path.encode().decode("latin-1"),
        "QUERY_STRING": received.query,
        "SERVER_NAME": _SERVER[0],
        "SERVER_PORT": str(_SERVER[1]),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": _CLIENT[0],
        "wsgi.input": io.BytesIO(received.body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
    }
    setup_testing_defaults(environ)
    for name, value in received.headers:
        key = name.upper().replace("-", "_")
        environ[key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"] = value
    started: list[tuple[str, list[tuple[str, str]]]] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        del exc_info
        started.append((status, headers))
        return written.append

    chunks = application(environ, start_response)
    try:
        written.extend(chunks)
    finally:
        if hasattr(chunks, "close"):
            chunks.close()
    if not started:
        raise RuntimeError("The application returned without a response.")
    status, headers = started[-1]
    return Reply(int(status.split(" ", 1)[0]), tuple(headers), b"".join(written))


def signed_headers(
    body: bytes,
    secret: str,
    *,
    message_id: str | None = None,
    at: datetime | None = None,
    attempt: int = 1,
    sequence: int = 1,
) -> dict[str, str]:
    """Return the headers of a request with this body, as discue sends it: signed now, or at another time.

    `secret` is `whsec_…`, or a private key `whsk_…`. Raises ValueError for another one.
    """
    key = decode_private_key(secret) if secret.startswith("whsk_") else decode_secret(secret)
    timestamp = int(time.time() if at is None else at.timestamp())
    message_id = message_id or PublicIds(SystemClock(), os.urandom).next()
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign((key,), message_id, timestamp, body),
        "discue-attempt": str(attempt),
        "discue-sequence": str(sequence),
    }
