"""The rules for what is sent, skipped and dropped, which push and pull share."""

import msgspec
import pytest

from discue.dispatch.delivery_rules import SKIP, DeliveryRules, Gap, steps_of_page
from discue.domain.filters import compile_filter
from discue.domain.message_data import JSON_VALUE
from discue.domain.messages import Entry
from discue.store.engine import LogPage
from tests.support.clocks import NOON


def _entry(seq: int, *, expires_at: int = 0, origin_seq: int = 0, waits: bool = False) -> Entry:
    return Entry(seq, f"m{seq}", NOON, JSON_VALUE, b"1", expires_at=expires_at, origin_seq=origin_seq, is_delayed=waits)


def _rules(*, accept_all: bool) -> DeliveryRules:
    """Return the rules of a listener whose filter accepts all messages, or none: they have no keys."""
    rejecting = {"key": "a"}
    condition = {"$not": rejecting} if accept_all else rejecting
    return DeliveryRules([compile_filter(msgspec.json.encode(condition).decode())], 1_000)


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
    ("expires_at", "waits_since", "decision"),
    [
        (0, NOON - 1_000, ""),
        (0, NOON - 1_001, "too_old"),
        (NOON + 1, NOON, ""),
        (NOON, NOON, "expired"),
        (NOON, NOON - 2_000, "expired"),
    ],
)
def test_message_is_missed_when_it_expires_or_waits_too_long(expires_at: int, waits_since: int, decision: str) -> None:
    entry, rules = _entry(1, expires_at=expires_at), DeliveryRules((), 1_000)
    assert rules.decide_due(entry, waits_since, NOON, is_first=False) == decision
    assert rules.decide_new(msgspec.structs.replace(entry, stored_at=waits_since), NOON) == decision


def test_message_of_a_replay_waits_since_the_replay_was_created() -> None:
    assert DeliveryRules((), 1_000, NOON - 500).decide_due(_entry(1), NOON - 2_000, NOON, is_first=True) == ""


@pytest.mark.parametrize(
    ("is_accepted", "expires_at", "decision"),
    [(True, 0, ""), (True, NOON, "expired"), (False, 0, SKIP), (False, NOON, SKIP)],
)
def test_filter_comes_before_the_deadline(is_accepted: bool, expires_at: int, decision: str) -> None:  # noqa: FBT001
    entry, rules = _entry(1, expires_at=expires_at), _rules(accept_all=is_accepted)
    assert rules.decide_new(entry, NOON) == decision
    assert rules.decide_due(entry, NOON, NOON, is_first=True) == decision


def test_filter_is_not_asked_again_after_the_first_attempt() -> None:
    assert _rules(accept_all=False).decide_due(_entry(1), NOON, NOON, is_first=False) == ""


def test_due_delivery_of_a_deleted_message_is_skipped() -> None:
    assert _rules(accept_all=True).decide_due(None, NOON, NOON, is_first=False) == SKIP
