"""Schedules, as far as they are seen before a minute has passed."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from tests.contract.caller import Caller, fresh, pointers
from tests.contract.reference import covers

SCHEDULES = "/queues/{queue_id}/schedules"
DAILY = {"cron": "0 9 * * *", "data": {"report": "daily"}}


def _place(owner: Caller, **fields: Any) -> str:
    return f"/queues/{owner.create('/queues', **fields)['id']}/schedules"


@covers(f"POST {SCHEDULES} 200", f"PUT {SCHEDULES} 200", "schedules.md# Create")
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_schedule_says_when_it_runs_next(owner: Caller, method: str) -> None:
    place = _place(owner)
    alias = fresh("report")
    content = {**DAILY, "alias": alias, "time_zone": "Asia/Kolkata", "key": "k", "headers": {"x-a": "b"}}
    made = owner.ask(method, place, content).json()["schedule"]
    assert (made["alias"], made["cron"], made["time_zone"]) == (alias, "0 9 * * *", "Asia/Kolkata")
    assert (made["status"], made["missed_runs"], made["data"]) == ("enabled", "skip", {"report": "daily"})
    runs = [datetime.fromtimestamp(run / 1_000, UTC) for run in made["next_runs"]]
    assert {(run.hour, run.minute, run.second) for run in runs} == {(3, 30, 0)}
    assert [(later - earlier).days for earlier, later in pairwise(runs)] == [1, 1, 1, 1]
    assert owner.shown(f"{place}/{made['id']}") == made
    [listed] = owner.get(place)["schedules"]
    assert listed == {name: value for name, value in made.items() if name != "data"}


@covers(f"PUT {SCHEDULES}/{{schedule_id}} 200", "schedules.md# Change")
def test_a_change_counts_from_now_on(owner: Caller) -> None:
    place = _place(owner)
    made = owner.create(place, **DAILY, missed_runs="catch_up", catch_up_limit=3)
    path = f"{place}/{made['id']}"
    assert owner.change(path, status="disabled")["next_runs"] == []
    changed = owner.change(path, status="enabled", cron="@hourly", catch_up_limit=None, key="k")
    assert (changed["missed_runs"], changed["catch_up_limit"], changed["key"]) == ("catch_up", 10, "k")
    assert {later - earlier for earlier, later in pairwise(changed["next_runs"])} == {3_600_000}
    assert "key" not in owner.change(path, key=None)
    bounded = owner.change(path, ends_at=changed["next_runs"][1] + 1)
    assert bounded["next_runs"] == changed["next_runs"][:2]


@covers(f"DELETE {SCHEDULES}/{{schedule_id}} 200")
def test_a_deleted_one_is_gone_and_its_name_is_free(owner: Caller) -> None:
    place = _place(owner)
    path = f"{place}/{owner.create(place, **DAILY, alias='report')['id']}"
    assert pointers(owner.refused(422, "POST", place, {**DAILY, "alias": "report"})) == ["/alias"]
    owner.delete(path)
    owner.refused(404, "GET", path)
    owner.create(place, **DAILY, alias="report")


def test_the_schedules_of_a_deleted_queue_are_gone(owner: Caller) -> None:
    place = _place(owner)
    path = f"{place}/{owner.create(place, **DAILY)['id']}"
    owner.delete(place.removesuffix("/schedules"))
    owner.refused(404, "GET", path)
    owner.refused(404, "GET", place)


@covers(f"POST {SCHEDULES} 422", f"PUT {SCHEDULES} 422")
@pytest.mark.parametrize(
    ("content", "pointer"),
    [
        ({"cron": ""}, "/cron"),
        ({"cron": "* * * *"}, "/cron"),
        ({"cron": "* * * * * *"}, "/cron"),
        ({"cron": "0 0 */31 2 MON#5"}, "/cron"),
        ({"cron": "61 * * * *"}, "/cron"),
        ({"time_zone": "Mars/Olympus"}, "/time_zone"),
        ({"ends_at": 100_000_000_000}, "/ends_at"),
        ({"starts_at": 100_000_000_005, "ends_at": 100_000_000_005}, "/ends_at"),
        ({"starts_at": 253_402_300_799_999}, "/starts_at"),
        ({"missed_runs": "later"}, "/missed_runs"),
        ({"catch_up_limit": 0}, "/catch_up_limit"),
        ({"catch_up_limit": 101}, "/catch_up_limit"),
        ({"expires_in": 0}, "/expires_in"),
        ({"key": ""}, "/key"),
        ({"headers": {"discue-schedule": "x"}}, "/headers/discue-schedule"),
        ({"retry": {"attempts": 0}}, "/retry/attempts"),
        ({"status": "paused"}, "/status"),
        ({"alias": "x!"}, "/alias"),
    ],
)
def test_a_value_that_is_none_is_refused_and_changes_nothing(
    owner: Caller, content: dict[str, Any], pointer: str
) -> None:
    place = _place(owner)
    assert pointers(owner.refused(422, "POST", place, {**DAILY, **content})) == [pointer]
    assert owner.get(place)["schedules"] == []
    made = owner.create(place, **DAILY)
    assert pointers(owner.refused(422, "PUT", f"{place}/{made['id']}", content)) == [pointer]
    assert owner.shown(f"{place}/{made['id']}") == made


@covers(f"PUT {SCHEDULES}/{{schedule_id}} 422")
def test_data_must_fit_the_schema_of_the_queue(owner: Caller) -> None:
    place = _place(owner, schema={"n": {"type": "number"}})
    assert pointers(owner.refused(422, "POST", place, {"cron": "@daily", "data": {"n": "x"}})) == ["/data/n"]
    made = owner.create(place, cron="@daily", data={"n": 1})
    assert pointers(owner.refused(422, "PUT", f"{place}/{made['id']}", {"data": "x"})) == ["/data"]
    # Existing data is not validated again when another field changes.
    owner.change(place.removesuffix("/schedules"), schema={"m": {"type": "number"}})
    assert owner.change(f"{place}/{made['id']}", status="disabled")["data"] == {"n": 1}


def test_data_is_as_large_as_it_may_be(owner: Caller) -> None:
    place = _place(owner)
    made = owner.create(place, cron="@daily", data="x" * 65_536)
    assert len(made["data"]) == 65_536
    assert pointers(owner.refused(413, "POST", place, {"cron": "@daily", "data": "x" * 65_537})) == ["/data"]
    small = _place(owner, max_message_bytes=3)
    assert pointers(owner.refused(413, "POST", small, {"cron": "@daily", "data": "1234"})) == ["/data"]
