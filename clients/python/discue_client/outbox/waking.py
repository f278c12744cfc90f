"""Waking the relays of this process after a commit."""

from __future__ import annotations

import threading
from typing import Protocol


class Wakeable(Protocol):
    """A relay."""

    def wake(self) -> None: ...


_relays: set[Wakeable] = set()
# Relays start on their own thread while others commit.
_lock = threading.Lock()


def add(relay: Wakeable) -> None:
    """Have `wake` wake the relay from now on."""
    with _lock:
        _relays.add(relay)


def remove(relay: Wakeable) -> None:
    with _lock:
        _relays.discard(relay)


def wake() -> None:
    """Have the relays of this process look for messages now. May be called from any thread."""
    with _lock:
        running = tuple(_relays)
    for relay in running:
        relay.wake()
