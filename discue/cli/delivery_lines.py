"""Lines that `discue dev` prints: one for each request to its inbox, and each attempt to deliver elsewhere."""

import shutil
import sys
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final, NamedTuple

from discue.cli.output import DIM, GREEN, PLAIN, RED, has_colour, printable, say
from discue.control.context import ControlContext
from discue.observability.logs import Log
from discue.observability.supervisor import BackgroundTasks
from discue.store import listeners, queues
from discue.store.engine import Transaction

_WAITING: Final = 10_000
_COLUMNS: Final = 80
_FEWEST_COLUMNS: Final = 40


class ShownDelivery(NamedTuple):
    """A request of a listener, as it is shown."""

    at: int
    """Milliseconds since the epoch."""
    queue_id: str
    listener_id: str
    """"" if no listener of this server sent it."""
    result: str
    is_good: bool
    rest: str
    is_received: bool = False
    """Whether the inbox reports it: it also shows the data."""


def line_of(delivery: ShownDelivery, names: str, *, columns: int = _COLUMNS, is_coloured: bool = False) -> str:
    """Return the line of a delivery, without control characters but colours.

    Data is cut off where it would not fit the terminal. The reason of a failure and the id of its message are not cut:
    the developer needs both to find the cause.
    """
    time = f"{datetime.fromtimestamp(delivery.at / 1_000, UTC).astimezone():%H:%M:%S}"
    result = printable(f"{delivery.result} {'✓' if delivery.is_good else '✗'}")
    start = printable(f"{names}, ")
    room = max(columns, _FEWEST_COLUMNS) - len(time) - 1 - len(start) - len(result) - 2
    rest = printable(delivery.rest[: columns + 1] if delivery.is_received else delivery.rest)
    if delivery.is_received and len(rest) > room:
        rest = rest[: max(room - 1, 0)] + "…"
    if is_coloured:
        time, result = f"{DIM}{time}{PLAIN}", f"{GREEN if delivery.is_good else RED}{result}{PLAIN}"
    return f"{time} {start}{result}  {rest}".rstrip()


class DeliveryLines:
    """Prints deliveries of one organization with the names of their queue and listener, in order."""

    def __init__(self, control: ControlContext, organization: int, inbox_url: str, log: Log) -> None:
        self._control = control
        self._organization = organization
        self._inbox_url = inbox_url
        self._is_coloured = has_colour(sys.stdout)
        self._tasks = BackgroundTasks(log, "delivery_not_shown")
        self._is_busy = False
        self._waiting: deque[ShownDelivery] = deque(maxlen=_WAITING)

    def add(self, delivery: ShownDelivery) -> None:
        """Print a delivery as soon as its names are known."""
        self._waiting.append(delivery)
        if not self._is_busy:
            self._is_busy = True
            self._tasks.spawn(self._show())

    async def _show(self) -> None:
        try:
            while self._waiting:
                delivery = self._waiting.popleft()
                names = await self._control.store.read(partial(self._names, delivery=delivery))
                if names is not None:
                    columns = shutil.get_terminal_size((_COLUMNS, 0)).columns if self._is_coloured else _COLUMNS
                    say(line_of(delivery, names, columns=columns, is_coloured=self._is_coloured))
        finally:
            self._is_busy = False

    async def _names(self, tx: Transaction, delivery: ShownDelivery) -> str | None:
        """Return the names of queue and listener; None for what the inbox reports already."""
        listener = await listeners.get(tx, self._organization, delivery.listener_id)
        queue = await queues.get(tx, self._organization, delivery.queue_id)
        if listener is not None and listener.notify_url == self._inbox_url and delivery.is_good:
            if not delivery.is_received:
                return None
        elif listener is None and delivery.is_received:
            return "POST /inbox"
        shown = delivery.queue_id if queue is None else queue.alias
        return f"{shown} → {delivery.listener_id if listener is None else listener.alias}"


class DevelopmentLog(Log):
    """A log that prints attempts instead of writing them."""

    def __init__(self, show: Callable[[ShownDelivery], None], now: Callable[[], int]) -> None:
        super().__init__()
        self._show = show
        self._now = now

    @property
    def is_debug(self) -> bool:
        return True

    def debug(self, event: str, /, **fields: object) -> None:
        if event == "attempt":
            self._show_attempt(fields, f"{fields['status']} in {fields['took_ms']} ms", is_good=True)

    def warning(self, event: str, /, **fields: object) -> None:
        if event != "attempt":
            super().warning(event, **fields)
        else:
            self._show_attempt(fields, f"attempt {fields['number']} failed", is_good=False)

    def _show_attempt(self, fields: dict[str, object], result: str, *, is_good: bool) -> None:
        rest = f"{fields.get('detail', '')} {fields['message']}".strip()
        self._show(ShownDelivery(self._now(), str(fields["queue"]), str(fields["listener"]), result, is_good, rest))
