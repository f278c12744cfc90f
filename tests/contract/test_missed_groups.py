"""Groups of missed messages, and redeliveries of a group."""

from collections.abc import Mapping, Sequence
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
    owner: Caller, receiver: Receiver, replies: Sequence[Reply], **options: Any
) -> tuple[Endpoint, str, list[str]]:
    """A listener that missed a message for each of the replies, and acknowledges everything from then on."""
    endpoint = receiver.endpoint(*replies, Reply(200))
    path, listener = listening(owner, endpoint, max_in_flight=1)
    place = f"{path}/listeners/{listener['id']}"
    ids = []
    for number, _ in enumerate(replies, 1):
        ids.append(owner.create(f"{path}/messages", data=str(number), **options)["id"])
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
