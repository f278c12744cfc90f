"""How fast does `discue listen` forward messages, and what does it cost when there are none?"""

import signal
import time

from benchmarks import cpu
from benchmarks.bench import Bench
from benchmarks.body import MESSAGE
from benchmarks.child import Child, python
from benchmarks.failure import BenchmarkFailed
from benchmarks.product import Product, Queue
from benchmarks.table import Row, at_least, below, seen

_FORWARDED = 1_000.0
_IDLE_SHARE = 0.5
_BATCH = 1_000
_NAME = "listen"
_POLL_SECONDS = 0.005
_WITHIN_SECONDS = 120.0


def measure(bench: Bench) -> list[Row]:
    with bench.product(_NAME) as product:
        queue = product.queue(alias=_NAME)
        # The messages wait for the listener that the command then takes over.
        product.ask("POST", f"{queue.path}/listeners", {"alias": _NAME, "mode": "pull"})
        count = max(bench.effort.pulled // _BATCH, 1) * _BATCH
        _publish(product, queue, count)
        with Child([bench.load_core], _NAME, _command(bench, product)) as child:
            rate, cpu_us = _forwarding(bench, child.pid, count)
            product.rest()
            before = cpu.cpu_seconds(child.pid)
            time.sleep(bench.effort.idle_seconds)
            idle = (cpu.cpu_seconds(child.pid) - before) / bench.effort.idle_seconds
            child.signal(signal.SIGINT)
    return [
        at_least("discue listen: messages forwarded on one core", rate, _FORWARDED, "/s"),
        seen("discue listen: a message forwarded", f"{cpu_us:.0f} µs CPU"),
        below("discue listen, idle", idle * 100, _IDLE_SHARE, " % of a core"),
    ]


def _publish(product: Product, queue: Queue, count: int) -> None:
    body = {"messages": [{"data": MESSAGE.decode()}] * _BATCH}
    for _ in range(count // _BATCH):
        product.ask("POST", f"{queue.messages}/batch", body)


def _command(bench: Bench, product: Product) -> list[str]:
    variables = [f"DISCUE_URL=http://127.0.0.1:{product.port}", f"DISCUE_API_KEY={bench.key}"]
    options = ["--queue", _NAME, "--name", _NAME, "--output", "quiet"]
    secret = ["--secret", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"]
    return ["env", *variables, *python("discue", "listen", bench.sink.url, *options, *secret)]


def _forwarding(bench: Bench, pid: int, count: int) -> tuple[float, float]:
    """Return messages a second, and microseconds of CPU of each, without the start of the command."""
    first = bench.sink.count()
    _wait(bench, first + count // 10)
    began, used, already = time.perf_counter(), cpu.cpu_seconds(pid), bench.sink.count()
    _wait(bench, first + count)
    done = first + count - already
    return done / (time.perf_counter() - began), (cpu.cpu_seconds(pid) - used) / done * 1e6


def _wait(bench: Bench, count: int) -> None:
    """Until the sink has answered so many requests."""
    until = time.monotonic() + _WITHIN_SECONDS
    while bench.sink.count() < count:
        if time.monotonic() > until:
            raise BenchmarkFailed("Messages are not forwarded in time.")
        time.sleep(_POLL_SECONDS)
