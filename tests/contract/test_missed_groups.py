"""Groups of missed messages, and redeliveries of a group."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.contract.begun import Begun
from tests.contract.caller import Caller
from tests.contract.reference import covers
from tests.contract.test_delivery import listening
from tests.support.receiver import Endpoint, Receiver, Reply

# One worker reads what others have missed.
SETTINGS_MEANT = ("three workers",)


def answered(status: int, text: str) -> Reply:
    return Reply(status, (("webhook-no-retry", "true"),), text.encode())


def until_missed(owner: Caller, place: str, count: int) -> None:
    owner.until(place, lambda shown: shown["messages"]["missed_count"] == count)


def missed(
    owner: Caller, receiver: Receiver, replies: Sequence[Reply], *then: Reply
) -> tuple[Endpoint, str, list[str]]:
    """A listener that missed one message for each reply, and then acknowledges every message, or replies `then`."""
    endpoint = receiver.endpoint(*replies, *(then or [Reply(200)]))
    path, listener = listening(owner, endpoint, max_in_flight=1)
    place = f"{path}/listeners/{listener['id']}"
    ids = []
    for number, _ in enumerate(replies, 1):
        ids.append(owner.create(f"{path}/messages", data=str(number))["id"])
        until_missed(owner, place, number)
    return endpoint, place, ids


def groups_at(owner: Caller, place: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = owner.get(f"/missed/groups?listener={place.rpartition('/')[2]}")["groups"]
    return found


def shown_of(group: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(group[name] for name in ("reason", "status", "text", "count"))


@covers("GET /missed/groups 200", "redeliveries.md# Groups", "redeliveries.md: group")
def test_messages_missed_for_one_cause_are_one_group(owner: Caller, receiver: Receiver) -> None:
    replies = [answered(422, f"order {number} is unknown") for number in (17, 4_211, 3)]
    _, place, ids = missed(owner, receiver, [answered(500, "<b>down</b>"), *replies])
    largest, other = groups_at(owner, place)
    assert shown_of(largest) == ("no_retry", 422, "order 17 is unknown", 3)
    assert shown_of(other) == ("no_retry", 500, "<b>down</b>", 1)
    assert largest["sample"] == ids[:0:-1]
    assert largest["listener"]["id"] == place.rpartition("/")[2]
    assert largest["queue"]["id"] == place.split("/")[2]
    times = [each["missed_at"] for each in owner.get(f"{place}/missed")["missed"]]
    assert (largest["first_at"], largest["last_at"], other["first_at"]) == (times[2], times[0], times[3])
    listed = owner.get(f"/missed?group={largest['id']}")["missed"]
    assert [each["id"] for each in listed] == ids[:0:-1]
    assert owner.get(f"/missed?group={largest['id']}&queue={ids[0]}")["missed"] == []
    owner.refused(400, "GET", "/missed?group=x")
    owner.refused(400, "GET", f"/missed?group={'0' * 22}")


def test_groups_are_read_in_pages(owner: Caller, receiver: Receiver) -> None:
    _, place, _ = missed(owner, receiver, [answered(500, word) for word in ("one", "two", "three", "one")])
    all_of_them = groups_at(owner, place)
    assert [each["count"] for each in all_of_them] == [2, 1, 1]
    first = owner.get(f"/missed/groups?listener={place.rpartition('/')[2]}&per_page=2")
    assert first["groups"] == all_of_them[:2]
    following = owner.get(first["_links"]["next"]["href"])
    assert following["groups"] == all_of_them[2:]
    assert owner.get(following["_links"]["prev"]["href"])["groups"] == all_of_them[:2]
    queue = place.split("/")[2]
    assert owner.get(f"/missed/groups?queue={queue}&page=2&per_page=2")["groups"] == all_of_them[2:]


def test_expired_message_is_in_the_group_of_its_reason(begun: Begun) -> None:
    owner, place = begun.owner, begun.grouped.missed()
    [group] = groups_at(owner, place)
    assert shown_of(group) == ("expired", 0, "", 1)
    messages = [each["id"] for each in owner.get(f"{place}/missed")["missed"]]
    assert group["sample"] == messages
    assert [each["id"] for each in owner.get(f"/missed?group={group['id']}")["missed"]] == messages


def _ended(owner: Caller, path: str) -> dict[str, Any]:
    return owner.until(path, lambda shown: shown["ended_at"] > 0)


def _again(owner: Caller, place: str, **selection: Any) -> dict[str, Any]:
    made = owner.create(f"{place}/redeliveries", **selection)
    return _ended(owner, f"{place}/redeliveries/{made['id']}")


def _data(endpoint: Endpoint) -> list[str]:
    return [each.content.decode() for each in endpoint.received]


@covers("redeliveries.md# Redeliver a group")
def test_redelivery_of_a_group_sends_only_its_messages(owner: Caller, receiver: Receiver) -> None:
    words = ("down", "unknown", "down")
    endpoint, place, ids = missed(owner, receiver, [answered(500, word) for word in words])
    down, unknown = groups_at(owner, place)
    shown = owner.ask("POST", f"{place}/redeliveries", {"group": down["id"], "dry_run": True}).json()["dry_run"]
    assert shown == {"selected": 2, "first_message": ids[0], "last_message": ids[2]}
    assert _again(owner, place, group=down["id"])["counts"] == {"selected": 2, "redelivered": 2, "gone": 0}
    owner.until(place, lambda shown: shown["messages"]["acknowledged_count"] == 2)
    assert sorted(_data(endpoint)[3:]) == ["1", "3"]
    assert [each["id"] for each in groups_at(owner, place)] == [unknown["id"]]
    _, other, _ = missed(owner, receiver, [answered(500, "down")])
    owner.refused(422, "POST", f"{other}/redeliveries", {"group": unknown["id"]})
    owner.refused(422, "POST", f"{other}/redeliveries", {"group": "x"})
    owner.refused(400, "POST", f"{place}/redeliveries", {"group": unknown["id"], "all": True})


@covers("redeliveries.md# Trials")
def test_trial_sends_one_message_at_a_time_and_then_the_others(owner: Caller, receiver: Receiver) -> None:
    endpoint, place, _ = missed(owner, receiver, [answered(500, "down")] * 5)
    done = _again(owner, place, all=True, trial=3)
    assert (done["state"], done["trial"], done["tried"]) == ("done", 3, 3)
    assert done["counts"] == {"selected": 5, "redelivered": 5, "gone": 0}
    owner.until(place, lambda shown: shown["messages"]["acknowledged_count"] == 5)
    assert _data(endpoint)[5:8] == ["1", "2", "3"]
    assert sorted(_data(endpoint)[8:]) == ["4", "5"]
    assert owner.get("/missed/groups?listener=" + place.rpartition("/")[2])["groups"] == []


def test_first_failure_of_a_trial_stops_the_redelivery(owner: Caller, receiver: Receiver) -> None:
    then = (Reply(200), Reply(503, (), b"still down, try 17"))
    endpoint, place, ids = missed(owner, receiver, [answered(500, "down")] * 4, *then)
    stopped = _again(owner, place, messages=ids, trial=3)
    assert (stopped["state"], stopped["tried"], stopped["counts"]["redelivered"]) == ("stopped", 1, 2)
    # One attempt, although the listener's retry policy allows more.
    assert stopped["stopped_by"] == {"reason": "attempts_used_up", "status": 503, "text": "still down, try 17"}
    assert _data(endpoint)[4:] == ["1", "2"]
    left = owner.get(f"{place}/missed")["missed"]
    assert [each["id"] for each in left] == ids[:0:-1]
    assert [each["attempts"] for each in left] == [1, 1, 1]
    assert sorted(shown_of(each) for each in groups_at(owner, place)) == [
        ("attempts_used_up", 503, "still down, try 17", 1),
        ("no_retry", 500, "down", 2),
    ]


def test_trial_larger_than_the_selection_ends_the_redelivery(owner: Caller, receiver: Receiver) -> None:
    _, place, _ = missed(owner, receiver, [answered(500, "down")] * 2)
    done = _again(owner, place, all=True, trial=5)
    assert (done["state"], done["tried"]) == ("done", 2)


def test_trial_waits_for_a_disabled_listener_and_delays_nothing_once_cancelled(
    owner: Caller, receiver: Receiver
) -> None:
    endpoint, place, ids = missed(owner, receiver, [answered(500, "down")] * 2)
    owner.ask("PUT", place, {"status": "disabled"})
    waiting = owner.create(f"{place}/redeliveries", messages=ids[:1], trial=1)["id"]
    owner.until(f"{place}/redeliveries/{waiting}", lambda shown: shown["counts"]["redelivered"] == 1)
    assert owner.shown(f"{place}/redeliveries/{waiting}")["state"] == "running"
    behind = owner.create(f"{place}/redeliveries", messages=ids[1:])["id"]
    owner.ask("DELETE", f"{place}/redeliveries/{waiting}")
    assert _ended(owner, f"{place}/redeliveries/{behind}")["counts"]["redelivered"] == 1
    owner.ask("PUT", place, {"status": "enabled"})
    owner.until(place, lambda shown: shown["messages"]["acknowledged_count"] == 2)
    assert sorted(_data(endpoint)[2:]) == ["1", "2"]


def test_message_missed_after_creation_of_a_redelivery_is_excluded(owner: Caller, receiver: Receiver) -> None:
    endpoint, place, _ = missed(owner, receiver, [answered(500, "down")] * 2, answered(500, "down"), Reply(200))
    owner.ask("PUT", place, {"status": "disabled"})
    waiting = owner.create(f"{place}/redeliveries", all=True, trial=2)["id"]
    owner.until(f"{place}/redeliveries/{waiting}", lambda shown: shown["counts"]["redelivered"] == 1)
    # The trial's first message fails again. Like a later message, it becomes missed only now.
    owner.ask("PUT", place, {"status": "enabled"})
    stopped = _ended(owner, f"{place}/redeliveries/{waiting}")
    assert (stopped["state"], stopped["stopped_by"]["reason"]) == ("stopped", "no_retry")
    assert len(_data(endpoint)) == 3


@covers("redeliveries.md# Order")
def test_redelivery_keeps_the_order_of_a_key(owner: Caller, receiver: Receiver) -> None:
    replies = [answered(500, "down")] * 6
    endpoint = receiver.endpoint(*replies, Reply(500), Reply(200))
    queue = f"/queues/{owner.create('/queues', ordered=True)['id']}"
    retry = {"schedule": [1]}
    listener = owner.create(f"{queue}/listeners", notify_url=endpoint.url, liveness_url=endpoint.url, retry=retry)
    place = f"{queue}/listeners/{listener['id']}"
    for number in range(6):
        owner.create(f"{queue}/messages", data=str(number), key="ab"[number % 2])
    until_missed(owner, place, 6)
    _again(owner, place, all=True)
    owner.until(place, lambda shown: shown["messages"]["acknowledged_count"] == 6)
    again = _data(endpoint)[6:]
    assert len(again) == 7
    for key in (0, 1):
        first_receipts = list(dict.fromkeys(each for each in again if int(each) % 2 == key))
        assert first_receipts == sorted(first_receipts)
        retried = [each for each in again if int(each) % 2 == key]
        assert retried == sorted(retried)


def test_request_in_the_guide_redelivers_a_group_with_a_trial(owner: Caller, receiver: Receiver) -> None:
    _, place, _ = missed(owner, receiver, [answered(500, "down")] * 2)
    page = (Path(__file__).parents[2] / "docs" / "redelivery.md").read_text()
    [content] = re.findall(r"""-d '(\{"group": .*)'$""", page, re.MULTILINE)
    [group] = groups_at(owner, place)
    done = _again(owner, place, **json.loads(content.replace("'$GROUP'", group["id"])))
    assert (done["state"], done["tried"]) == ("done", 2)


def test_trial_of_a_pull_listener_is_refused(owner: Caller) -> None:
    queue = f"/queues/{owner.create('/queues')['id']}"
    place = f"{queue}/listeners/{owner.create(f'{queue}/listeners', mode='pull')['id']}"
    owner.refused(409, "POST", f"{place}/redeliveries", {"all": True, "trial": 5})
