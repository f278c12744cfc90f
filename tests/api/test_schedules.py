"""Schedules in the API after they have run, and their number per queue."""

import pytest

from discue.control import schedules as verbs
from discue.domain.schedule import ScheduleRun
from discue.store import schedules
from discue.store.engine import Transaction
from tests.support.served_api import Cast

NOON = 1_750_000_000_000
MESSAGE = "0VbuJFW500I0yWwoGXXf6"


def _ran(cast: Cast, public_id: str, run: ScheduleRun) -> None:
    """Record an event as the leader does."""

    async def work(tx: Transaction) -> None:
        found = await tx.row("SELECT organization FROM schedule WHERE public_id = $1", public_id)
        assert found is not None
        seen = await schedules.get(tx, found[0], public_id)
        assert seen is not None
        assert await schedules.advance(tx, seen, seen.next_run_at, run)

    cast.service.run(cast.service.installation.store.write(work))


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (ScheduleRun(NOON, NOON + 4, MESSAGE), {"state": "published", "message_id": MESSAGE}),
        (ScheduleRun(NOON, NOON + 4, reason="schema"), {"state": "skipped", "reason": "schema"}),
    ],
)
def test_the_last_run_is_shown_and_is_no_change(cast: Cast, run: ScheduleRun, expected: dict[str, str]) -> None:
    queue = cast.queue()
    path = f"/queues/{queue}/schedules/{cast.schedule(queue)}"
    before = cast.alice.get(path)
    assert "last_run" not in before.json()["schedule"]
    _ran(cast, path.rpartition("/")[2], run)
    after = cast.alice.get(path)
    assert after.json()["schedule"]["last_run"] == {"scheduled_at": NOON, "ran_at": NOON + 4, **expected}
    assert after.headers["etag"] != before.headers["etag"]
    tag = {"If-Match": before.headers["etag"]}
    assert cast.alice.put(path, json={"status": "disabled"}, headers=tag).status_code == 200
    assert cast.alice.put(path, json={"status": "enabled"}, headers=tag).status_code == 412


def test_a_queue_has_so_many_at_most(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbs, "SCHEDULES_A_QUEUE", 2)
    queue = cast.queue()
    first = cast.schedule(queue)
    cast.schedule(queue)
    path = f"/queues/{queue}/schedules"
    content = {"cron": "@daily", "data": 1}
    answer = cast.alice.post(path, json=content)
    assert (answer.status_code, "Delete one" in answer.json()["detail"]) == (409, True)
    assert cast.alice.delete(f"{path}/{first}").status_code == 200
    assert cast.alice.post(path, json=content).status_code == 200
    cast.schedule(cast.queue())
