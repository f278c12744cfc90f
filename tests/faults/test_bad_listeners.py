"""Listeners that misbehave in every way at once, on one queue with a healthy one, through the whole product."""

import gzip
import socket
import sqlite3
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import trustme

from discue.domain.ids import millisecond_of
from discue.domain.retry import DEFAULT_RETRY_POLICY
from tests.faults.client import Client
from tests.faults.product import Product
from tests.faults.receiver import Receiver
from tests.support.scripted_server import HANG, READ, READ_HEAD, RESET, Drip, Flood, Script, ScriptedServer

TIMEOUT_SECONDS = 1
# A delivery that waited for a faulty listener would wait for its timeout.
NO_DELAY_SECONDS = TIMEOUT_SECONDS / 5
ROUNDS = 20
MEBIBYTE = 1 << 20

# Each request comes on a connection of its own: the scripts are for one.
OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
HUGE = OK + b"Content-Length: 100000000\r\n\r\n"
ELSEWHERE = (
    b"HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: http://169.254.169.254/latest/\r\nContent-Length: 0\r\n\r\n"
)
BOMB = gzip.compress(bytes(10 * MEBIBYTE))
ZIPPED = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB)


class Sickness(NamedTuple):
    """A faulty behaviour of a listener, and how the attempt must be classified."""

    script: Script
    error: str
    status: int


SICK = {
    "hang.at.headers": Sickness((READ, HANG), "timeout", 0),
    "hang.at.body": Sickness((READ, OK + b"Content-Length: 9\r\n\r\nbody", HANG), "timeout", 200),
    "drip": Sickness((READ, Drip(OK + b"X-Drip: drop\r\n" * 100)), "timeout", 0),
    "huge": Sickness((READ, HUGE, Flood(b"x" * 65_536, ROUNDS * 100_000_000)), "", 200),
    "bomb": Sickness((READ, ZIPPED + BOMB), "", 200),
    "redirect": Sickness((READ, ELSEWHERE), "redirect", 302),
    "garbage": Sickness((READ, bytes(range(256)) * 8), "protocol", 0),
    "reset": Sickness((READ, OK + b"Content-Length: 9\r\n\r\nbody", RESET), "reset", 200),
    "early": Sickness((READ_HEAD, OK + b"Content-Length: 0\r\n\r\n", HANG), "", 200),
    "untrusted": Sickness((READ, OK + b"Content-Length: 0\r\n\r\n"), "tls", 0),
    "cleartext": Sickness((OK + b"Content-Length: 0\r\n\r\n", HANG), "tls", 0),
}
EXPECTED = {name: (sickness.error, sickness.status) for name, sickness in SICK.items()} | {
    "refuse": ("connect", 0),
    "hang.at.connect": ("connect_timeout", 0),
    "healthy": ("", 200),
}


def untrusted() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


@contextmanager
def dead_ports() -> Iterator[dict[str, str]]:
    """URLs of a port that refuses, and of one that answers no more because its queue of connections is full."""
    with ExitStack() as stack:
        refusing, full = (stack.enter_context(socket.socket()) for _ in range(2))
        for listening in (refusing, full):
            listening.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        ports = {"refuse": refusing, "hang.at.connect": full}
        yield {name: f"http://127.0.0.1:{port.getsockname()[1]}/" for name, port in ports.items()}


@asynccontextmanager
async def sick_urls() -> AsyncIterator[dict[str, str]]:
    """Yield the URLs of the faulty listeners by name."""
    async with AsyncExitStack() as stack:
        urls = stack.enter_context(dead_ports())
        for name, sickness in SICK.items():
            tls = untrusted() if name == "untrusted" else None
            server = await stack.enter_async_context(ScriptedServer([sickness.script], tls))
            urls[name] = server.url.replace("http://", "https://") if name == "cleartext" else server.url
        yield urls


