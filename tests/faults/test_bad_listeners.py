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


def first_attempts_in(database: Path) -> Counter[tuple[str, str, int]]:
    """How often the first attempts of each listener had which error and status."""
    with closing(sqlite3.connect(database)) as connection:
        return Counter(
            connection.execute(
                "SELECT l.alias, a.error, a.status FROM attempt a "
                "JOIN listener l ON l.organization = a.organization AND l.id = a.listener WHERE a.number = 1"
            )
        )


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
        while first_attempts_in(product.database).total() < ROUNDS * (len(EXPECTED) + 1):
            await product.says('"event":"attempt"')
        largest = max(largest, product.resident_bytes)
        assert await product.stop() == 0

    firsts = {key: times for key, times in first_attempts_in(product.database).items() if "the." in key[0]}
    assert firsts == {(f"the.{name}", *expected): ROUNDS for name, expected in EXPECTED.items()}
    assert largest - memory_before < 100 * MEBIBYTE
    slower, faster = median(with_sick), median(without)
    assert slower < 2 * faster or slower < faster + NO_DELAY_SECONDS, (slower, faster)
