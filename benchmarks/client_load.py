"""A process with the Python client in it, driving the product."""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

import httpx2
import msgspec

from benchmarks.body import MESSAGE, single
from benchmarks.cpu import memory
from discue_client import AsyncDiscue, Discue

_TASKS = 64
_ROUNDS = 7
_CONCURRENCY = 50
_BATCHED = 10_240
_SINGLE = 1_280
"""Numbers of publishes that must leave nothing behind."""

Publish = Callable[[], Awaitable[object]]


class Found(msgspec.Struct):
    """The result of a run."""

    overhead: float
    """Time of a publish with the client, as a multiple of a bare request with the same body."""
    sync_overhead: float
    """Time of a publish with the sync client, as a multiple of a bare request of `httpx2.Client`."""
    batched: float
    """Rate of a publisher, as a multiple of single publishes by as many tasks."""
    batched_rate: float
    consumed_rate: float
    consumed_cpu_us: float
    idle_percent: float
    """Processor time of a consumer without messages, in percent of a core."""
    leaked_bytes: float
    """Memory that each of many publishes left behind."""
    leaked_files: int


async def _measure(url: str, key: str, count: int, idle_seconds: int) -> Found:
    data = msgspec.json.decode(MESSAGE)
    async with AsyncDiscue(url, key) as client, httpx2.AsyncClient() as bare:
        await client.queues.create(alias="python")
        headers = {"x-api-key": key, "content-type": "application/json"}

        async def request() -> None:
            own = {**headers, "idempotency-key": os.urandom(16).hex()}
            response = await bare.post(f"{url}/queues/python/messages", content=single(MESSAGE), headers=own)
            response.raise_for_status()

        async def publish() -> None:
            await client.publish("python", data)

        await _seconds(request, count)
        await _seconds(publish, count)
        ratios = [1 / await _seconds(request, count) * await _seconds(publish, count) for _ in range(_ROUNDS)]
        alone = await _rate(publish, count // 4)
        async with client.publisher("python") as publisher:
            await _rate(lambda: publisher.publish(data), count // 4)
            batched = await _rate(lambda: publisher.publish(data), count)
            before, files = memory(os.getpid()).resident, _files()
            await _rate(lambda: publisher.publish(data), _BATCHED // _TASKS)
            await _rate(publish, _SINGLE // _TASKS)
            leaked = (memory(os.getpid()).resident - before) / (_BATCHED + _SINGLE)
            leaked_files = _files() - files
        rate, cpu_us = await _consume(client, data, _TASKS * count)
        idle_percent = await _idle(client, idle_seconds)
    sync_overhead = await asyncio.to_thread(_sync_overhead, url, key, count)
    return Found(
        median(ratios), sync_overhead, batched / alone, batched, rate, cpu_us, idle_percent, leaked, leaked_files
    )


def _sync_overhead(url: str, key: str, count: int) -> float:
    data = msgspec.json.decode(MESSAGE)
    headers = {"x-api-key": key, "content-type": "application/json"}

    def seconds(send: Callable[[], object]) -> float:
        started_at = time.perf_counter()
        for _ in range(count):
            send()
        return time.perf_counter() - started_at

    with Discue(url, key) as client, httpx2.Client() as bare:

        def request() -> None:
            own = {**headers, "idempotency-key": os.urandom(16).hex()}
            bare.post(f"{url}/queues/python/messages", content=single(MESSAGE), headers=own).raise_for_status()

        def publish() -> None:
            client.publish("python", data)

        seconds(request)
        seconds(publish)
        return median(1 / seconds(request) * seconds(publish) for _ in range(_ROUNDS))


async def _seconds(publish: Publish, count: int) -> float:
    started_at = time.perf_counter()
    for _ in range(count):
        await publish()
    return time.perf_counter() - started_at


async def _rate(publish: Publish, count: int) -> float:
    """Messages a second by 64 tasks with so many each."""
    started_at = time.perf_counter()
    await asyncio.gather(*(_seconds(publish, count) for _ in range(_TASKS)))
    return _TASKS * count / (time.perf_counter() - started_at)


async def _consume(client: AsyncDiscue, data: object, count: int) -> tuple[float, float]:
    await client.queues.create(alias="pulled")
    await client.listeners.create("pulled", alias="python", mode="pull")
    async with client.publisher("pulled") as publisher:
        for _ in range(count):
            await publisher.submit(data)
    consumer, consumed = client.consume("pulled", listener="python", concurrency=_CONCURRENCY), 0

    async def handle(_: Any) -> None:
        nonlocal consumed
        consumed += 1
        if consumed == count:
            consumer.stop()

    used, started_at = time.process_time(), time.perf_counter()
    await consumer.run(handle)
    return consumed / (time.perf_counter() - started_at), (time.process_time() - used) / consumed * 1e6


async def _idle(client: AsyncDiscue, seconds: int) -> float:
    async with client.consume("pulled", listener="python", concurrency=_CONCURRENCY):
        # What starts it is not idle.
        await asyncio.sleep(1)
        used = time.process_time()
        await asyncio.sleep(seconds)
        return (time.process_time() - used) / seconds * 100


def _files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


if __name__ == "__main__":
    address, api_key, each, idle = sys.argv[1:]
    found = asyncio.run(_measure(address, api_key, int(each), int(idle)))
    print(msgspec.json.encode(found).decode(), flush=True)
