"""The drawing of a topic: a curve from the topic to each of its channels. Pure geometry, in a square of 100."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from discue.domain.model import Channel

SIDE: Final = 100.0

Taken = Literal["", "yes", "no"]
"""Whether a channel takes the message that is tried; empty if none is."""


@dataclass(frozen=True, slots=True)
class DrawnChannel:
    """A channel, its queue, and the curve that leads to it."""

    channel: Channel
    queue: str
    """The alias of the queue."""
    curve: str
    """The path of the curve."""
    taken: Taken = ""


def draw(channels: Sequence[Channel], queues: dict[str, str], taken: dict[str, bool] | None) -> list[DrawnChannel]:
    """Draw the channels, from top to bottom. `taken` says by queue whether the message that is tried goes there."""
    step = SIDE / max(1, len(channels))
    return [
        DrawnChannel(
            each,
            queues.get(each.queue_public_id, each.queue_public_id),
            _curve(round((index + 0.5) * step, 2)),
            "" if taken is None else "yes" if taken.get(each.queue_public_id) else "no",
        )
        for index, each in enumerate(channels)
    ]


def _curve(y: float) -> str:
    middle = SIDE / 2
    return f"M0 {middle:g}C{middle:g} {middle:g} {middle:g} {y:g} {SIDE:g} {y:g}"
