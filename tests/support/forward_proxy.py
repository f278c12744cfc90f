"""An HTTP proxy that resolves every host to loopback, and records its requests."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from discue.config.types import EGRESS_PROXY
from discue.domain.egress import EgressProxy
from tests.support.scripted_server import Received, read_request

USER, PASSWORD = "ada", "p@ss:w"
CREDENTIALS = "Basic YWRhOnBAc3M6dw=="


def proxy_at(port: int, *, credentials: str = "ada:p%40ss%3Aw@") -> EgressProxy:
    """Return the proxy of the setting for this port."""
    proxy = EGRESS_PROXY.parse(f"http://{credentials}127.0.0.1:{port}")
    assert isinstance(proxy, EgressProxy)
    return proxy


@dataclass
class ForwardProxy:
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def lines(self) -> list[str]:
        return [request.line for request in self.requests]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        number, self.connections = self.connections, self.connections + 1
        upstream: asyncio.StreamWriter | None = None
        answers: asyncio.StreamReader | None = None
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    request = await read_request(reader, number)
                    self.requests.append(request)
                    method, place, _ = request.line.split(" ")
                    port = int((place if method == "CONNECT" else urlsplit(place).netloc).rpartition(":")[2])
                    if upstream is None or answers is None:
                        answers, upstream = await asyncio.open_connection("127.0.0.1", port)
                    if method == "CONNECT":
                        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                        await asyncio.gather(_relay(reader, upstream), _relay(answers, writer))
                        return
                    path = place.removeprefix(f"http://{urlsplit(place).netloc}")
                    headers = [f"{name}: {value}" for name, value in request.headers.items() if name[:6] != "proxy-"]
                    head = "\r\n".join([f"{method} {path} HTTP/1.1", *headers, "", ""])
                    upstream.write(head.encode() + request.body)
                    writer.write(await _response(answers))
        finally:
            for each in (writer, upstream):
                if each is not None:
                    each.transport.abort()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()


async def _response(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    size = next(
        (int(line.partition(b":")[2]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
    )
    return head + await reader.readexactly(size)
