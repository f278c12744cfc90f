"""Redelivery: missed messages that are redelivered arrive."""

from collections.abc import Iterator

from tests.faults.history import History


def nothing_missed(history: History) -> Iterator[str]:
    """Check that no message is missed after all were redelivered. Other promises check that they arrived."""
    for name in history.redelivered:
        counts = history.counts.get(name)
        if counts is not None and counts.missed:
            yield f"{name} has missed {counts.missed} messages, which were all redelivered"
