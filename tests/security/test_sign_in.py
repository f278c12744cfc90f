"""A flood of sign-ins from ever new addresses: few hashes run at once, and API clients notice nothing."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from threading import Event

import httpx
import pytest

from tests.security.neighbour import assert_unharmed, publishing, quiet, tenant
from tests.support.served_process import ServedProcess, served_process

_ATTACKERS = 50
_GROWTH_BYTES = 250_000_000
"""Two hashes take 64 MiB each, and the allocator keeps as much."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServedProcess]:
    with served_process(f"sqlite:///{tmp_path}/discue.db", trusted_proxies="127.0.0.1/32") as running:
        yield running


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4_096


def test_flood_of_sign_ins_does_not_delay_publishes_or_fill_the_memory(server: ServedProcess) -> None:
    neighbour, ended, numbers = tenant(server, "com.example.neighbour"), Event(), count()
    before, resident = quiet(neighbour), _resident_bytes(server.pid)

    def attack() -> Counter[int]:
        statuses: Counter[int] = Counter()
        with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
            while not ended.is_set():
                number = next(numbers)
                headers = {
                    "sec-fetch-site": "same-origin",
                    "x-forwarded-for": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
                }
                form = {"email": f"u{number}@example.com", "password": "x" * 1_000}
                statuses[client.post("/dashboard/sign-in", data=form, headers=headers).status_code] += 1
        return statuses

    with ThreadPoolExecutor(_ATTACKERS) as threads:
        attacks = [threads.submit(attack) for _ in range(_ATTACKERS)]
        with publishing(neighbour) as during:
            during.wait()
        growth = _resident_bytes(server.pid) - resident
        ended.set()
        statuses = sum((each.result() for each in attacks), Counter())
    assert_unharmed(before, during)
    assert statuses.keys() == {401, 503}
    assert growth < _GROWTH_BYTES, growth
    print(statuses, growth)
