"""After an erasure, no reader and no listener can get the messages with the key."""

from typing import Any

from tests.contract.caller import Caller, body
from tests.contract.reference import covers
from tests.contract.test_delivery import listening
from tests.contract.world import NOWHERE, World
from tests.support.receiver import Receiver, Reply

# One worker erases messages that another worker may hold in memory.
SETTINGS_MEANT = ("three workers",)

ERASURES = "/queues/{queue_id}/erasures"
KEY = "customer-7"


def erased(owner: Caller) -> dict[str, Any]:
    """Return an erasure of a message that a consumer holds."""
    queue = f"/queues/{owner.create('/queues')['id']}"
    listener = owner.create(f"{queue}/listeners", mode="pull")["id"]
    owner.create(f"{queue}/messages", data="x", key=KEY)
    assert len(owner.get(f"{queue}/listeners/{listener}/messages?wait=20")["messages"]) == 1
    return owner.create(f"{queue}/erasures", key=KEY)


@covers(f"POST {ERASURES} 200", "erasures.md# Erase", "erasures.md# The resource")
@covers("events.md: erasure_added")
def test_erased_messages_are_in_no_list_and_are_not_sent_again(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint(Reply(200))
    queue, listener = listening(owner, endpoint)
    place = f"{queue}/listeners/{listener['id']}"
    gone = [owner.create(f"{queue}/messages", data="x", key=KEY, alias=f"gone-{n}")["id"] for n in range(2)]
    kept = owner.create(f"{queue}/messages", data="y", key="customer-8")["id"]
    owner.until(place, lambda shown: shown["messages"]["acknowledged_count"] == 3)
    owner.create(f"{queue}/messages", data="z", key=KEY, delay=2)
    erasure = owner.create(f"{queue}/erasures", key=KEY)
    assert (erasure["state"], erasure["erased"], erasure["key"]) == ("done", 3, KEY)
    assert erasure["delivered"] == [{"listener": listener["id"], "count": 2}]
    assert erasure["ended_at"] >= erasure["created_at"]
    assert [each["id"] for each in owner.get(f"{queue}/messages")["messages"]] == [kept]
    assert {each["message_id"] for each in owner.get(f"{place}/attempts")["attempts"]} == {kept}
    for message in gone:
        owner.refused(404, "GET", f"{queue}/messages/{message}")
    replay = owner.create(f"{place}/replays", from_at=0)
    owner.until(f"{place}/replays/{replay['id']}", lambda shown: shown["state"] == "done")
    assert [request.content for request in endpoint.received].count(b"x") == 2
    assert [request.content for request in endpoint.received].count(b"y") == 2
    later = owner.create(f"{queue}/messages", data="later", key=KEY)["id"]
    assert owner.shown(f"{queue}/messages/{later}")["key"] == KEY
    assert [each["id"] for each in owner.get(f"{queue}/erasures")["erasures"]] == [erasure["id"]]
    event = next(each for each in owner.get("/events")["events"] if each["type"] == "erasure_added")
    assert event["erasure"] == {"id": erasure["queue_id"], "name": owner.shown(queue)["alias"]}


def test_missed_messages_are_not_redelivered_after_their_erasure(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint(Reply(500, (("webhook-no-retry", "true"),)), Reply(200))
    queue, listener = listening(owner, endpoint)
    place = f"{queue}/listeners/{listener['id']}"
    owner.create(f"{queue}/messages", data="x", key=KEY)
    owner.until(place, lambda shown: shown["messages"]["missed_count"] == 1)
    owner.create(f"{queue}/erasures", key=KEY)
    assert owner.get(f"{place}/missed")["missed"] == owner.get("/missed")["missed"] == []
    owner.until(place, lambda shown: shown["messages"]["missed"] == [])
    redelivery = owner.create(f"{place}/redeliveries", all=True)
    owner.until(f"{place}/redeliveries/{redelivery['id']}", lambda shown: shown["state"] == "done")
    assert len(endpoint.received) == 1


def test_erased_message_that_a_consumer_holds_can_be_acknowledged(owner: Caller) -> None:
    queue = f"/queues/{owner.create('/queues')['id']}"
    place = f"{queue}/listeners/{owner.create(f'{queue}/listeners', mode='pull')['id']}"
    for data in ("x", "y", "z"):
        owner.create(f"{queue}/messages", data=data, key=KEY)
    receipts = [each["receipt"] for each in owner.get(f"{place}/messages?max=3&wait=20")["messages"]]
    assert owner.create(f"{queue}/erasures", key=KEY)["delivered"][0]["count"] == len(receipts) == 3
    for decision, receipt in zip(("acknowledge", "reject", "extend"), receipts, strict=True):
        [result] = body(owner.ask("POST", f"{place}/acknowledgements", {decision: [receipt]}))["receipts"]
        assert result["state"] in {"acknowledged", "rejected", "extended"}
    assert owner.get(f"{place}/messages")["messages"] == []


def test_erasure_of_a_key_without_messages_erases_none(world: World) -> None:
    path = world.path(ERASURES)
    made = world.owner.create(path, key="nobody")
    assert (made["erased"], made["delivered"], made["state"]) == (0, [], "done")
    for key in ("", "x" * 256):
        [fault] = world.owner.refused(422, "POST", path, {"key": key})["errors"]
        assert fault == {"pointer": "/key", "detail": "must have 1 to 255 characters"}
    [fault] = world.owner.refused(400, "POST", path, {})["errors"]
    assert fault["pointer"] == "/key"


def test_erasure_affects_only_its_queue(world: World, owner: Caller) -> None:
    first, second = (f"/queues/{owner.create('/queues')['id']}" for _ in range(2))
    for queue in (first, second):
        owner.create(f"{queue}/listeners", **NOWHERE)
        owner.create(f"{queue}/messages", data="x", key=KEY)
    made = owner.create(f"{first}/erasures", key=KEY)
    owner.refused(404, "GET", f"{second}/erasures/{made['id']}")
    world.other.refused(404, "GET", f"{first}/erasures/{made['id']}")
    world.other.refused(404, "POST", f"{first}/erasures", {"key": KEY})
    assert len(owner.get(f"{second}/messages")["messages"]) == 1


@covers(f"POST {ERASURES} 402")
def test_erasures_count_towards_the_quota_for_creations(owner: Caller, operator: Caller) -> None:
    path = f"/queues/{owner.create('/queues')['id']}/erasures"
    organization = owner.get("/organizations")["organizations"][0]["id"]
    used = owner.get("/limits")["limits"]["quotas"]["creations_a_day"]["used"]
    operator.change(f"/organizations/{organization}", quotas={"creations_a_day": used + 1})
    owner.create(path, key=KEY)
    assert owner.refused(402, "POST", path, {"key": KEY})["code"] == "quota_exceeded"
