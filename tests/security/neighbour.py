"""Another client of an attacked service: it publishes, and must notice nothing.

Another service, which nobody attacks, shows what the machine costs at that time: it may run other tests as well.
"""

import atexit
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, NamedTuple

import httpx

from tests.support.memory import folder_in_memory
from tests.support.served_process import KEY, ServedProcess, served_process

SLOWER = 5
"""How many times slower publishes may be during an attack, at the 99th percentile."""

# Below this, the noise of a machine decides, not the service.
_NOISE_SECONDS = 0.25
_PATIENCE_SECONDS = 30.0
_PUBLISH_SECONDS = 10.0
_PUBLISHES = 100
_FEWEST = 10
_COMPARED_SECONDS = 10.0


class Tenant(NamedTuple):
    """An organization of its own."""

    url: str
    key: str
    queue: str

    @property
    def messages(self) -> str:
        return f"/queues/{self.queue}/messages"

    def client(self, *, timeout: float = _PATIENCE_SECONDS, **options: Any) -> httpx.Client:
        headers = {"x-api-key": self.key}
        return httpx.Client(base_url=self.url, headers=headers, timeout=timeout, trust_env=False, **options)


def tenant(server: ServedProcess, alias: str, operator_key: str = KEY) -> Tenant:
    """Create an organization with a queue."""
    with httpx.Client(base_url=server.url, headers={"x-api-key": operator_key}, trust_env=False) as operator:
        made = operator.post("/organizations", json={"alias": alias}).raise_for_status().json()
    key = made["api_key"]["key"]
    with Tenant(server.url, key, "").client() as owner:
        queue = owner.post("/queues", json={"alias": "orders"}).raise_for_status().json()["queue"]["id"]
    return Tenant(server.url, key, queue)


@cache
def _undisturbed() -> Tenant:
    """Return a tenant of a service of its own, which ends with this process."""
    stack = ExitStack()
    folder = stack.enter_context(tempfile.TemporaryDirectory(dir=folder_in_memory()))
    server = stack.enter_context(served_process(f"sqlite:///{folder}/discue.db"))
    # Now: the process that forked the server must end after it.
    atexit.register(stack.close)
    return tenant(server, "com.example.undisturbed")


class Publishes:
    """Publishes one after another, each followed by one to the service that nobody attacks."""

    def __init__(self, who: Tenant, undisturbed: Tenant) -> None:
        self._who = who
        self._undisturbed = undisturbed
        self.refused: list[tuple[int, str]] = []
        self.seconds: list[float] = []
        self.undisturbed_seconds: list[float] = []
        self._changed = threading.Condition()

    @contextmanager
    def clients(self) -> Iterator[tuple[httpx.Client, httpx.Client]]:
        with self._who.client(timeout=_PUBLISH_SECONDS) as client, self._undisturbed.client() as undisturbed:
            yield client, undisturbed

    def run(self, client: httpx.Client, undisturbed: httpx.Client) -> None:
        message = {"data": {"order": len(self.seconds)}}
        began_at = time.perf_counter()
        refusal = None
        try:
            answer = client.post(self._who.messages, json=message)
            if answer.status_code != httpx.codes.OK:
                refusal = (answer.status_code, answer.text)
        except httpx.TransportError as error:
            refusal = (0, repr(error))
        ended_at = time.perf_counter()
        undisturbed.post(self._undisturbed.messages, json=message).raise_for_status()
        with self._changed:
            self.seconds.append(ended_at - began_at)
            self.undisturbed_seconds.append(time.perf_counter() - ended_at)
            if refusal is not None:
                self.refused.append(refusal)
            self._changed.notify_all()

    def wait(self, count: int = _PUBLISHES, seconds: float = _COMPARED_SECONDS) -> None:
        """Return when there are enough of them for a comparison; earlier if they are much too slow."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.seconds) >= count, seconds)


def p50(seconds: list[float]) -> float:
    return sorted(seconds)[len(seconds) // 2]


def p99(seconds: list[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.99)]


def quiet(who: Tenant, count: int = _PUBLISHES) -> Publishes:
    """Publish to an idle service."""
    publishes = Publishes(who, _undisturbed())
    with publishes.clients() as clients:
        for _ in range(count):
            publishes.run(*clients)
    return publishes


@contextmanager
def publishing(who: Tenant) -> Iterator[Publishes]:
    """Publish while the block runs."""
    publishes, ended = Publishes(who, _undisturbed()), threading.Event()

    def publish() -> None:
        with publishes.clients() as clients:
            while not ended.is_set():
                publishes.run(*clients)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield publishes
    finally:
        ended.set()
        thread.join()


def assert_unharmed(before: Publishes, during: Publishes) -> None:
    """Nothing was refused, and publishes were about as fast as before."""
    assert len(during.seconds) >= _FEWEST, f"only {len(during.seconds)} publishes in {_COMPARED_SECONDS} s"
    assert_at_most(SLOWER, p99, before, during, noise_seconds=_NOISE_SECONDS)


def assert_at_most(
    slower: int, typical: Callable[[list[float]], float], before: Publishes, during: Publishes, *, noise_seconds: float
) -> None:
    """Nothing was refused, and publishes were at most that many times slower. `pytest -rP` shows how fast.

    They are compared with those before, and with those to the service that nobody attacked meanwhile.
    """
    assert not during.refused, (len(during.refused), during.refused[0])
    found = {
        "before": typical(before.seconds),
        "undisturbed": typical(during.undisturbed_seconds),
        "during": typical(during.seconds),
    }
    print({name: round(seconds, 4) for name, seconds in found.items()})
    assert found["during"] <= max(found["before"] * slower, found["undisturbed"] * slower, noise_seconds), found


class Limits(NamedTuple):
    """The limit of a duration during an attack: a multiple of the duration without the attack, plus some seconds."""

    times: float
    more_seconds: float

    def of(self, quiet_seconds: float) -> float:
        return self.times * quiet_seconds + self.more_seconds


P50_LIMIT = Limits(3, 0.005)
P99_LIMIT = Limits(5, 0.050)


def beyond_limits(before: Publishes, during: Publishes) -> list[str]:
    """Return the durations beyond their limits.

    They are compared with those of publishes before the attack, and to the undisturbed service.
    """
    found = []
    for name, typical, limit in (("p50", p50, P50_LIMIT), ("p99", p99, P99_LIMIT)):
        quiet_seconds, meanwhile = typical(before.seconds), typical(during.undisturbed_seconds)
        seconds = typical(during.seconds)
        print(f"{name}: quiet {quiet_seconds:.4f} s, undisturbed {meanwhile:.4f} s, attacked {seconds:.4f} s")
        if seconds > limit.of(max(quiet_seconds, meanwhile)):
            found.append(f"{name} {seconds:.4f} s instead of {quiet_seconds:.4f} s")
    if during.refused:
        found.append(f"{len(during.refused)} refused: {during.refused[0]}")
    if len(during.seconds) < _FEWEST:
        found.append(f"only {len(during.seconds)} publishes")
    return found
