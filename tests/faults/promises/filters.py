"""A listener that filters gets what its filter lets through, and nothing else."""

from collections.abc import Iterable, Iterator

from tests.faults.history import History


class Wanted:
    """The messages that match filters, among those with a known body."""

    def __init__(self, history: History) -> None:
        self._listeners = history.listeners
        self._bodies = {receipt.message: receipt.body for receipt in history.receipts}
        for published in history.publishes:
            self._bodies.update(zip(published.ids, published.bodies, strict=False))

    def of(self, name: str, ids: Iterable[str]) -> list[str]:
        """Return the ids that match a listener's filter, in the given order."""
        listener = self._listeners[name]
        return [each for each in ids if not listener.sort or listener.wants(self._bodies.get(each, ""))]

    def passed_over(self, name: str, ids: Iterable[str]) -> tuple[int, int]:
        """How many certainly do not come, and of how many it is not known."""
        listener = self._listeners[name]
        if not listener.sort:
            return 0, 0
        bodies = [self._bodies.get(each) for each in ids]
        return sum(body is not None and not listener.wants(body) for body in bodies), bodies.count(None)


def let_through(history: History) -> Iterator[str]:
    for receipt in history.receipts:
        if not history.listeners[receipt.name].wants(receipt.body):
            yield f"{receipt.name} got {receipt.message}, which its filter does not let through"
