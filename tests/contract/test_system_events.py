"""System events reach a listener of the queue `system/events`, as their documented schemas say."""

import json
import re
from time import monotonic, sleep
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator
from standardwebhooks import Webhook

from tests.contract.begun import Begun
from tests.contract.caller import PATIENCE_SECONDS, Caller, pointers
from tests.contract.reference import DOCS
from tests.contract.test_delivery import listening
from tests.contract.world import NOWHERE
from tests.support.receiver import Endpoint, Receiver, Reply

# One worker delivers what happens at another one.
SETTINGS_MEANT = ("three workers",)

SYSTEM = "/queues/system%2Fevents"
SCHEMAS = {
    name: Draft202012Validator(json.loads(schema))
    for name, schema in re.findall(
        r"^### `([\w.]+)`\n.*?^```json\n(.*?)^```", (DOCS / "system-events.md").read_text(), re.MULTILINE | re.DOTALL
    )
}


def alarm(owner: Caller, receiver: Receiver) -> tuple[Endpoint, str]:
    """A listener of the system queue: its endpoint and its secret."""
    endpoint = receiver.endpoint()
    made = owner.change(f"{SYSTEM}/listeners/alarm", notify_url=endpoint.url)
    return endpoint, made["secret"]


def event(endpoint: Endpoint, kind: str) -> dict[str, Any]:
    """The first event of a type that has arrived, once it has. Each one that has arrived fits its schema."""
    deadline = monotonic() + PATIENCE_SECONDS
    while True:
        found = [json.loads(received.content) for received in endpoint.received]
        for each in found:
            SCHEMAS[each["type"]].validate(each)
        if of_kind := [each for each in found if each["type"] == kind]:
            return dict(of_kind[0])
        assert monotonic() < deadline, found
        sleep(0.02)


def test_system_queue_is_listed_and_belongs_to_the_service(owner: Caller) -> None:
    [queue] = owner.get("/queues")["queues"]
    assert queue["alias"] == queue["name"] == "system/events"
    assert owner.shown(SYSTEM)["id"] == queue["id"]
    owner.refused(409, "DELETE", SYSTEM)
    owner.refused(403, "POST", f"{SYSTEM}/messages", {"data": "x"})
    owner.refused(403, "POST", f"{SYSTEM}/messages/batch", {"messages": [{"data": "x"}]})
    topic = owner.create("/topics")["id"]
    owner.refused(403, "POST", f"/topics/{topic}/channels", {"queue_id": queue["id"]})
    owner.refused(403, "POST", f"{SYSTEM}/schedules", {"cron": "@daily", "data": 1})
    assert pointers(owner.refused(422, "POST", "/queues", {"alias": "system/events"})) == ["/alias"]
    assert owner.change(SYSTEM, alias="system/events", retention=60)["retention"] == 60
    owner.refused(422, "PUT", SYSTEM, {"alias": "alarms"})
    # Configuration can be applied repeatedly.
    paths = [owner.change(f"{SYSTEM}/listeners/alarm", **NOWHERE)["id"] for _ in range(2)]
    assert paths[0] == paths[1]


def test_a_listener_that_is_disabled_and_enabled_is_reported(owner: Caller, receiver: Receiver) -> None:
    endpoint, secret = alarm(owner, receiver)
    path, listener = listening(owner, receiver.endpoint(Reply(410), Reply(200)))
    owner.create(f"{path}/messages", data="x")
    disabled = event(endpoint, "listener.disabled")
    names = {"id": listener["id"], "alias": listener["alias"]}
    assert (disabled["reason"], disabled["listener"]) == ("gone", names)
    assert disabled["queue"]["id"] == path.rpartition("/")[2]
    received = endpoint.received[0]
    assert Webhook(secret).verify(received.content, received.headers) == disabled
    owner.change(f"{path}/listeners/{listener['id']}", status="enabled")
    assert event(endpoint, "listener.recovered")["was"] == "disabled"
    shown = owner.get(f"{SYSTEM}/messages")["messages"]
    assert [message["alias"] for message in shown] == ["listener.recovered", "listener.disabled"]


def test_missed_messages_are_reported_together(begun: Begun, receiver: Receiver) -> None:
    owner, listener, messages, _ = begun.reported
    endpoint, _ = alarm(owner, receiver)
    begun.reported.enable()
    missed = event(endpoint, "message.missed")
    assert missed["listener"]["id"] == listener.rpartition("/")[2]
    assert (missed["count"], missed["reasons"], missed["message_ids"]) == (3, {"expired": 3}, messages[::-1])


def test_a_key_that_is_locked_out_and_a_quota_are_reported(
    stranger: Caller, owner: Caller, operator: Caller, receiver: Receiver
) -> None:
    endpoint, _ = alarm(owner, receiver)
    key = owner.create("/api_keys", alias="deployment")
    for _ in range(5):
        stranger.with_key(key["key"][:-1] + ("a" if key["key"][-1] != "a" else "b")).refused(401, "GET", "/queues")
    assert event(endpoint, "key.locked_out")["key"] == {"id": key["id"], "alias": "deployment"}
    organization = owner.get("/organizations")["organizations"][0]["id"]
    operator.change(f"/organizations/{organization}", quotas={"queues": 1})
    owner.create("/queues")
    near = event(endpoint, "quota.near")
    assert (near["quota"], near["limit"], near["used"]) == ("queues", 1, 1)


@pytest.mark.parametrize("kind", sorted(SCHEMAS))
def test_each_schema_is_valid_and_names_its_type(kind: str) -> None:
    assert SCHEMAS[kind].is_valid({"type": kind}) is False
    errors = [error.message for error in SCHEMAS[kind].iter_errors({"type": "other"})]
    assert any(kind in error for error in errors), errors
