"""Attempts and deliveries as clients see them."""

from typing import Any

from tests.contract.caller import Caller
from tests.contract.reference import covers
from tests.contract.test_delivery import listening
from tests.contract.world import NOWHERE
from tests.support.receiver import Receiver, Reply


def _tried(owner: Caller, path: str, **options: Any) -> str:
    """The path of a message that each listener was tried for."""
    message = f"{path}/messages/{owner.create(f'{path}/messages', data='x', **options)['id']}"
    owner.until(message, lambda shown: all(each["attempts"] for each in shown["deliveries"]))
    return message


@covers("attempts.md# Deliveries of a message")
def test_a_delivery_says_how_it_stands_with_its_listener(owner: Caller, receiver: Receiver) -> None:
    path, well = listening(owner, receiver.endpoint(Reply(204)))
    badly = owner.create(f"{path}/listeners", **NOWHERE)["id"]
    message = _tried(owner, path)
    retrying, acknowledged = owner.get(f"{message}/deliveries")["deliveries"]
    assert (retrying["listener_id"], acknowledged["listener_id"]) == (badly, well["id"])
    assert (retrying["state"], acknowledged["state"]) == ("retrying", "acknowledged")
    assert retrying["next_attempt_at"] > owner.shown(message)["created_at"]
    assert owner.get(f"{message}/deliveries?state=retrying")["deliveries"][0]["listener_id"] == badly
    shown = owner.get(f"{message}/deliveries?after={badly}")
    assert shown["deliveries"] == [acknowledged]
    assert shown["_links"][well["id"]]["href"].endswith(f"{path}/listeners/{well['id']}")
    owner.refused(400, "GET", f"{message}/deliveries?state=failed")
    missed = _tried(owner, path, retry={"attempts": 1})
    [delivery] = owner.get(f"{missed}/deliveries?state=missed")["deliveries"]
    assert (delivery["listener_id"], delivery["missed_reason"]) == (badly, "attempts_used_up")


@covers("attempts.md# Attempts")
def test_attempts_are_listed_below_their_message_and_their_listener(owner: Caller, receiver: Receiver) -> None:
    path, well = listening(owner, receiver.endpoint(Reply(204)))
    badly = owner.create(f"{path}/listeners", **NOWHERE)["id"]
    messages = [_tried(owner, path) for _ in range(2)]
    for message in messages:
        shown = owner.get(f"{message}/attempts?listener={well['id']}")["attempts"]
        assert [(each["status"], each["state"], each["error"]) for each in shown] == [(204, "acknowledged", "")]
        failed = owner.get(f"{message}/attempts?state=failed")["attempts"]
        assert {(each["listener_id"], each["status"], each["error"]) for each in failed} == {(badly, 0, "connect")}
    of_listener = owner.get(f"{path}/listeners/{well['id']}/attempts?status=2xx")["attempts"]
    assert [f"{path}/messages/{each['message_id']}" for each in of_listener] == messages[::-1]
    first = owner.get(f"{path}/listeners/{well['id']}/attempts?per_page=1")
    assert owner.get(first["_links"]["next"]["href"])["attempts"] == of_listener[1:]
    assert owner.get(f"{path}/listeners/{well['id']}/attempts?state=failed")["attempts"] == []
    owner.refused(400, "GET", f"{messages[0]}/attempts?status=5")
    owner.refused(400, "GET", f"{messages[0]}/attempts?state=missed")


@covers("attempts.md# One attempt", "attempts.md# Retention")
def test_failed_attempt_shows_request_and_response(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint(Reply(503, (("set-cookie", "s3cr3t"), ("x-reason", "maintenance"))))
    path, listener = listening(owner, endpoint, headers={"authorization": "Bearer s3cr3t"})
    message = _tried(owner, path)
    endpoint.until(1)
    attempt = owner.get(f"{message}/attempts")["attempts"][-1]["id"]
    answer = owner.ask("GET", f"{message}/attempts/{attempt}")
    shown = answer.json()["attempt"]
    assert (shown["status"], shown["error"], shown["number"]) == (503, "status", 1)
    sent = {each["name"].lower(): each["value"] for each in shown["request"]["headers"]}
    assert sent["webhook-signature"] == "[hidden]"
    assert sent["authorization"] == "[hidden]"
    answered = {each["name"]: each["value"] for each in shown["response"]["headers"]}
    assert (answered["x-reason"], answered["set-cookie"]) == ("maintenance", "[hidden]")
    assert shown["connection"]["address"]
    assert shown["timings"]["total_ms"] >= shown["timings"]["first_byte_ms"]
    assert shown["next_attempt_at"] >= shown["created_at"]
    assert "s3cr3t" not in answer.text
    assert owner.shown(f"{path}/listeners/{listener['id']}/attempts/{attempt}") == shown
