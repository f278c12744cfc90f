"""Waking the relays of this process after a commit."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import MutableSet


class Wakeable(Protocol):
    """A relay."""

    def wake(self) -> None: ...


RELAYS: MutableSet[Wakeable] = weakref.WeakSet()
"""The relays that run in this process."""


def wake() -> None:
    """Have the relays of this process look for messages now. May be called from any thread."""
    for relay in tuple(RELAYS):
        relay.wake()
