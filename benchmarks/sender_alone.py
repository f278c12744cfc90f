"""A process with nothing in it but the product's sender, driving a sink."""

import asyncio
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice

import msgspec
import uvloop

from benchmarks.body import MESSAGE
from benchmarks.cpu import memory
from benchmarks.sink import origin_host
from discue.crypto.signing import HmacKey
from discue.domain.attempts import Outcome
from discue.domain.clock import SystemClock
from discue.domain.egress import EgressPolicy, parse_target
from discue.domain.message_data import JSON_VALUE
from discue.sending.request import AttemptRequest, Destination
from discue.sending.sender import Sender
from discue.server.process import prepare_process

_KEY = HmacKey(range(32))


class Wish(msgspec.Struct):
    """One round: how many requests, over how many origins, how many of them at once."""

    port: int
    requests: int
    origins: int
    at_once: int


class Round(msgspec.Struct):
    """What one round took."""

    requests: int
    failures: int
    seconds: float
    cpu_seconds: float
    resident_bytes: int


def main() -> None:
    prepare_process()
    uvloop.run(_serve())


async def _serve() -> None:
    sender = Sender(clock=SystemClock(), policy=EgressPolicy(allow_private=True))
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        done = await _run(sender, msgspec.json.decode(line, type=Wish))
        sys.stdout.buffer.write(msgspec.json.encode(done) + b"\n")
        sys.stdout.buffer.flush()
    await sender.close(0)


async def _run(sender: Sender, wish: Wish) -> Round:
    requests = [_request(f"http://{origin_host(index)}:{wish.port}/") for index in range(wish.origins)]
    began, cpu_before = time.monotonic(), _cpu_seconds()
    failures = await _Driver(sender, requests, wish).run()
    seconds, cpu = time.monotonic() - began, _cpu_seconds() - cpu_before
    return Round(wish.requests, failures, seconds, cpu, memory(os.getpid()).resident)


class _Driver:
    """Keeps a number of requests in flight until all are made."""

    def __init__(self, sender: Sender, requests: Sequence[AttemptRequest], wish: Wish) -> None:
        self._sender = sender
        self._left: Iterator[AttemptRequest] = islice(cycle(requests), wish.requests)
        self._at_once = min(wish.at_once, wish.requests)
        self._open = wish.requests
        self._failures = 0
        self._finished = asyncio.get_running_loop().create_future()

    async def run(self) -> int:
        """How many failed."""
        for request in islice(self._left, self._at_once):
            self._sender.send(request, self._ended)
        await self._finished
        return self._failures

    def _ended(self, outcome: Outcome) -> None:
        self._failures += not outcome.acknowledged
        self._open -= 1
        request = next(self._left, None)
        if request is not None:
            self._sender.send(request, self._ended)
        elif not self._open:
            self._finished.set_result(None)


def _request(url: str) -> AttemptRequest:
    return AttemptRequest(
        destination=Destination(parse_target(url, "/notify_url"), "1" * 21, "2" * 21),
        message_id="0" * 21,
        codec=JSON_VALUE,
        body=MESSAGE,
        keys=(_KEY,),
        number=1,
    )


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
