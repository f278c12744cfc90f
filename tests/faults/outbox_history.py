"""The history of an outbox: orders that applications have committed, and messages that listeners get for them."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Order(NamedTuple):
    """An order of a customer, which is the key of its message. Numbers ascend in the order of the commits."""

    customer: str
    number: int


def broken_promises(committed: Sequence[Order], published: Sequence[Order]) -> list[str]:
    """Return a sentence for each order that is lost, was not committed, is published twice or is out of order.

    `published` are the messages in the order of the queue.
    """
    return [*_lost(committed, published), *_unfounded(committed, published), *_repeated(published), *_late(published)]


def _lost(committed: Sequence[Order], published: Sequence[Order]) -> Iterator[str]:
    for order in sorted(set(committed) - set(published)):
        yield f"{order} was committed and not published"


def _unfounded(committed: Sequence[Order], published: Sequence[Order]) -> Iterator[str]:
    for order in sorted(set(published) - set(committed)):
        yield f"{order} was published and not committed"


def _repeated(published: Sequence[Order]) -> Iterator[str]:
    for order, times in Counter(published).items():
        if times > 1:
            yield f"{order} was published {times} times"


def _late(published: Sequence[Order]) -> Iterator[str]:
    last: dict[str, int] = defaultdict(int)
    for order in published:
        if order.number < last[order.customer]:
            yield f"{order} was published after number {last[order.customer]}"
        last[order.customer] = max(last[order.customer], order.number)