async def latency(client: Client, receiver: Receiver, queue: str, name: str) -> float:
    """Seconds from before a publish until its receipt."""
    began = time.monotonic()
    message = await client.publish(queue, "x" * 1_000)
    await receiver.until(lambda: any(seen.message == message and seen.path == name for seen in receiver.delivered[-4:]))
    return time.monotonic() - began


def attempts_in(database: Path) -> Counter[tuple[str, str, int, int]]:
    """How often each listener's attempts had which number, error and status."""
    with closing(sqlite3.connect(database)) as connection:
        return Counter(
            connection.execute(
                "SELECT l.alias, a.error, a.status, a.number FROM attempt a "
                "JOIN listener l ON l.organization = a.organization AND l.id = a.listener"
            )
        )


class Wait(NamedTuple):
    """A delivery that waits for its next attempt, after so many. Times are in ms."""

    alias: str
    attempts: int
    since_publish: int
    since_attempt: int
    """From when the last attempt was recorded, which is a moment after its wait began."""


def waits_in(database: Path) -> list[Wait]:
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            "SELECT l.alias, e.attempts, e.due_at - m.stored_at, e.due_at, a.id FROM exception e "
            "JOIN listener l ON l.organization = e.organization AND l.id = e.listener "
            "JOIN log m ON m.organization = e.organization AND m.queue = e.queue AND m.seq = e.seq "
            "JOIN attempt a ON a.organization = e.organization AND a.queue = e.queue AND a.seq = e.seq "
            "AND a.listener = e.listener AND a.number = e.attempts WHERE e.state = 'retry'"
        ).fetchall()
    return [
        Wait(alias, attempts, since_publish, due_at - millisecond_of(attempt))
        for alias, attempts, since_publish, due_at, attempt in rows
    ]


def is_by_the_policy(wait: Wait) -> bool:
    """Whether it is as long as after so many attempts, however slow the machine was in between."""
    delays_ms = [seconds * 1_000 for seconds in DEFAULT_RETRY_POLICY.delays_seconds[: wait.attempts]]
    longest_ms = delays_ms[-1] * (1 + DEFAULT_RETRY_POLICY.jitter)
    return sum(delays_ms) <= wait.since_publish and wait.since_attempt <= longest_ms


async def test_sick_listeners_are_classified_and_bounded_and_delay_nobody(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"delivery_timeout_seconds": TIMEOUT_SECONDS, "connect_timeout_seconds": TIMEOUT_SECONDS}
    with_sick, without = [], []
    async with sick_urls() as urls, Receiver() as receiver, Product(tmp_path, **settings) as product:
        client = product.client()
        quiet, crowded = await client.queue(), await client.queue()
        await client.listener(quiet, receiver.url("alone"))
        for name, url in {**urls, "healthy": receiver.url("healthy")}.items():
            fields: dict[str, object] = {"alias": f"the.{name}", "notify_url": url, "liveness_url": url}
            await client.create(f"/queues/{crowded}/listeners", fields)
        memory_before, largest = product.resident_bytes, 0
        for _ in range(ROUNDS):
            without.append(await latency(client, receiver, quiet, "alone"))
            with_sick.append(await latency(client, receiver, crowded, "healthy"))
            largest = max(largest, product.resident_bytes)
        await product.until_first_attempts(ROUNDS * (len(EXPECTED) + 1))
        largest = max(largest, product.resident_bytes)
        assert await product.stop() == 0

    firsts = {key: times for key, times in attempts_in(product.database).items() if key[3] == 1 and "the." in key[0]}
    assert firsts == {(f"the.{name}", *expected, 1): ROUNDS for name, expected in EXPECTED.items()}
    waits = waits_in(product.database)
    failing = {f"the.{name}": ROUNDS for name, (error, _) in EXPECTED.items() if error}
    assert Counter(wait.alias for wait in waits) == failing
    assert [wait for wait in waits if not is_by_the_policy(wait)] == []
    assert largest - memory_before < 100 * MEBIBYTE
    slower, faster = median(with_sick), median(without)
    assert slower < 2 * faster or slower < faster + NO_DELAY_SECONDS, (slower, faster)
