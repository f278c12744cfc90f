"""Consumers that pull: they acknowledge most of what they get, and let leases run out, reject, release and extend."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from tests.faults.client import Client, Lost, expect_busy
from tests.faults.history import HandedOut, Pulling
from tests.faults.recorder import Recorder

LEASE_SECONDS = 3
CONSUMERS = 2
"""Consumers of each listener."""
_AT_ONCE = 5
_AT_THE_END = 50
_WAIT_SECONDS = 1
_APART_SECONDS = 0.05
_RETRY = {"schedule": [1], "attempts": 100}
"""Nothing is to be missed for its failures."""
_FATES = ("acknowledge",) * 16 + ("reject", "release", "extend", "")
"""The decision about a message. With the empty one the consumer stays silent, and the lease expires."""


class Consumers:
    """The consumers of one listener. The history records what they did and saw."""

    def __init__(self, recorder: Recorder, queue: str, choices: random.Random) -> None:
        self._recorder = recorder
        self._random = choices
        self._is_ending = False
        self._path = ""
        self.pulling = Pulling(queue, recorder.tick())
        recorder.history.pulling.append(self.pulling)

    async def register(self, client: Client) -> None:
        fields: dict[str, object] = {"mode": "pull", "lease_seconds": LEASE_SECONDS, "retry": _RETRY}
        made = await client.create(f"/queues/{self.pulling.queue}/listeners", fields)
        self._path = f"/queues/{self.pulling.queue}/listeners/{made['id']}"
        self.pulling.id, self.pulling.answered = made["id"], self._recorder.tick()

    async def consume(self, client: Client, is_gentle: Callable[[], bool]) -> None:
        """Receive messages and decide about each: acknowledge all if `is_gentle`. Raises Lost.

        `is_gentle` is called when the messages have arrived, because the request may have waited for them.
        """
        handed = await self._pull(client)
        if not handed:
            return
        said: dict[str, list[str]] = {}
        for each in handed:
            each.said = "acknowledge" if is_gentle() else self._random.choice(_FATES)
            if each.said:
                said.setdefault(each.said, []).append(each.receipt)
        if not self._is_ending and self._random.random() < 0.5:
            await asyncio.sleep(self._random.uniform(0, 0.2))
        await self._say(client, handed, said)

    async def _pull(self, client: Client) -> list[HandedOut]:
        sent, sent_at = self._recorder.tick(), time.monotonic()
        query = f"max={_AT_THE_END}" if self._is_ending else f"max={_AT_ONCE}&wait={_WAIT_SECONDS}"
        answer = await client.ask("GET", f"{self._path}/messages?{query}")
        if answer.status != 200:
            expect_busy(answer)
        came_at, history = time.monotonic(), self._recorder.history
        handed = [
            HandedOut(
                listener=self.pulling.id,
                message=shown["id"],
                body=shown["data"],
                receipt=shown["receipt"],
                sent=sent,
                sent_at=sent_at,
                came_at=came_at,
                leased_until=shown["leased_until"] / 1_000 - history.epoch,
            )
            for shown in answer.body["messages"]
        ]
        history.handed_out += handed
        return handed

    async def _say(self, client: Client, handed: Sequence[HandedOut], said: dict[str, list[str]]) -> None:
        """Send the decisions until a response arrives: only then is their effect known."""
        if not said:
            return
        said_at = time.monotonic()
        for each in handed:
            if each.said:
                each.said_at = said_at
        while True:
            with suppress(Lost):
                answer = await client.ask("POST", f"{self._path}/acknowledgements", said)
                if answer.status == 200:
                    break
                expect_busy(answer)
            await asyncio.sleep(_APART_SECONDS)
        states = {each["receipt"]: each["state"] for each in answer.body["receipts"]}
        answered_at = time.monotonic()
        for each in handed:
            if each.said:
                each.state, each.answered_at = states[each.receipt], answered_at

    async def finish(self, client: Client, within_seconds: float) -> None:
        """Receive and acknowledge until no message waits. The checker names those that still do."""
        self._is_ending = True
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                while await self._has_waiting(client):
                    with suppress(Lost):
                        await self.consume(client, lambda: True)

    async def _has_waiting(self, client: Client) -> bool:
        with suppress(Lost):
            answer = await client.ask("GET", self._path)
            if answer.status == 200:
                return bool(answer.body["listener"]["messages"]["pending_count"])
        await asyncio.sleep(_APART_SECONDS)
        return True
