"""Messages that are pulled: leased to one at a time, and what is said of them."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.contract.caller import Caller, body, client_at, pointers
from tests.contract.reference import covers
from tests.contract.world import NOWHERE

# A message is leased once, whichever worker is asked.
SETTINGS_MEANT = ("three workers",)

LISTENER = "/queues/{queue_id}/listeners/{listener_id}"
_TURNS = 3
NO_RECEIPT = "0" * 21 + "1"


def _pulling(owner: Caller, *, ordered: bool = False, **fields: Any) -> tuple[str, str]:
    """The addresses of a queue and of a listener of it."""
    queue = f"/queues/{owner.create('/queues', ordered=ordered)['id']}"
    return queue, f"{queue}/listeners/{owner.create(f'{queue}/listeners', mode='pull', **fields)['id']}"


def _pulled(owner: Caller, path: str, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = owner.get(f"{path}/messages{query}")["messages"]
    return found


def _waited_for(owner: Caller, path: str) -> list[dict[str, Any]]:
    """Pull until messages arrive: a long poll may return nothing if its worker is disturbed."""
    for _ in range(_TURNS):
        if pulled := _pulled(owner, path, "?wait=20&max=1"):
            return pulled
    return []


def _say(owner: Caller, path: str, **content: Any) -> list[str]:
    answer = body(owner.ask("POST", f"{path}/acknowledgements", content))
    return [each["state"] for each in answer["receipts"]]


def _receipts(pulled: list[dict[str, Any]]) -> list[str]:
    return [each["receipt"] for each in pulled]


@covers(
    f"GET {LISTENER}/messages 200",
    "pulling.md# Pull messages",
    "pulling.md: max",
    f"POST {LISTENER}/acknowledgements 200",
    "pulling.md# Acknowledge",
    "pulling.md: acknowledged",
    "pulling.md: settled",
)
def test_messages_are_handed_out_once_and_are_done_when_they_are_acknowledged(owner: Caller) -> None:
    queue, path = _pulling(owner)
    ids = [owner.create(f"{queue}/messages", data={"n": number})["id"] for number in range(3)]
    first = _pulled(owner, path, "?max=2")
    assert [each["id"] for each in first] == ids[:2]
    assert [(each["data"], each["content_type"], each["attempt"]) for each in first] == [
        (f'{{"n":{number}}}', "application/json", 1) for number in range(2)
    ]
    assert [each["id"] for each in _pulled(owner, path)] == ids[2:]
    assert _pulled(owner, path) == []
    assert owner.shown(path)["messages"]["pending_count"] == 3
    assert _say(owner, path, acknowledge=_receipts(first)) == ["acknowledged"] * 2
    assert _say(owner, path, acknowledge=_receipts(first)) == ["settled"] * 2
    counts = owner.shown(path)["messages"]
    assert (counts["acknowledged_count"], counts["pending_count"]) == (2, 1)


@covers("pulling.md: rejected", "pulling.md: released", "pulling.md: extended", "pulling.md: expired")
def test_undone_message_is_leased_again(owner: Caller) -> None:
    queue, path = _pulling(owner, retry={"schedule": [1], "jitter": 0, "attempts": 3})
    owner.create(f"{queue}/messages", data="x")
    (given_back,) = _receipts(_pulled(owner, path))
    assert _say(owner, path, release=[given_back]) == ["released"]
    (late,) = _pulled(owner, path)
    assert (late["attempt"], late["content_type"]) == (1, "text/plain; charset=utf-8")
    assert _say(owner, path, extend=[late["receipt"]], lease_seconds=2) == ["extended"]
    (again,) = _pulled(owner, path, "?wait=20")
    assert again["attempt"] == 2
    assert _say(owner, path, acknowledge=[late["receipt"]], reject=[again["receipt"]]) == ["expired", "rejected"]
    errors = [each["error"] for each in owner.get(f"{path}/attempts")["attempts"]]
    assert errors == ["rejected", "lease_expired"]
    (last,) = _pulled(owner, path, "?wait=20")
    assert (last["attempt"], _say(owner, path, acknowledge=[last["receipt"]])) == (3, ["acknowledged"])


def test_message_rejected_to_the_last_attempt_is_missed_and_redelivered(owner: Caller) -> None:
    queue, path = _pulling(owner, retry={"attempts": 1})
    message = owner.create(f"{queue}/messages", data="x")["id"]
    assert _say(owner, path, reject=_receipts(_pulled(owner, path))) == ["rejected"]
    assert owner.shown(path)["messages"]["missed"] == [message]
    owner.create(f"{path}/redeliveries", all=True)
    assert [each["id"] for each in _pulled(owner, path, "?wait=10")] == [message]


@covers("pulling.md: wait")
def test_long_poll_gets_messages_published_on_any_worker(owner: Caller) -> None:
    queue, path = _pulling(owner)
    with ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(_waited_for, owner, path) for _ in range(3)]
        ids = {owner.create(f"{queue}/messages", data="x")["id"] for _ in range(3)}
        assert {each["id"] for got in waiting for each in got.result()} == ids


def test_long_poll_gets_a_delayed_message_when_it_is_due(owner: Caller) -> None:
    queue, path = _pulling(owner)
    message = owner.create(f"{queue}/messages", data="x", delay=1)["id"]
    assert [each["id"] for each in _pulled(owner, path, "?wait=20")] == [message]


def test_messages_of_a_key_are_leased_one_at_a_time(owner: Caller) -> None:
    queue, path = _pulling(owner, ordered=True)
    ids = [owner.create(f"{queue}/messages", data="x", key=key)["id"] for key in ("a", "a", "b")]
    first = _pulled(owner, path)
    assert [each["id"] for each in first] == [ids[0], ids[2]]
    assert _pulled(owner, path) == []
    _say(owner, path, acknowledge=_receipts(first))
    assert [each["id"] for each in _pulled(owner, path)] == [ids[1]]


@covers(f"GET {LISTENER}/messages 409", f"POST {LISTENER}/acknowledgements 409")
def test_only_an_enabled_listener_in_the_mode_pull_hands_messages_out(owner: Caller) -> None:
    queue, path = _pulling(owner, status="disabled")
    owner.refused(409, "GET", f"{path}/messages")
    pushed = f"{queue}/listeners/{owner.create(f'{queue}/listeners', **NOWHERE)['id']}"
    owner.refused(409, "GET", f"{pushed}/messages")
    owner.refused(409, "POST", f"{pushed}/acknowledgements", {"acknowledge": [NO_RECEIPT]})
    owner.refused(409, "POST", f"{path}/replays", {"from_at": 0})


@covers("listeners.md: lease_seconds")
def test_a_listener_in_the_mode_pull_has_neither_urls_nor_a_secret(owner: Caller) -> None:
    queue, path = _pulling(owner, lease_seconds=60, max_in_flight=7)
    shown = owner.shown(path)
    assert not {"notify_url", "liveness_url", "secret"} & shown.keys()
    assert (shown["mode"], shown["liveness"]["state"]) == ("pull", "unknown")
    assert (shown["effective"]["lease_seconds"], shown["effective"]["max_in_flight"]) == (60, 7)
    for name, value in ({**NOWHERE, "timeout": 5, "headers": {"x-a": "1"}, "format": "plain"}).items():
        assert pointers(owner.refused(422, "PUT", path, {name: value})) == [f"/{name}"]
        fields = {"mode": "pull", name: value}
        assert pointers(owner.refused(422, "POST", f"{queue}/listeners", fields)) == [f"/{name}"]
    assert pointers(owner.refused(422, "PUT", path, {"mode": "push"})) == ["/mode"]
    assert pointers(owner.refused(422, "POST", f"{queue}/listeners", {"mode": "both"})) == ["/mode"]
    push = {**NOWHERE, "lease_seconds": 60}
    assert pointers(owner.refused(422, "POST", f"{queue}/listeners", push)) == ["/lease_seconds"]
    owner.refused(422, "POST", f"{path}/secrets", {})
    assert pointers(owner.refused(422, "POST", f"{path}/tests", {})) == ["/notify_url"]


@covers(f"POST {LISTENER}/acknowledgements 422", f"GET {LISTENER}/messages 400")
@pytest.mark.parametrize(
    ("content", "pointer"),
    [
        ({}, ""),
        ({"acknowledge": []}, ""),
        ({"acknowledge": ["x"]}, "/acknowledge/0"),
        ({"acknowledge": [NO_RECEIPT], "reject": [NO_RECEIPT]}, "/reject/0"),
        ({"release": [NO_RECEIPT], "delay": -1}, "/delay"),
        ({"extend": [NO_RECEIPT], "lease_seconds": 0}, "/lease_seconds"),
    ],
)
def test_invalid_receipt_handle_or_range_is_refused(owner: Caller, content: dict[str, Any], pointer: str) -> None:
    _, path = _pulling(owner)
    assert pointers(owner.refused(422, "POST", f"{path}/acknowledgements", content)) == [pointer]
    for query in ("max=0", "max=101", "wait=-1", "wait=61", "wait=x"):
        (place,) = pointers(owner.refused(400, "GET", f"{path}/messages?{query}"))
        assert place == f"?{query.partition('=')[0]}"


@covers("pulling.md# Server-sent events")
def test_messages_come_as_events(owner: Caller) -> None:
    queue, path = _pulling(owner)
    message = owner.create(f"{queue}/messages", data="x")["id"]
    url = f"{owner.installation.urls[0]}{path}/messages"
    headers = {"X-API-KEY": str(owner.key), "Accept": "text/event-stream"}
    with client_at() as client, client.stream("GET", url, headers=headers) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        event = next(line for line in answer.iter_lines() if line.startswith("data: "))
    assert json.loads(event.removeprefix("data: "))["id"] == message


def test_head_hands_nothing_out(owner: Caller) -> None:
    queue, path = _pulling(owner)
    owner.create(f"{queue}/messages", data="x")
    assert owner.ask("HEAD", f"{path}/messages").status_code == 200
    assert len(_pulled(owner, path)) == 1
