"""A recorder that also writes the trace, so that a timeline shows what users and listeners did and saw."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.faults.history import DeliveryOptions, Fault, History, Published, Registered
from tests.faults.receiver import HANG_UP, Delivered
from tests.faults.recorder import Recorder
from tests.simulation.guard import EPOCH_SECONDS
from tests.simulation.trace import Trace


def _times(options: DeliveryOptions) -> Sequence[tuple[str, float]]:
    return (("expires_at", options.expires_at), ("due_at", options.due_at))


class TracingRecorder(Recorder):
    """Writes publishes, deliveries and faults into the trace."""

    def __init__(self, history: History, most_owed: int, trace: Trace) -> None:
        super().__init__(history, most_owed)
        self._trace = trace

    def sending(
        self, queue: str, bodies: Sequence[str], options: Sequence[DeliveryOptions] = (), routes: Sequence[str] = ()
    ) -> Published:
        published = super().sending(queue, bodies, options, routes)
        self._trace.add("user", "publishes", f"queue={queue} messages={len(bodies)} tick={published.sent}")
        return published

    def stored(self, published: Published, ids: Sequence[str]) -> None:
        super().stored(published, ids)
        detail = f"queue={published.queue} tick={published.answered} ids={','.join(ids)}"
        times = {f"{name}={at - EPOCH_SECONDS:.3f}" for each in published.options for name, at in _times(each) if at}
        self._trace.add("user", "got 200", " ".join([detail, *sorted(times)]))

    def created(self, listener: Registered, public_id: str, secret: str) -> None:
        super().created(listener, public_id, secret)
        self._trace.add("user", "made listener", f"id={public_id} queue={listener.queue}")

    def received(self, delivered: Delivered, status: int, worker: int = 0) -> None:
        super().received(delivered, status, worker)
        receipt = self.history.receipts[-1]
        answer = "hangs up" if status == HANG_UP else f"responds {status}"
        replay = f" replay={receipt.replay}" if receipt.replay else ""
        detail = f"message={receipt.message} attempt={receipt.number} worker={worker}{replay}: {answer}"
        self._trace.add("listener", receipt.name, detail)

    @contextmanager
    def fault(self, kind: str, workers: Sequence[int] = (0,)) -> Iterator[Fault]:
        self._trace.add("nemesis", "begins", kind)
        with super().fault(kind, workers) as fault:
            yield fault
        self._trace.add("nemesis", "ends", kind)
