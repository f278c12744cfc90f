"""Places of messages in their queue, as receivers see them."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.contract.caller import Caller, client_at
from tests.contract.reference import covers
from tests.contract.test_delivery import listening
from tests.support.receiver import Receiver

# Each engine numbers the messages itself.
SETTINGS_MEANT = ("sqlite", "three workers")

_PUBLISHERS = 4
_EACH = 8


def published(owner: Caller, queue: str, **options: Any) -> str:
    message_id: str = owner.create(f"{queue}/messages", data="x", **options)["id"]
    return message_id


def pulling(owner: Caller) -> tuple[str, str]:
    queue = f"/queues/{owner.create('/queues')['id']}"
    return queue, f"{queue}/listeners/{owner.create(f'{queue}/listeners', mode='pull')['id']}"


def pulled_places(owner: Caller, path: str) -> dict[str, int]:
    return {each["id"]: each["sequence"] for each in owner.get(f"{path}/messages?max=100&wait=5")["messages"]}


@covers("messages.md# Sequence")
def test_sequence_increases_and_is_the_same_on_every_attempt(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint()
    path, listener = listening(owner, endpoint)
    ids = [published(owner, path) for _ in range(3)]
    places = {each.headers["webhook-id"]: int(each.headers["discue-sequence"]) for each in endpoint.until(3)}
    assert [places[each] for each in ids] == sorted(set(places.values()))
    place = f"{path}/listeners/{listener['id']}"
    owner.until(place, lambda shown: shown["messages"]["acknowledged_count"] == 3)
    owner.create(f"{place}/redeliveries", messages=ids[:1])
    owner.create(f"{place}/replays", from_message=ids[1], until_message=ids[1])
    again = endpoint.until(5)[3:]
    assert {each.headers["webhook-id"]: int(each.headers["discue-sequence"]) for each in again} == {
        each: places[each] for each in ids[:2]
    }
    assert {each: owner.shown(f"{path}/messages/{each}")["sequence"] for each in ids} == places


def test_sequence_of_a_message_is_lower_than_that_of_one_published_after_its_response(owner: Caller) -> None:
    queue, path = pulling(owner)

    def publish(_number: int) -> list[str]:
        with client_at() as client:
            caller = Caller(owner.installation, client, owner.key)
            return [published(caller, queue) for _ in range(_EACH)]

    with ThreadPoolExecutor(_PUBLISHERS) as pool:
        by_publisher = list(pool.map(publish, range(_PUBLISHERS)))
    places = pulled_places(owner, path)
    assert len(set(places.values())) == _PUBLISHERS * _EACH
    for ids in by_publisher:
        assert [places[each] for each in ids] == sorted(places[each] for each in ids)


def test_pulled_message_has_the_header(owner: Caller) -> None:
    queue, path = pulling(owner)
    published(owner, queue, headers={"x-shop": "north"})
    (pulled,) = owner.get(f"{path}/messages")["messages"]
    assert pulled["headers"] == {"x-shop": "north", "discue-sequence": str(pulled["sequence"])}


def test_delayed_message_gets_its_place_when_it_is_due(owner: Caller) -> None:
    queue, path = pulling(owner)
    delayed = published(owner, queue, delay=1)
    assert "sequence" not in owner.shown(f"{queue}/messages/{delayed}")
    at_once = published(owner, queue)
    places: dict[str, int] = {}
    while len(places) < 2:
        places |= pulled_places(owner, path)
    assert places[at_once] < places[delayed]


def test_test_request_has_no_sequence(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint()
    path, listener = listening(owner, endpoint)
    owner.ask("POST", f"{path}/listeners/{listener['id']}/tests", {})
    (received,) = endpoint.until(1)
    assert "discue-sequence" not in received.headers
