"""How much memory the request bodies of an organization take at once."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from discue.domain.errors import Overloaded
from discue.http.body import ANONYMOUS_SHARES, SHARES, BodyReader

SHARE = 100_000
BODY = 90_000
HEADERS: Any = {"content-length": str(BODY)}
SOURCE_BODY = 20_000
SOURCE_HEADERS: Any = {"content-length": str(SOURCE_BODY)}


class Sent:
    """A body that a test sends part by part; an empty part ends it."""

    def __init__(self, *parts: bytes) -> None:
        self.parts: asyncio.Queue[bytes] = asyncio.Queue()
        for part in parts:
            self.parts.put_nowait(part)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while part := await self.parts.get():
            yield part


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_refused_body_that_ends_later_does_not_give_its_organization_a_second_share() -> None:
    is_healthy = True
    reader = BodyReader(deadline_seconds=20, max_bytes=SHARE * SHARES, is_store_healthy=lambda: is_healthy)

    async def handle(sent: Sent, done: asyncio.Event) -> None:
        try:
            await reader.read(cast("Any", sent), HEADERS, BODY, organization=1)
            await done.wait()
        finally:
            reader.release()

    first_done, third_done, at_once = asyncio.Event(), asyncio.Event(), asyncio.Event()
    at_once.set()
    first = asyncio.create_task(handle(Sent(bytes(BODY), b""), first_done))
    await turns()
    is_healthy = False
    refused = Sent(b"x")
    second = asyncio.create_task(handle(refused, at_once))
    await turns()
    is_healthy = True
    first_done.set()
    await first
    third = asyncio.create_task(handle(Sent(bytes(BODY), b""), third_done))
    await turns()
    refused.parts.put_nowait(b"")
    with pytest.raises(Overloaded):
        await second
    fourth = asyncio.create_task(handle(Sent(bytes(BODY), b""), at_once))
    await turns()
    assert not fourth.done()
    third_done.set()
    async with asyncio.timeout(20):
        await asyncio.gather(third, fourth)


async def test_slow_bodies_of_a_stranger_do_not_hold_up_those_of_a_provider() -> None:
    reader = BodyReader(deadline_seconds=20, max_bytes=SHARE * ANONYMOUS_SHARES)

    async def handle(sent: Sent, address: str) -> int:
        try:
            body = await reader.read(cast("Any", sent), SOURCE_HEADERS, SHARE, organization=1, stranger=address)
            return len(body)
        finally:
            reader.release()

    slow = [Sent(b"x") for _ in range(20)]
    strangers = [asyncio.create_task(handle(each, "198.51.100.7")) for each in slow]
    await turns()
    async with asyncio.timeout(20):
        assert await handle(Sent(bytes(SOURCE_BODY), b""), "203.0.113.5") == SOURCE_BODY
    for each in slow:
        each.parts.put_nowait(b"")
    assert await asyncio.gather(*strangers) == [1] * len(slow)
    # All shares were returned.
    assert await handle(Sent(bytes(SOURCE_BODY), b""), "198.51.100.7") == SOURCE_BODY
