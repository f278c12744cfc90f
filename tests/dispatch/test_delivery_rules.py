"""The rules for what is sent, skipped and dropped, which push and pull share."""

import pytest

from discue.dispatch.delivery_rules import (
    SKIP,
    Drop,
    Gap,
    Skip,
    decide_due,
    decide_new,
    drop_reason,
    steps_of_page,
)
from discue.domain.messages import Entry
from discue.store.engine import LogPage
from tests.support.clocks import NOON


def _entry(seq: int, *, expires_at: int = 0, origin_seq: int = 0, waits: bool = False) -> Entry:
    return Entry(seq, f"m{seq}", NOON, True, b"1", expires_at=expires_at, origin_seq=origin_seq, is_delayed=waits)


def _page(*entries: Entry) -> LogPage:
    return LogPage(head=9, through=9, entries=entries)


def test_gaps_lie_before_between_and_after_the_messages_of_a_page() -> None:
    entries = (_entry(3), _entry(4), _entry(7))
    steps = list(steps_of_page(_page(*entries), 1, 0, 9))
    assert steps == [Gap(2, 2), entries[0], entries[1], Gap(5, 6), entries[2], Gap(8, 9)]


def test_page_ends_where_the_reader_stops() -> None:
    entries = (_entry(3), _entry(7))
    assert list(steps_of_page(_page(*entries), 2, 0, 5)) == [entries[0], Gap(4, 5)]
    assert list(steps_of_page(_page(*entries), 2, 0, 2)) == []


def test_message_that_is_not_due_yet_is_part_of_a_gap() -> None:
    entries = (_entry(8), _entry(9, waits=True))
    assert list(steps_of_page(_page(*entries), 7, 0, 9)) == [entries[0], Gap(9, 9)]


def test_message_published_before_the_listener_is_part_of_a_gap() -> None:
    entries = (_entry(8, origin_seq=3), _entry(9, origin_seq=6))
    assert list(steps_of_page(_page(*entries), 7, 5, 9)) == [Gap(8, 8), entries[1]]


@pytest.mark.parametrize(
    ("expires_at", "waits_since", "reason"),
    [
        (0, NOON - 1_000, ""),
        (0, NOON - 1_001, "too_old"),
        (NOON + 1, NOON, ""),
        (NOON, NOON, "expired"),
        (NOON, NOON - 2_000, "expired"),
    ],
)
def test_message_is_dropped_when_it_expires_or_waits_too_long(expires_at: int, waits_since: int, reason: str) -> None:
    assert drop_reason(_entry(1, expires_at=expires_at), waits_since, NOON, 1_000) == reason


@pytest.mark.parametrize(
    ("is_accepted", "reason", "decision"),
    [(True, "", None), (True, "expired", Drop("expired")), (False, "", SKIP), (False, "expired", SKIP)],
)
def test_filter_comes_before_the_deadline(is_accepted: bool, reason: str, decision: Skip | Drop | None) -> None:  # noqa: FBT001
    assert decide_new(_entry(1), lambda _: is_accepted, reason) == decision
    assert decide_due(_entry(1), lambda _: is_accepted, reason, is_first=True) == decision


def test_filter_is_not_asked_again_after_the_first_attempt() -> None:
    assert decide_due(_entry(1), lambda _: False, "", is_first=False) is None


def test_due_delivery_of_a_deleted_message_is_skipped() -> None:
    assert decide_due(None, lambda _: True, "", is_first=False) is SKIP
