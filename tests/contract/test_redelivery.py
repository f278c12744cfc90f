"""Missed messages and their redelivery."""

from typing import Any

import pytest

from tests.contract.begun import Begun
from tests.contract.caller import Caller, body, pointers
from tests.contract.reference import covers
from tests.contract.test_delivery import listening
from tests.contract.world import NOWHERE
from tests.support.receiver import Receiver, Reply

# One worker starts the job, another one runs it.
SETTINGS_MEANT = ("three workers",)

REDELIVERIES = "/queues/{queue_id}/listeners/{listener_id}/redeliveries"
NO_RETRY = Reply(500, (("webhook-no-retry", "true"),))


def _missing(owner: Caller, receiver: Receiver) -> tuple[Any, str, list[str]]:
    """A listener that wants no second attempt of two messages, and takes everything from then on."""
    endpoint = receiver.endpoint(NO_RETRY, NO_RETRY, Reply(200))
    path, listener = listening(owner, endpoint)
    place = f"{path}/listeners/{listener['id']}"
    messages = [owner.create(f"{path}/messages", data=data)["id"] for data in ("x", "y")]
    owner.until(place, lambda shown: shown["messages"]["missed_count"] == 2)
    return endpoint, place, messages


def _done(owner: Caller, path: str) -> dict[str, Any]:
    return owner.until(path, lambda shown: shown["state"] == "done")


@covers(
    "redeliveries.md# Missed messages",
    "redeliveries.md: no_retry",
    *(
        f"redeliveries.md: {name}"
        for name in ("page", "per_page", "after", "before", "created_after", "created_before")
    ),
    "redeliveries.md: reason",
)
def test_missed_messages_are_listed_newest_first(owner: Caller, receiver: Receiver) -> None:
    _, place, messages = _missing(owner, receiver)
    shown = owner.get(f"{place}/missed")["missed"]
    assert {each["id"] for each in shown} == set(messages)
    assert {(each["reason"], each["attempts"]) for each in shown} == {("no_retry", 1)}
    sentence = "The listener responded with 500 Internal Server Error."
    failure = {"last_failure_status": 500, "last_failure_msg": sentence}
    assert [{name: each[name] for name in failure} for each in shown] == [failure, failure]
    assert failure.items() <= owner.shown(place)["messages"].items()
    assert all(failure.items() <= each["messages"].items() for each in owner.get("/listeners")["listeners"])
    newest, oldest = [each["id"] for each in shown]
    assert [each["id"] for each in owner.get(f"{place}/missed?per_page=1&page=2")["missed"]] == [oldest]
    assert [each["id"] for each in owner.get(f"{place}/missed?after={newest}")["missed"]] == [oldest]
    assert [each["id"] for each in owner.get(f"{place}/missed?before={oldest}")["missed"]] == [newest]
    assert owner.get(f"{place}/missed?reason=too_old")["missed"] == []
    assert owner.get(f"{place}/missed?created_after={shown[0]['stored_at']}")["missed"] == []
    assert owner.get(f"{place}/missed?created_before={shown[1]['stored_at']}")["missed"] == []
    owner.refused(400, "GET", f"{place}/missed?reason=boredom")


@covers("redeliveries.md: queue", "redeliveries.md: listener", "GET /missed 200")
def test_missed_messages_of_all_listeners_are_listed(owner: Caller, receiver: Receiver) -> None:
    _, place, messages = _missing(owner, receiver)
    _, other, others = _missing(owner, receiver)
    listeners = [each.rpartition("/")[2] for each in (other, place)]
    shown = owner.get("/missed?per_page=100")["missed"]
    assert [each["listener_id"] for each in shown[:4]] == [listeners[0]] * 2 + [listeners[1]] * 2
    assert [each["id"] for each in shown[:4]] == [*others[::-1], *messages[::-1]]
    queue = place.split("/")[2]
    assert {each["queue_id"] for each in owner.get(f"/missed?queue={queue}")["missed"]} == {queue}
    of_one = owner.get(f"/missed?listener={listeners[1]}&reason=no_retry")["missed"]
    assert of_one == owner.get(f"{place}/missed")["missed"]
    first = owner.get("/missed?per_page=3")
    following = owner.get(first["_links"]["next"]["href"])
    assert [each["id"] for each in following["missed"][:1]] == messages[:1]
    back = owner.get(following["_links"]["prev"]["href"])
    assert back["missed"] == first["missed"]
    oldest = min(each["stored_at"] for each in of_one)
    assert owner.get(f"/missed?created_before={oldest}&queue={queue}")["missed"] == []
    for query in (f"queue={listeners[0]}", f"listener={queue}", f"after={queue}", "reason=boredom"):
        owner.refused(400, "GET", f"/missed?{query}")


