"""An HTTP server on the simulated network that calls the RSGI application, in place of the real one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from discue.http.rsgi import Application, HttpHeaders
from tests.support.scripted_server import Received, read_request


class Headers:
    """The headers of a request."""

    def __init__(self, lines: dict[str, str]) -> None:
        self._lines = lines

    def __contains__(self, name: str) -> bool:
        return name in self._lines

    def get(self, name: str, default: Any = None) -> Any:
        return self._lines.get(name, default)

    def get_all(self, name: str) -> list[str]:
        return [self._lines[name]] if name in self._lines else []

    def keys(self) -> list[str]:
        return [*self._lines]

    def values(self) -> list[str]:
        return [*self._lines.values()]


class Scope:
    """A request, as the application sees it."""

    http_version = "1.1"
    scheme = "http"

    def __init__(self, request: Received, server: str, client: str) -> None:
        self.method, target, _ = request.line.split(" ", 2)
        path, _, self.query_string = target.partition("?")
        self.path = unquote(path)
        self.headers: HttpHeaders = Headers(request.headers)
        self.authority = request.headers.get("host")
        self.server = server
        self.client = client


class Exchange:
    """Passes on the body of a request, and writes its response."""

    def __init__(self, request: Received, writer: asyncio.StreamWriter, gone: "asyncio.Future[None]") -> None:
        self._body = request.body
        self._writer = writer
        self._gone = gone
        self._is_streaming = False
        """Whether a response was passed on in pieces: the network takes all of them at once."""

    async def __call__(self) -> bytes:
        return self._body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._body:
            yield self._body

    async def client_disconnect(self) -> None:
        if not self._is_streaming:
            await asyncio.shield(self._gone)

    def response_empty(self, status: int, headers: list[tuple[str, str]]) -> None:
        self.response_bytes(status, headers, b"")

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self._write(status, [*headers, ("content-length", str(len(body)))], body)

    def response_stream(self, status: int, headers: list[tuple[str, str]]) -> "Stream":
        self._is_streaming = True
        self._write(status, headers, b"")
        return Stream(self._writer)

    def _write(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers)]
        self._writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)


class Stream:
    """A response in pieces."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def send_bytes(self, data: bytes) -> None:
        self._writer.write(data)


class Connection(asyncio.StreamReaderProtocol):
    """A client's connection. `gone` is set when it ends."""

    def __init__(self, application: Application) -> None:
        loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = loop.create_future()
        self._application = application
        super().__init__(asyncio.StreamReader(loop=loop), self._respond_to_all, loop=loop)

    def eof_received(self) -> bool | None:
        self._end()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        super().connection_lost(exc)

    def _end(self) -> None:
        if not self.gone.done():
            self.gone.set_result(None)

    async def _respond_to_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Respond to requests, one at a time."""
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                request = await read_request(reader, 0)
                server, client = (":".join(map(str, writer.get_extra_info(name))) for name in ("sockname", "peername"))
                exchange = Exchange(request, writer, self.gone)
                await self._application.__rsgi__(Scope(request, server, client), exchange)
        writer.transport.abort()


async def serve(application: Application, host: str, port: int) -> asyncio.AbstractServer:
    """Serve an application until the server is closed. Connections that are open then end with their clients."""
    return await asyncio.get_running_loop().create_server(lambda: Connection(application), host, port)
