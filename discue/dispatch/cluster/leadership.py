"""Leadership: one worker does the work that is done once for all workers."""

from collections.abc import Awaitable, Callable


class Leadership:
    """Whether this worker leads. `Ownership` decides; a brief split-brain is harmless, only wasteful."""

    def __init__(self, *, is_held: bool = False) -> None:
        self.is_held = is_held

    def only(self, work: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[None]]:
        """Return work that does nothing unless this worker leads."""

        async def run() -> None:
            if self.is_held:
                await work()

        return run
