"""Rules for what is sent, skipped and dropped, shared by push and pull. Pure functions."""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from discue.domain.filters import Filter, TypeFilter
from discue.domain.messages import Entry, decode_options
from discue.domain.retry import RetryPolicy, effective_policy, with_options
from discue.domain.transforms import TransformFailed, transformed
from discue.store.cursors import LaneRecord
from discue.store.engine import LogPage


class Gap(msgspec.Struct, frozen=True, gc=False):
    """Consecutive `seq`, ends included, that have no message for the cursor's listener."""

    first: int
    last: int


SKIP: Final = "skip"
"""The message is not for the listener, or was deleted. It is settled and not counted."""


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


class DeliveryRules:
    """Decides whether the messages of a listener are sent.

    A decision is "" if the message is sent, `SKIP`, or the reason for which it is missed: `expired`, `too_old` or
    `transform`.
    """

    __slots__ = (
        "_deadline_ms",
        "_filters",
        "_shaped",
        "_transform",
        "_waits_since_at_least",
        "failures",
        "has_filter",
        "has_transform",
    )

    def __init__(
        self,
        filters: Sequence[TypeFilter | Filter],
        deadline_ms: int,
        waits_since_at_least: int = 0,
        transform: str | None = None,
    ) -> None:
        """`waits_since_at_least` is when a replay was created: its messages wait since then, however old they are."""
        self._filters = filters
        self._deadline_ms = deadline_ms
        self._waits_since_at_least = waits_since_at_least
        self._transform = transform
        self._shaped: Entry | None = None
        """The transformed message of the last decision. A message that cannot start yet gets another decision."""
        self.has_filter = bool(filters)
        self.has_transform = transform is not None
        self.failures = 0
        """The number of messages in a row for which the transform has failed."""

    def shaped(self, entry: Entry) -> Entry:
        """Return the message to send, after a decision of ""."""
        shaped, self._shaped = self._shaped, None
        return shaped or entry

    def decide_new(self, entry: Entry, now: int) -> str:
        """Decide on a new message whose key is free."""
        # The filter comes first: a message that it rejects is never missed.
        if self._filters and not self._accepts(entry):
            return SKIP
        reason = self._drop_reason(entry, entry.stored_at, now)
        return self._shape(entry) if self.has_transform and not reason else reason

    def decide_due(self, entry: Entry | None, waits_since: int, now: int, *, is_first: bool) -> str:
        """Decide on a delivery with a row that is due. `entry` is None if the message was deleted.

        Only a first attempt asks the filter: the message waited behind its key and was never looked at. After an
        attempt the message belongs to the listener, even if the filter has changed.
        """
        if entry is None or (is_first and not self._accepts(entry)):
            return SKIP
        return self._drop_reason(entry, waits_since, now) or self._shape(entry)

    def _shape(self, entry: Entry) -> str:
        if self._transform is None or (self._shaped is not None and self._shaped.seq == entry.seq):
            return ""
        try:
            self._shaped = transformed(entry, self._transform)
        except TransformFailed:
            self.failures += 1
            return "transform"
        self.failures = 0
        return ""

    def _accepts(self, entry: Entry) -> bool:
        return all(each.accepts(entry) for each in self._filters)

    def _drop_reason(self, entry: Entry, waits_since: int, now: int) -> str:
        if 0 < entry.expires_at <= now:
            return "expired"
        return "too_old" if max(waits_since, self._waits_since_at_least) < now - self._deadline_ms else ""


def policy_of(record: LaneRecord) -> RetryPolicy:
    """Return the retry policy of a listener: its own options come before those of its queue and organization."""
    return effective_policy(record.organization_retry, record.queue_retry, record.options.retry)


def message_policy(policy: RetryPolicy, extra: bytes) -> RetryPolicy:
    """Return the policy for a message with the options `extra`, which come before those of its listener."""
    return with_options(policy, decode_options(extra).retry) if extra else policy
