"""Response times do not reveal secrets."""

import asyncio
import statistics
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from discue.auth.control_plane_cache import KeyRejected
from tests.support.cast import Cast, assembled, control_of


@pytest.fixture
def cast(runner: asyncio.Runner, tmp_path: Path) -> Iterator[Cast]:
    with assembled(runner, tmp_path) as everybody:
        yield everybody


async def test_response_time_does_not_reveal_whether_a_key_exists(cast: Cast) -> None:
    """Compares medians of alternating samples, so that a slow machine slows down both."""
    cache = control_of(cast.control.store, cast.clock).cache
    await cache.open()
    known, unknown = list[float](), list[float]()
    guesses = count()
    for _ in range(600):
        for times, start in ((known, cast.alice.key[:25]), (unknown, "dsk_" + "0" * 21)):
            key = f"{start}{next(guesses):032}"
            began = time.perf_counter()
            with pytest.raises(KeyRejected):
                await cache.authenticate(key)
            times.append(time.perf_counter() - began)
    fast, slow = sorted((statistics.median(known), statistics.median(unknown)))
    assert slow < fast * 1.5
