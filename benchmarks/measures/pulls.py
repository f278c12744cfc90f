"""What do requests cost that wait for messages, and how fast are messages pulled and acknowledged?"""

import http.client
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import msgspec

from benchmarks import body
from benchmarks.bench import Bench
from benchmarks.product import Listener, Product, Queue
from benchmarks.table import Row, below, seen

_POLLS = 100
_WAIT_SECONDS = 60
_SHARE = 1.0
_LISTENERS = 5
_CONSUMERS = 4
_AT_ONCE = 100
_BATCH = 500
_SETTLING_SECONDS = 1.0


def measure(bench: Bench) -> list[Row]:
    with bench.product("pulls") as product:
        queue = product.queue()
        listeners = [_listener(product, queue) for _ in range(_LISTENERS)]
        product.rest()
        idle = _share(product, bench.effort.idle_seconds)
        waiting = _waiting(product, listeners, bench.effort.idle_seconds)
        rate, cpu_us = _pull(product, bench.effort.pulled)
    name = f"{_POLLS} requests that wait at {_LISTENERS} listeners"
    return [
        below(f"{name}, CPU", waiting, _SHARE, " % of a core"),
        seen(f"{name}, CPU without them", f"{idle:.2g} % of a core"),
        seen(
            f"pulling and acknowledging, {_AT_ONCE} at a time by {_CONSUMERS} consumers",
            f"{rate:,.0f}/s, {cpu_us:.1f} µs CPU a message",
        ),
    ]


def _listener(product: Product, queue: Queue) -> Listener:
    fields = {"mode": "pull", "max_in_flight": 1_000}
    made = product.ask("POST", f"{queue.path}/listeners", fields)["listener"]
    return Listener(f"{queue.path}/listeners/{made['id']}")


def _share(product: Product, seconds: float) -> float:
    """Of a core, in per cent."""
    before = product.cpu_seconds()
    time.sleep(seconds)
    return (product.cpu_seconds() - before) / seconds * 100


def _waiting(product: Product, listeners: list[Listener], seconds: float) -> float:
    with ExitStack() as open_until_measured:
        for number in range(_POLLS):
            path = f"{listeners[number % len(listeners)].path}/messages?wait={_WAIT_SECONDS}"
            connection = open_until_measured.enter_context(socket.create_connection(("127.0.0.1", product.port)))
            connection.sendall(product.request("GET", path))
        time.sleep(_SETTLING_SECONDS)
        return _share(product, min(seconds, _WAIT_SECONDS / 2))


def _pull(product: Product, count: int) -> tuple[float, float]:
    """Messages a second, and microseconds of CPU for each."""
    queue = product.queue()
    listener = _listener(product, queue)
    batch = msgspec.json.decode(body.batch(body.MESSAGE, _BATCH))
    for _ in range(count // _BATCH):
        product.ask("POST", f"{queue.messages}/batch", batch)
    product.rest()
    used, began = product.cpu_seconds(), time.monotonic()
    with ThreadPoolExecutor(_CONSUMERS) as threads:
        pulled = sum(threads.map(lambda _: _consume(product, listener), range(_CONSUMERS)))
    seconds = time.monotonic() - began
    return pulled / seconds, (product.cpu_seconds() - used) / max(pulled, 1) * 1e6


def _consume(product: Product, listener: Listener) -> int:
    """How many it got until nothing was left."""
    connection = http.client.HTTPConnection("127.0.0.1", product.port, timeout=_WAIT_SECONDS)
    pulled = 0
    try:
        while messages := _answer(connection, product, "GET", f"{listener.path}/messages?max={_AT_ONCE}")["messages"]:
            said = {"acknowledge": [each["receipt"] for each in messages]}
            _answer(connection, product, "POST", f"{listener.path}/acknowledgements", content=said)
            pulled += len(messages)
    finally:
        connection.close()
    return pulled


def _answer(
    connection: http.client.HTTPConnection, product: Product, method: str, path: str, *, content: object = None
) -> dict[str, list[dict[str, str]]]:
    encoded = None if content is None else msgspec.json.encode(content)
    connection.request(method, path, encoded, product.headers)
    found: dict[str, list[dict[str, str]]] = msgspec.json.decode(connection.getresponse().read())
    return found
