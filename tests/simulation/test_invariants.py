"""Each invariant is broken by a row that breaks it, and by nothing else that a commit may do."""

import pytest

from tests.simulation.invariants import RULES, Body, Cursor, Queue, Worker

_CURSOR = Cursor(
    owner=1,
    token=3,
    version=7,
    start_seq=2,
    until_seq=None,
    position=5,
    ahead=b"\x02",
    acknowledged=2,
    missed=1,
    retrying=1,
    head=9,
    open_rows=1,
    missed_rows=1,
    missed_in_ranges=0,
    busy_keys=0,
    owner_is_alive=1,
)
_QUEUE = Queue(head=9, tail=1, highest=9, passed=5, lowest_row=4)
_WORKER = Worker(dead=0, is_over=0, is_leaving=0, namesakes=0, holds_locks=0)

_BODY = Body(uses=2, named=2)

Row = Cursor | Queue | Body | Worker


@pytest.mark.parametrize(
    ("row", "changes", "sentence"),
    [
        (_CURSOR, {"token": 2}, "its token was lowered"),
        (_CURSOR, {"owner": 2}, "its owner has changed, and not its token"),
        (_CURSOR, {"owner": 2, "token": 4, "owner_is_alive": 0}, "it was given to a dead worker"),
        (_CURSOR, {"version": 6}, "its version was lowered"),
        (_CURSOR, {"ahead": b"\x06"}, "its window was moved without a new version"),
        (_CURSOR, {"version": 8, "ahead": None}, "its window has forgotten a settled message"),
        (_CURSOR, {"head": 6}, "it has settled what is not in the log"),
        (_CURSOR, {"until_seq": 4}, "it has settled what is after its end"),
        (_CURSOR, {"retrying": 0}, "it counts other open messages than there are rows"),
        (_CURSOR, {"missed_rows": 0, "missed_in_ranges": 2}, "it counts fewer missed messages than there are rows"),
        (_CURSOR, {"acknowledged": 3}, "it counts more messages than it has settled"),
        (_CURSOR, {"busy_keys": 1}, "two messages of a key are out at once"),
        (_QUEUE, {"head": 8, "highest": 8}, "its head was lowered"),
        (_QUEUE, {"highest": 10}, "its log is longer than its head says"),
        (_QUEUE, {"tail": 10, "passed": 10, "lowest_row": 11}, "its tail is beyond its head"),
        (_QUEUE, {"tail": 6, "lowest_row": 7}, "its tail is beyond a cursor"),
        (_QUEUE, {"tail": 4}, "its tail is beyond a delivery row"),
        (_BODY, {"uses": 0}, "it has other uses than the log names"),
        (_BODY, {"named": 1}, "it has other uses than the log names"),
        (_WORKER._replace(dead=1), {"dead": 0}, "it is alive again"),
        (_WORKER, {"dead": 1}, "it was expired during its lease"),
        (_WORKER, {"namesakes": 1}, "another living worker has its slot"),
        (_WORKER, {"dead": 1, "holds_locks": 1}, "it is dead, and its session holds locks"),
    ],
)
def test_invariant_is_broken_by_its_own_row(row: Row, changes: dict[str, object], sentence: str) -> None:
    now = row._replace(**changes)  # type: ignore[arg-type]
    broken = [text for text, is_broken in RULES[type(row)] if is_broken(row, now)]
    assert sentence in broken
    assert not [text for text, is_broken in RULES[type(row)] if is_broken(row, row)]
