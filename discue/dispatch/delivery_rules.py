"""Rules for what is sent, skipped and dropped, shared by push and pull. Pure functions."""

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from discue.domain.messages import Entry
from discue.store.engine import LogPage


class Gap(msgspec.Struct, frozen=True, gc=False):
    """Consecutive `seq`, ends included, that have no message for the cursor's listener."""

    first: int
    last: int


class Skip(msgspec.Struct, frozen=True, gc=False):
    """The message is not for the listener, or was deleted. It is settled and not counted."""


class Drop(msgspec.Struct, frozen=True, gc=False):
    """The message is missed without another attempt."""

    reason: str


SKIP: Final = Skip()


def steps_of_page(page: LogPage, after: int, start_seq: int, through: int) -> Iterator[Gap | Entry]:
    """Divide a page of the log into its messages and the gaps between them, in order, from `after + 1` to `through`.

    A `seq` without a message was deleted: this holds because the page and the head were read at once. A message that
    is not due yet is stored again under a new `seq` when it is due. A message that was published before the listener
    was created (`start_seq`) and became due later is not for the listener.

    A gap is yielded before the message that follows it, so a caller that stops at a message has seen all before it.
    """
    expected = after + 1
    for entry in page.entries:
        if entry.seq > through:
            break
        if entry.is_delayed or 0 < entry.origin_seq <= start_seq:
            continue
        if entry.seq > expected:
            yield Gap(expected, entry.seq - 1)
        expected = entry.seq + 1
        yield entry
    if through >= expected:
        yield Gap(expected, through)


def drop_reason(entry: Entry, waits_since: int, now: int, deadline_ms: int) -> str:
    """Return why a message is not sent any more, or "" if it may be. It waits since `waits_since`."""
    if 0 < entry.expires_at <= now:
        return "expired"
    return "too_old" if waits_since < now - deadline_ms else ""


def decide_new(entry: Entry, accepts: Callable[[Entry], bool], reason: str) -> Skip | Drop | None:
    """Decide on a new message whose key is free; None: send it. `reason` comes from `drop_reason`.

    The filter comes first: a message that it rejects is never missed.
    """
    if not accepts(entry):
        return SKIP
    return Drop(reason) if reason else None


def decide_due(
    entry: Entry | None, accepts: Callable[[Entry], bool], reason: str, *, is_first: bool
) -> Skip | Drop | None:
    """Decide on a delivery with a row that is due; None: send it. `entry` is None if the message was deleted.

    Only a first attempt asks the filter: the message waited behind its key and was never looked at. After an attempt
    the message belongs to the listener, even if the filter has changed.
    """
    if entry is None or (is_first and not accepts(entry)):
        return SKIP
    return Drop(reason) if reason else None
