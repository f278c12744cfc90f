"""The product under measurement: its process, and its API as a client sees it."""

import http.client
import ssl
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

import msgspec

from benchmarks import cpu
from benchmarks.child import Child, python
from benchmarks.failure import BenchmarkFailed
from benchmarks.loads import Load

_POLL_SECONDS = 0.02
_ANSWER_SECONDS = 60
_IDLE_CPU_SECONDS = 0.03
_REST_SECONDS = 0.5
_RESTS = 40


class Counts(msgspec.Struct, frozen=True):
    """How far a listener is."""

    acknowledged: int
    pending: int


class Liveness(msgspec.Struct, frozen=True):
    """How a listener is."""

    state: str
    successes: int


class Listener(msgspec.Struct, frozen=True):
    """A listener, by the path of its resource."""

    path: str

    @property
    def id(self) -> str:
        return self.path.rpartition("/")[2]


class Queue(msgspec.Struct, frozen=True):
    """A queue of the product."""

    id: str

    @property
    def path(self) -> str:
        return f"/v1/queues/{self.id}"

    @property
    def messages(self) -> str:
        return f"{self.path}/messages"


class Product:
    """One worker on a database. Its start is measured to the first answer that it is ready.

    `store_cpu_seconds` says what the database has used that is no part of this process. `settings` are those that
    differ from `benchmarks.server`'s.
    """

    def __init__(
        self,
        database: str,
        key: str,
        cores: Sequence[int],
        store_cpu_seconds: Callable[[], float] = lambda: 0.0,
        *,
        settings: Mapping[str, object] = MappingProxyType({}),
        interpreter: str = sys.executable,
    ) -> None:
        self._key = key
        self._scheme = "https" if settings.get("tls_self_signed") else "http"
        self.store_cpu_seconds = store_cpu_seconds
        began = time.monotonic()
        changed = msgspec.json.encode(dict(settings)).decode()
        command = python("benchmarks.server", database, key, changed, interpreter=interpreter)
        self.child = Child(cores, "server", command)
        said = self.child.hear()
        self.port = int(said["port"])
        self.session_id = int(said["session_id"])
        self.ask("GET", "/health/ready")
        self.start_seconds = time.monotonic() - began

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def headers(self) -> dict[str, str]:
        """What a request needs."""
        return {"X-API-KEY": self._key, "Content-Type": "application/json"}

    def request(self, method: str, path: str) -> bytes:
        """One without a body, as it goes over a connection."""
        return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-KEY: {self._key}\r\n\r\n".encode()

    def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Raises BenchmarkFailed for anything but a 200."""
        content = None if body is None else msgspec.json.encode(body)
        connection = self._connection()
        try:
            connection.request(method, path, content, self.headers)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise BenchmarkFailed(f"{method} {path}: {response.status} {answer.decode()}")
        shown: dict[str, Any] = msgspec.json.decode(answer)
        return shown

    def _connection(self) -> http.client.HTTPConnection:
        if self._scheme == "http":
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=_ANSWER_SECONDS)
        unverified = ssl._create_unverified_context()  # noqa: S323, SLF001 - the certificate is signed by itself
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=_ANSWER_SECONDS, context=unverified)

    def scrape(self) -> float:
        """Get the metrics; how many seconds that took."""
        connection = self._connection()
        try:
            connection.connect()
            began = time.perf_counter()
            connection.request("GET", "/scrape")
            response = connection.getresponse()
            content = response.read()
            took = time.perf_counter() - began
        finally:
            connection.close()
        if response.status != 200 or not content.endswith(b"# EOF\n"):
            raise BenchmarkFailed(f"The metrics: {response.status} {content[:200]!r}")
        return took

    def made(self, path: str, **fields: object) -> str:
        """The id of a resource, which is created."""
        shown = self.ask("POST", path, fields)
        return next(str(value["id"]) for name, value in shown.items() if name != "_links")

    def queue(self, **fields: object) -> Queue:
        return Queue(self.ask("POST", "/v1/queues", fields)["queue"]["id"])

    def listener(self, queue: Queue, url: str, **options: object) -> Listener:
        body = {"notify_url": url, "liveness_url": url, **options}
        made = self.ask("POST", f"{queue.path}/listeners", body)["listener"]
        return Listener(f"{queue.path}/listeners/{made['id']}")

    def listeners(self, queue: Queue) -> list[Listener]:
        """Of a queue, as it lists them."""
        shown = self.ask("GET", queue.path)["queue"]["listeners"]
        return [Listener(f"{queue.path}/listeners/{each['id']}") for each in shown]

    def change(self, listener: Listener, **fields: str) -> None:
        self.ask("PUT", listener.path, fields)

    def publish(self, queue: Queue, data: object) -> None:
        self.ask("POST", queue.messages, {"data": data})

    def load(self, queue: Queue, body: bytes, *, connections: int = 64, counting: bool = False) -> Load:
        """Publishing as a load."""
        path = f"{queue.messages}/batch" if body.startswith(b'{"messages"') else queue.messages
        return Load(f"{self._scheme}://127.0.0.1:{self.port}{path}", body, self._key, connections, counting)

    def get(self, path: str) -> Load:
        """Reading as a load."""
        return Load(f"http://127.0.0.1:{self.port}{path}", b"", self._key)

    def counts(self, listener: Listener) -> Counts:
        messages = self.ask("GET", listener.path)["listener"]["messages"]
        return Counts(messages["acknowledged_count"], messages["pending_count"])

    def liveness(self, listener: Listener) -> Liveness:
        shown = self.ask("GET", listener.path)["listener"]["liveness"]
        return Liveness(shown["state"], shown["success_count"])

    def wait_settled(self, *listeners: Listener, within_seconds: float = 120.0) -> None:
        """Until nothing waits for any of them."""
        until = time.monotonic() + within_seconds
        for listener in listeners:
            while self.counts(listener).pending:
                if time.monotonic() > until:
                    raise BenchmarkFailed("Messages are not delivered in time.")
                time.sleep(_POLL_SECONDS)

    def cpu_seconds(self) -> float:
        return cpu.cpu_seconds(self.pid)

    def memory(self) -> cpu.Memory:
        return cpu.memory(self.pid)

    def rest(self) -> None:
        """Wait until it has nothing left to do."""
        for _ in range(_RESTS):
            before = self.cpu_seconds()
            time.sleep(_REST_SECONDS)
            if self.cpu_seconds() - before <= _IDLE_CPU_SECONDS:
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.child.stop()