@covers("redeliveries.md: attempts_used_up")
def test_the_last_attempt_of_a_policy_says_so(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint(Reply(500))
    path, listener = listening(owner, endpoint)
    owner.create(f"{path}/messages", data="x", retry={"attempts": 1})
    place = f"{path}/listeners/{listener['id']}"
    owner.until(place, lambda shown: shown["messages"]["missed_count"] == 1)
    assert [each["reason"] for each in owner.get(f"{place}/missed")["missed"]] == ["attempts_used_up"]


@covers("redeliveries.md: expired")
def test_expired_message_is_missed_again_at_once(begun: Begun) -> None:
    owner, place = begun.owner, begun.redelivered.missed()
    made = owner.create(f"{place}/redeliveries", all=True)
    _done(owner, f"{place}/redeliveries/{made['id']}")
    owner.until(place, lambda shown: shown["messages"]["missed_count"] == 1)
    assert [each["reason"] for each in owner.get(f"{place}/missed")["missed"]] == ["expired"]


@covers(f"POST {REDELIVERIES} 200", "redeliveries.md# Redeliver")
@pytest.mark.parametrize("choice", ["all", "filter", "messages"])
def test_selected_messages_are_delivered_again(owner: Caller, receiver: Receiver, choice: str) -> None:
    endpoint, place, messages = _missing(owner, receiver)
    chosen: Any = {"all": True, "filter": {"reason": "no_retry"}, "messages": messages}[choice]
    made = owner.create(f"{place}/redeliveries", **{choice: chosen})
    assert made["counts"]["selected"] == 2
    again = endpoint.until(4)[2:]
    assert {each.headers["webhook-id"] for each in again} == set(messages)
    assert {each.headers["discue-attempt"] for each in again} == {"1"}
    done = _done(owner, f"{place}/redeliveries/{made['id']}")
    assert done["counts"] == {"selected": 2, "redelivered": 2, "gone": 0}
    owner.until(place, lambda shown: shown["messages"]["acknowledged_count"] == 2)
    assert owner.get(f"{place}/missed")["missed"] == []


def test_acknowledged_message_is_delivered_again_by_its_id(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint(Reply(200))
    path, listener = listening(owner, endpoint, filter={"key": "a"})
    place = f"{path}/listeners/{listener['id']}"
    skipped, message = [owner.create(f"{path}/messages", data="x", key=key)["id"] for key in ("b", "a")]
    owner.until(place, lambda shown: shown["messages"]["acknowledged_count"] == 1)
    made = owner.create(f"{place}/redeliveries", messages=[message])
    assert _done(owner, f"{place}/redeliveries/{made['id']}")["counts"] == {"selected": 1, "redelivered": 1, "gone": 0}
    assert [each.headers["webhook-id"] for each in endpoint.until(2)] == [message, message]
    shown = owner.until(place, lambda shown: shown["messages"]["acknowledged_count"] == 1)
    assert (shown["messages"]["pending_count"], shown["messages"]["missed_count"]) == (0, 0)
    # Nothing proves that a message was acknowledged which the filter skipped.
    refused = owner.refused(422, "POST", f"{place}/redeliveries", {"messages": [message, skipped]})
    assert pointers(refused) == ["/messages/1"]


def test_a_dry_run_says_what_would_be_chosen_and_changes_nothing(owner: Caller, receiver: Receiver) -> None:
    endpoint, place, _ = _missing(owner, receiver)
    newest, oldest = [each["id"] for each in owner.get(f"{place}/missed")["missed"]]
    answer = body(owner.ask("POST", f"{place}/redeliveries", {"all": True, "dry_run": True}))
    assert answer["dry_run"] == {"selected": 2, "first_message": oldest, "last_message": newest}
    assert owner.get(f"{place}/redeliveries")["redeliveries"] == []
    assert len(endpoint.received) == 2


def _a_listener(owner: Caller) -> str:
    queue = f"/queues/{owner.create('/queues')['id']}"
    return f"{queue}/listeners/{owner.create(f'{queue}/listeners', **NOWHERE)['id']}"


@covers(f"POST {REDELIVERIES} 400 choice")
@pytest.mark.parametrize("choice", [{}, {"all": False}, {"all": True, "filter": {}}, {"messages": ["x"], "filter": {}}])
def test_a_choice_is_made_in_one_way(owner: Caller, choice: dict[str, Any]) -> None:
    owner.refused(400, "POST", f"{_a_listener(owner)}/redeliveries", choice)


@pytest.mark.parametrize(
    ("content", "pointer", "code"),
    [
        ({"messages": ["0" * 21]}, "/messages/0", "unknown_reference"),
        ({"messages": []}, "/messages", "invalid_value"),
        ({"filter": {"reason": "boredom"}}, "/filter/reason", "invalid_value"),
        ({"filter": {"created_after": -1}}, "/filter/created_after", "invalid_value"),
        ({"all": True, "pace": 0}, "/pace", "invalid_value"),
    ],
)
def test_a_value_that_is_none_is_refused(owner: Caller, content: dict[str, Any], pointer: str, code: str) -> None:
    place = _a_listener(owner)
    refused = owner.refused(422, "POST", f"{place}/redeliveries", content)
    assert (pointers(refused), refused["code"]) == ([pointer], code)
    assert owner.get(f"{place}/redeliveries")["redeliveries"] == []


@covers(f"DELETE {REDELIVERIES}/{{redelivery_id}} 200", "redeliveries.md# Cancel")
def test_open_one_can_be_cancelled(owner: Caller, receiver: Receiver) -> None:
    endpoint, place, _ = _missing(owner, receiver)
    path = f"{place}/redeliveries/{owner.create(f'{place}/redeliveries', all=True, pace=1)['id']}"
    endpoint.until(3)
    owner.delete(path)
    owner.refused(404, "GET", path)
    owner.refused(404, "DELETE", path)
    assert owner.get(f"{place}/redeliveries")["redeliveries"] == []
    assert owner.shown(place)["messages"]["missed_count"] <= 1


@covers(f"POST {REDELIVERIES} 409")
def test_ten_may_be_open_at_once(owner: Caller, receiver: Receiver) -> None:
    _, place, _ = _missing(owner, receiver)
    owner.change(place, status="disabled")
    answers = [owner.ask("POST", f"{place}/redeliveries", {"all": True, "pace": 1}) for _ in range(11)]
    assert {answer.status_code for answer in answers} <= {200, 409}
