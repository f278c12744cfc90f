"""A server for tests in another process: `discue dev --ephemeral`."""

import asyncio
import json
from typing import Any, Final, Self

from discue.testing.ephemeral import PREFIX
from discue.testing.loop_thread import LoopThread
from discue.testing.server import SETTLE_SECONDS, Held, StillWorking
from discue_client import AsyncDiscue, Conflict

_LONGEST_SECONDS: Final = 600.0
_STEP_SECONDS: Final = 0.25
"""How long the server waits until it is told which attempts are held by now."""


class RemoteServer:
    """Waits for a server and moves its clock by requests. Listeners are served by this process."""

    http_client: Final = None

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.key = key
        self.thread = LoopThread("discue-receivers", asyncio.new_event_loop)
        # Each request is sent once: `settle` would wait twice.
        self._client = AsyncDiscue(url, key, attempts=1)

    def close(self) -> None:
        """Close the connections. The server goes on."""
        self.thread.run(self._client.aclose())
        self.thread.stop()

    @property
    def timeline(self) -> Self:
        return self

    def require_running(self) -> None:
        """Do nothing: the first request says whether the server runs."""

    async def settle(self, seconds: float, but: Held, *, pulls: bool) -> None:
        await self._ask("settle", seconds=seconds, held=list(but()), pulls=pulls)

    async def advance_by(self, milliseconds: int, but: Held) -> None:
        # Counted from the end of what is in flight, as `Timeline.advance_by` does.
        now = await self.now()
        await self.advance_to(now, but)
        await self.advance_to(await self.now() + milliseconds, but)

    async def advance_to(self, instant: int, but: Held) -> None:
        await self._advance(but, to=instant)

    async def advance_to_next(self, but: Held) -> None:
        await self._advance(but)

    async def freeze(self, *, stands_still: bool) -> None:
        await self._ask("freeze", stands_still=stands_still)

    async def set_available(self, *, is_available: bool) -> None:
        await self._ask("availability", is_available=is_available)

    async def now(self) -> int:
        return int((await self._ask("clock"))["now"])

    async def _advance(self, but: Held, **target: int) -> None:
        """Move the clock, and go on after a step that had to wait for an attempt that a listener holds."""
        loop = asyncio.get_running_loop()
        known, ends_at = but(), loop.time() + SETTLE_SECONDS
        while True:
            try:
                await self._ask("advance", **target, held=list(known), seconds=_STEP_SECONDS)
                return
            except StillWorking:
                if known == (known := but()):
                    if loop.time() >= ends_at:
                        raise
                else:
                    ends_at = loop.time() + SETTLE_SECONDS

    async def _ask(self, action: str, **body: Any) -> Any:
        try:
            content = await self._client.request("POST", PREFIX + action, body=body, extra_time=_LONGEST_SECONDS)
        except Conflict as error:
            raise StillWorking from error
        return json.loads(content)
