"""Another client of an attacked service: it publishes, and must notice nothing."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx

from tests.support.served_process import KEY, ServedProcess

SLOWER = 5
"""How many times slower publishes may be during an attack, at the 99th percentile."""

# Below this, the noise of a machine that runs other tests decides, not the service.
_NOISE_SECONDS = 0.25
_PATIENCE_SECONDS = 30.0
_PUBLISHES = 100
_FEWEST = 40
_COMPARED_SECONDS = 10.0


class Tenant(NamedTuple):
    """An organization of its own."""

    url: str
    key: str
    queue: str

    @property
    def messages(self) -> str:
        return f"/queues/{self.queue}/messages"

    def client(self, **options: Any) -> httpx.Client:
        headers = {"x-api-key": self.key}
        return httpx.Client(base_url=self.url, headers=headers, timeout=_PATIENCE_SECONDS, trust_env=False, **options)


def tenant(server: ServedProcess, alias: str) -> Tenant:
    """Create an organization with a queue."""
    with httpx.Client(base_url=server.url, headers={"x-api-key": KEY}, trust_env=False) as operator:
        made = operator.post("/organizations", json={"alias": alias}).raise_for_status().json()
    key = made["api_key"]["key"]
    with Tenant(server.url, key, "").client() as owner:
        queue = owner.post("/queues", json={"alias": "orders"}).raise_for_status().json()["queue"]["id"]
    return Tenant(server.url, key, queue)


class Publishes:
    """Publishes one after another."""

    def __init__(self, who: Tenant) -> None:
        self._who = who
        self.refused: list[tuple[int, str]] = []
        self.seconds: list[float] = []
        self._changed = threading.Condition()

    def run(self, client: httpx.Client) -> None:
        began_at = time.perf_counter()
        answer = client.post(self._who.messages, json={"data": {"order": len(self.seconds)}})
        with self._changed:
            self.seconds.append(time.perf_counter() - began_at)
            if answer.status_code != httpx.codes.OK:
                self.refused.append((answer.status_code, answer.text))
            self._changed.notify_all()

    def wait(self) -> None:
        """Return when there are enough of them for a comparison; earlier if they are much too slow."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.seconds) >= _PUBLISHES, _COMPARED_SECONDS)

    @property
    def p99(self) -> float:
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)]


def quiet(who: Tenant) -> Publishes:
    """Publish to an idle service."""
    publishes = Publishes(who)
    with who.client() as client:
        for _ in range(_PUBLISHES):
            publishes.run(client)
    return publishes


@contextmanager
def publishing(who: Tenant) -> Iterator[Publishes]:
    """Publish while the block runs."""
    publishes, ended = Publishes(who), threading.Event()

    def publish() -> None:
        with who.client() as client:
            while not ended.is_set():
                publishes.run(client)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield publishes
    finally:
        ended.set()
        thread.join()


def assert_unharmed(before: Publishes, during: Publishes) -> None:
    """Nothing was refused, and publishes were about as fast as before. `pytest -rP` shows how fast."""
    print(f"the 99th percentile of another client's publishes went from {before.p99:.4f} to {during.p99:.4f} s")
    assert not during.refused, (len(during.refused), during.refused[0])
    assert len(during.seconds) >= _FEWEST, f"only {len(during.seconds)} publishes in {_COMPARED_SECONDS} s"
    assert during.p99 <= max(before.p99 * SLOWER, _NOISE_SECONDS), (before.p99, during.p99)
