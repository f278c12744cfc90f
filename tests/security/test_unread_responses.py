"""Responses that nobody reads do not fill the memory."""

import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest

from tests.security.http2 import answers, connected, gets, greeting
from tests.security.neighbour import Tenant, publishing, tenant
from tests.support.served_process import ServedProcess, served_process

_CONNECTIONS = 20
_STREAMS = 200
_STREAMS_AT_ONCE = 100
_GROWTH_BYTES = 150_000_000
_STREAM_BYTES = 60_000_000
_STREAM_SECONDS = 4.0
_HUGE_BYTES = 7_000_000
_HUGE_GROWTH_BYTES = 150_000_000
_HUGE_SECONDS = 1.5
_ESCAPED_BYTES = 200_000
_ESCAPED_GROWTH_BYTES = 80_000_000
_HEALTHY_SECONDS = 1.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServedProcess]:
    with served_process(f"sqlite:///{tmp_path}/discue.db") as running:
        yield running


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4_096


class _Memory:
    """Watches how much memory a process takes at most."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._first = _resident_bytes(pid)
        self.growth = 0

    def look(self) -> None:
        self.growth = max(self.growth, _resident_bytes(self._pid) - self._first)


@pytest.mark.parametrize("window", [0, 1, 65_535])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_responses_over_http_2_without_a_window_are_bounded(server: ServedProcess, encoding: str, window: int) -> None:
    neighbour = tenant(server, "com.example.neighbour")
    memory = _Memory(server.pid)
    requests = greeting(window) + gets("/docs/api", range(_STREAMS), [("accept-encoding", encoding)])
    with ExitStack() as stack:
        attackers = [stack.enter_context(closing(connected(server.port))) for _ in range(_CONNECTIONS)]
        with publishing(neighbour) as during:
            for attacker in attackers:
                attacker.sendall(requests)
            answered = []
            for attacker in attackers:
                answered.append(answers(attacker, _STREAMS_AT_ONCE))
                memory.look()
            during.wait()
        memory.look()
    assert sum(answered) >= _CONNECTIONS * _STREAMS_AT_ONCE // 2
    assert memory.growth <= _GROWTH_BYTES
    assert not during.refused


def test_indented_responses_over_http_2_without_a_window_are_bounded(server: ServedProcess) -> None:
    attacker, neighbour = (tenant(server, f"com.example.{name}") for name in ("attacker", "neighbour"))
    nested: list[object] = [1] * 9_000
    for _ in range(90):
        nested = [nested]
    with attacker.client() as client:
        made = client.post("/queues", json={"alias": "nested", "json_schema": {"enum": [nested]}})
    # 20 kB, and 1.7 MB if they were indented.
    path = f"/queues/{made.raise_for_status().json()['queue']['id']}?pretty=true"
    requests = greeting(0) + gets(path, range(_STREAMS_AT_ONCE), [("x-api-key", attacker.key)])
    memory = _Memory(server.pid)
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(connected(server.port))) for _ in range(4)]
        for connection in connections:
            connection.sendall(requests)
        for connection in connections:
            assert answers(connection, _STREAMS_AT_ONCE) == _STREAMS_AT_ONCE
            memory.look()
        with neighbour.client() as client:
            client.get(f"/queues/{neighbour.queue}").raise_for_status()
    assert memory.growth <= _GROWTH_BYTES


def _pulls(consumer: Tenant, client: httpx.Client) -> str:
    """Create a listener in pull mode, and return the path of its messages."""
    listeners = f"/queues/{consumer.queue}/listeners"
    options = {"alias": "pulls", "mode": "pull", "lease_seconds": 1, "max_in_flight": 1_000}
    made = client.post(listeners, json=options).raise_for_status()
    return f"{listeners}/{made.json()['listener']['id']}/messages"


def _request(server: ServedProcess, path: str, key: str) -> socket.socket:
    """Send a request whose response is not read."""
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    reader.connect(("127.0.0.1", server.port))
    reader.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-API-KEY: {key}\r\n\r\n".encode())
    return reader


def _stream(server: ServedProcess, consumer: Tenant, path: str) -> socket.socket:
    """Begin a stream of events whose client has a small buffer."""
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    reader.connect(("127.0.0.1", server.port))
    lines = [f"GET {path}?max=100 HTTP/1.1", "Host: x", "Accept: text/event-stream", f"X-API-KEY: {consumer.key}"]
    reader.sendall("\r\n".join([*lines, "", ""]).encode())
    assert reader.recv(12) == b"HTTP/1.1 200"
    return reader


def test_stream_of_events_waits_for_its_client(server: ServedProcess) -> None:
    consumer = tenant(server, "com.example.consumer")
    with consumer.client() as client:
        path = _pulls(consumer, client)
        for _ in range(12):
            batch = [{"data": "x" * 200_000}] * 40
            client.post(f"{consumer.messages}/batch", json={"messages": batch}).raise_for_status()
    memory = _Memory(server.pid)
    with _stream(server, consumer, path):
        ends_at = time.monotonic() + _STREAM_SECONDS
        while time.monotonic() < ends_at and memory.growth < _STREAM_BYTES:
            select.select([], [], [], 0.05)
            memory.look()
    assert memory.growth < _STREAM_BYTES


def test_unread_responses_with_escaped_messages_leave_memory_to_others(server: ServedProcess) -> None:
    """A control character in a text takes a byte in the message, and six in the response."""
    neighbour, consumer = tenant(server, "com.example.neighbour"), tenant(server, "com.example.consumer")
    listeners = f"/queues/{consumer.queue}/listeners"
    with consumer.client() as client:
        for number in range(_CONNECTIONS):
            options = {"alias": f"pulls-{number}", "mode": "pull"}
            client.post(listeners, json=options).raise_for_status()
        found = client.get(f"{listeners}?per_page=100").raise_for_status().json()["listeners"]
        for _ in range(5):
            client.post(consumer.messages, json={"data": "\1" * _ESCAPED_BYTES}).raise_for_status()
    memory, slowest = _Memory(server.pid), 0.0
    with ExitStack() as stack, neighbour.client() as client:
        for each in found:
            path = f"{listeners}/{each['id']}/messages?max=100&wait=10"
            stack.enter_context(closing(_request(server, path, consumer.key)))
        ends_at = time.monotonic() + _STREAM_SECONDS
        while time.monotonic() < ends_at:
            started_at = time.monotonic()
            client.get("/queues?per_page=20").raise_for_status()
            slowest = max(slowest, time.monotonic() - started_at)
            select.select([], [], [], 0.05)
            memory.look()
    print(f"growth: {memory.growth:,} bytes; slowest request: {slowest:.3f} s")
    assert memory.growth < _ESCAPED_GROWTH_BYTES
    assert slowest < _HEALTHY_SECONDS


def test_streams_of_huge_messages_that_are_not_read_leave_memory_to_others(server: ServedProcess) -> None:
    neighbour, consumer = tenant(server, "com.example.neighbour"), tenant(server, "com.example.consumer")
    with consumer.client() as client:
        client.put(f"/queues/{consumer.queue}", json={"max_message_bytes": 8_000_000}).raise_for_status()
        path = _pulls(consumer, client)
        for _ in range(10):
            client.post(consumer.messages, json={"data": "x" * _HUGE_BYTES}).raise_for_status()
    memory = _Memory(server.pid)
    with ExitStack() as stack, neighbour.client() as client:
        for _ in range(_CONNECTIONS):
            stack.enter_context(_stream(server, consumer, path))
        ends_at = time.monotonic() + _HUGE_SECONDS
        while time.monotonic() < ends_at:
            client.get("/queues?per_page=100").raise_for_status()
            select.select([], [], [], 0.05)
            memory.look()
    assert memory.growth < _HUGE_GROWTH_BYTES
