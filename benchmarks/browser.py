"""Browsers on the dashboard: signed in, with pages over one connection, and with the stream that says what changed."""

import http.client
import re
import select
import socket
import threading
import time
from types import TracebackType
from typing import Self

import msgspec

from benchmarks.failure import BenchmarkFailed
from benchmarks.product import Product

REFRESH_SECONDS = 2.0
"""How often a page that changes loads itself again, at most: as its script does."""

_TIMEOUT_SECONDS = 60
_WAKE_SECONDS = 0.2
_PIECE = 65_536
_SHOWN = (200, 303)
_TAGS = re.compile(r"<[^>]*>")


class Loaded(msgspec.Struct, frozen=True):
    """A page, and how long it took from the request to its last byte."""

    status: int
    content: bytes
    seconds: float


class Browser:
    """Signed in with a code of its own."""

    def __init__(self, product: Product) -> None:
        self._port = product.port
        self._connection = http.client.HTTPConnection("127.0.0.1", product.port, timeout=_TIMEOUT_SECONDS)
        self._headers: dict[str, str] = {}
        code = product.ask("GET", "/v1/code")["code"]
        self._connection.request("GET", f"/dashboard/open?code={code}")
        response = self._connection.getresponse()
        response.read()
        cookie = (response.getheader("set-cookie") or "").partition(";")[0]
        if response.status != http.client.SEE_OTHER or not cookie:
            raise BenchmarkFailed(f"The browser is not signed in: {response.status}")
        self._headers = {"cookie": cookie}

    def load(self, path: str) -> Loaded:
        """A page below `/dashboard`. Raises BenchmarkFailed for one that is not shown, and leads nowhere."""
        began = time.perf_counter()
        self._connection.request("GET", f"/dashboard{path}", headers=self._headers)
        response = self._connection.getresponse()
        content = response.read()
        took = time.perf_counter() - began
        if response.status not in _SHOWN:
            said = _TAGS.sub(" ", content.decode().partition("<main")[2].partition("</main>")[0])
            raise BenchmarkFailed(f"{path}: {response.status} {' '.join(said.split())}")
        return Loaded(response.status, content, took)

    def listen(self) -> socket.socket:
        """A connection with the stream of events, from which nothing is read yet."""
        connection = socket.create_connection(("127.0.0.1", self._port), _TIMEOUT_SECONDS)
        head = ["GET /dashboard/live HTTP/1.1", f"Host: 127.0.0.1:{self._port}", f"Cookie: {self._headers['cookie']}"]
        connection.sendall("\r\n".join([*head, "", ""]).encode())
        if not connection.recv(_PIECE).startswith(b"HTTP/1.1 200"):
            connection.close()
            raise BenchmarkFailed("The stream of events does not begin.")
        return connection

    def close(self) -> None:
        self._connection.close()


class Watching:
    """A browser that shows a page while the block runs, and loads it again when something has changed."""

    def __init__(self, product: Product, path: str) -> None:
        self._browser = Browser(product)
        self._path = path
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="browser")
        self._error: BaseException | None = None
        self.loads = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        self._browser.close()
        if error is None and self._error is not None:
            raise BenchmarkFailed("The browser has stopped.") from self._error

    def _run(self) -> None:
        try:
            self._watch()
        except (BenchmarkFailed, OSError) as failure:
            self._error = failure

    def _watch(self) -> None:
        with self._browser.listen() as stream:
            while not self._is_over.is_set():
                if not select.select([stream], [], [], _WAKE_SECONDS)[0]:
                    continue
                if b"event: changed" in stream.recv(_PIECE):
                    self._browser.load(self._path)
                    self.loads += 1
                    self._is_over.wait(REFRESH_SECONDS)
