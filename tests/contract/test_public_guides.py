"""The examples of the hosted service's public guides, with nothing but the base URL changed."""

import pytest

from tests.contract.caller import Caller, body, fresh
from tests.contract.reference import covers

HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}


@covers("README.md# A client in Python")
def test_guide_creates_publishes_and_deletes_by_put_and_name(owner: Caller) -> None:
    queue = body(owner.ask("PUT", "/queues", {"name": "my-first-queue"}, headers=HEADERS))["queue"]
    assert queue["name"] == queue["alias"] == "my-first-queue"
    urls = {"notify_url": "http://127.0.0.1:9/notify", "liveness_url": "http://127.0.0.1:9/live"}
    place = f"/queues/{queue['id']}"
    answer = owner.ask("PUT", f"{place}/listeners", {"name": "my-listener", **urls}, headers=HEADERS)
    listener = body(answer)["listener"]
    assert listener["alias"] == "my-listener"
    message = body(owner.ask("PUT", f"{place}/messages", {"data": "hello"}, headers=HEADERS))["message"]
    assert owner.shown(f"{place}/messages/{message['id']}")["data"] == "hello"
    for path in (f"{place}/listeners/{listener['id']}", f"{place}/messages/{message['id']}", place):
        answer = owner.ask("DELETE", path, headers=HEADERS)
        assert body(answer) == {"_links": {"self": {"href": str(answer.url)}}}
    left = owner.ask("GET", "/queues", headers=HEADERS).json()["queues"]
    assert [queue["alias"] for queue in left] == ["system/events"]


@pytest.mark.parametrize(
    "scopes",
    [
        [{"resource": "messages", "access": "write", "targets": ["*"]}],
        {"messages": {"access": "write", "targets": ["*"]}},
    ],
    ids=["list", "map"],
)
def test_scopes_as_a_list_and_as_a_map(owner: Caller, scopes: object) -> None:
    key = body(owner.ask("PUT", "/api_keys", {"name": "my-key", "scopes": scopes}, headers=HEADERS))["api_key"]
    assert key["scopes"] == {"messages": {"access": "write", "targets": ["*"]}}
    assert owner.with_key(key["key"]).get("/messages")["messages"] == []


def test_an_organization_by_its_older_name(operator: Caller) -> None:
    alias = f"org.example.{fresh()}"
    made = body(operator.ask("PUT", "/api_clients", {"name": alias}, headers=HEADERS))["api_client"]
    assert operator.get(f"/api_clients/{made['id']}")["api_client"]["name"] == alias
    operator.delete(f"/api_clients/{made['id']}")
