"""How long does a message wait when a worker dies, leaves or comes, and is one delivered twice?"""

import signal
import time
from collections.abc import Callable
from typing import Any

from benchmarks.bench import Bench
from benchmarks.child import Child
from benchmarks.failure import BenchmarkFailed
from benchmarks.installation import Installation
from benchmarks.table import Row, at_most, seen

WORKERS = 3
LEASE_SECONDS = 10
"""The default of the product."""

_QUEUES = 30
_RATE = 300
_ANSWER_MS = 100
"""How long the listener thinks: there is always something under way."""

_BEFORE_SECONDS = 2.0
_LEAVING_SECONDS = 6.0
_JOINING_SECONDS = 12.0
_KILLED_SECONDS = _BEFORE_SECONDS + LEASE_SECONDS + 4.0
_LONGEST_GAP_SECONDS = LEASE_SECONDS + 2.0
_LONGEST_DELAY_SECONDS = 1.0


class _Disturbed:
    """Messages go to every queue by way of the workers that stay, while something happens to another one."""

    def __init__(self, installation: Installation, ends: Child) -> None:
        self._installation = installation
        self._ends = ends
        self.took_seconds = 0.0

    def run(self, seconds: float, happening: Callable[[], object]) -> dict[str, Any]:
        installation = self._installation
        wish = installation.wish(installation.workers[:-1], installation.queues, _RATE, seconds)
        self._ends.tell({**wish, "answer_ms": _ANSWER_MS, "warm_seconds": _BEFORE_SECONDS / 2})
        time.sleep(_BEFORE_SECONDS)
        began = time.monotonic()
        happening()
        self.took_seconds = time.monotonic() - began
        found = self._ends.hear()
        if found["received"] < found["published"] or found["refused"]:
            raise BenchmarkFailed(f"Messages were lost: {found}")
        installation.wait_settled()
        return found


def measure(bench: Bench) -> list[Row]:
    with Installation(bench, "takeover", WORKERS) as installation, bench.open_loop() as ends:
        installation.spread(_QUEUES, 1, f"http://127.0.0.1:{ends.hear()['port']}/")
        disturbed = _Disturbed(installation, ends)
        return [
            *_leaving(installation, disturbed),
            *_joining(installation, disturbed),
            *_killed(installation, disturbed),
        ]


def _leaving(installation: Installation, disturbed: _Disturbed) -> list[Row]:
    leaving = installation.workers[-1]
    found = disturbed.run(_LEAVING_SECONDS, lambda: leaving.child.signal(signal.SIGTERM))
    installation.remove(leaving)
    return [
        seen("a worker leaves, its drain", f"{disturbed.took_seconds:.2f} s"),
        *_undisturbed("a worker leaves", found),
    ]


def _joining(installation: Installation, disturbed: _Disturbed) -> list[Row]:
    found = disturbed.run(_JOINING_SECONDS, installation.add)
    installation.wait_spread(installation.workers)
    return _undisturbed("a worker comes", found)


def _killed(installation: Installation, disturbed: _Disturbed) -> list[Row]:
    killed = installation.workers[-1]
    found = disturbed.run(_KILLED_SECONDS, lambda: killed.child.signal(signal.SIGKILL))
    installation.remove(killed)
    return [
        at_most("a worker is killed, longest delay", found["wakes"]["max"] / 1_000, _LONGEST_GAP_SECONDS, " s"),
        seen("a worker is killed, delivered twice", f"{found['repeated']} of {found['published']:,}"),
    ]


def _undisturbed(what: str, found: dict[str, Any]) -> list[Row]:
    extra = (found["wakes"]["max"] - found["wakes"]["p50"]) / 1_000
    return [
        at_most(f"{what}, longest extra delay", extra, _LONGEST_DELAY_SECONDS, " s"),
        at_most(f"{what}, delivered twice of {found['published']:,}", found["repeated"], 0),
    ]
