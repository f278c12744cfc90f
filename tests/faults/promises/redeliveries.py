"""What was missed and made due again arrives."""

from collections.abc import Iterator

from tests.faults.history import History


def nothing_missed(history: History) -> Iterator[str]:
    """Of whom everything was redelivered, until there was nothing any more. That it has come, others say."""
    for name in history.redelivered:
        counts = history.counts.get(name)
        if counts is not None and counts.missed:
            yield f"{name} has missed {counts.missed} messages, which were all redelivered"
