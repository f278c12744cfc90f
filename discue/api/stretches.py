"""Fields of requests about a stretch of messages and how fast it is worked off."""

from msgspec import UNSET, UnsetType

from discue.domain.errors import Fault, Unprocessable

LATEST = 999_999_999_999_999
LARGEST_PACE = 10_000


def time_of(sent: int | None | UnsetType, pointer: str) -> int | None:
    """A time in milliseconds. Raises Unprocessable for one out of range."""
    return _within(sent, (0, LATEST), pointer)


def pace_of(sent: int | None | UnsetType) -> int | None:
    """Messages a second. Raises Unprocessable for a number out of range."""
    return _within(sent, (1, LARGEST_PACE), "/pace")


def _within(sent: int | None | UnsetType, bounds: tuple[int, int], pointer: str) -> int | None:
    if sent is None or sent is UNSET:
        return None
    lowest, highest = bounds
    if not lowest <= sent <= highest:
        rule = f"must be from {lowest} to {highest}"
        raise Unprocessable(f"{pointer} {rule}.", faults=(Fault(pointer, rule),))
    return sent
