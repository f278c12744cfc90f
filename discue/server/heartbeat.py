"""The heartbeat: a request every minute while this worker can write, to a monitor that alerts when none comes."""

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from discue.domain.egress import EgressPolicy, Target
from discue.observability.logs import Log
from discue.sending.fetch import Fetcher

SECONDS: Final = 60.0


class Heartbeat:
    """Sends a GET to the monitor. A process cannot report its own death: the monitor misses its requests."""

    def __init__(
        self, target: Target, *, policy: EgressPolicy, is_well: Callable[[], bool], connect_seconds: float, log: Log
    ) -> None:
        # The operator has chosen the address, so it may be private.
        self._fetcher = Fetcher(policy=replace(policy, allow_private=True), connect_seconds=connect_seconds)
        self._target = target
        self._is_well = is_well
        self._log = log
        self._fails = False

    async def beat(self) -> None:
        """Send one request, if the worker is well. A failure is logged when it is new."""
        if not self._is_well():
            return
        result = await self._fetcher.get(self._target, timeout_seconds=10.0)
        fails = not 0 < result.status < 300
        if fails and not self._fails:
            # Without the URL: everybody who knows it can keep the monitor quiet.
            self._log.warning("heartbeat_failed", status=result.status, error=result.error or "none")
        elif self._fails and not fails:
            self._log.info("heartbeat_recovered")
        self._fails = fails
