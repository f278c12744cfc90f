"""The examples of the hosted service's public guides, with nothing but the base URL changed."""

import pytest

from tests.contract.caller import Caller, body, fresh
from tests.contract.reference import covers

HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}


@covers("README.md# A client in Python")
def test_headers_as_the_guide_gives_them(owner: Caller) -> None:
    assert owner.ask("GET", "/queues", headers=HEADERS).status_code == 200


def test_an_unsuccessful_authentication(operator: Caller) -> None:
    content = operator.with_key(None).ask("GET", "/queues", headers=HEADERS).json()
    assert (content["title"], content["status"]) == ("Unauthorized", 401)


def test_put_creates_and_name_is_the_alias(owner: Caller) -> None:
    queue = body(owner.ask("PUT", "/queues", {"name": "my-first-queue"}, headers=HEADERS))["queue"]
    assert queue["name"] == queue["alias"] == "my-first-queue"
    urls = {"notify_url": "http://127.0.0.1:9/notify", "liveness_url": "http://127.0.0.1:9/live"}
    place = f"/queues/{queue['id']}"
    listener = body(owner.ask("PUT", f"{place}/listeners", {"name": "my-listener", **urls}, headers=HEADERS))[
        "listener"
    ]
    assert listener["alias"] == "my-listener"
    message = body(owner.ask("PUT", f"{place}/messages", {"data": "hello"}, headers=HEADERS))["message"]
    assert owner.shown(f"{place}/messages/{message['id']}")["data"] == "hello"


def test_put_with_no_body_and_a_content_length_of_zero(owner: Caller) -> None:
    assert owner.ask("PUT", "/queues", headers={**HEADERS, "Content-Length": "0"}).json()["queue"]["id"]


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


def test_deletion_is_answered_with_links(owner: Caller) -> None:
    place = f"/queues/{owner.create('/queues')['id']}"
    listener = owner.create(f"{place}/listeners", notify_url="http://127.0.0.1:9/", liveness_url="http://127.0.0.1:9/")
    message = owner.create(f"{place}/messages", data="x")
    for path in (f"{place}/listeners/{listener['id']}", f"{place}/messages/{message['id']}", place):
        answer = owner.ask("DELETE", path, headers=HEADERS)
        assert body(answer) == {"_links": {"self": {"href": str(answer.url)}}}


def test_an_organization_by_its_older_name(operator: Caller) -> None:
    alias = f"org.example.{fresh()}"
    made = body(operator.ask("PUT", "/api_clients", {"name": alias}, headers=HEADERS))["api_client"]
    assert operator.get(f"/api_clients/{made['id']}")["api_client"]["name"] == alias
    operator.delete(f"/api_clients/{made['id']}")


def test_pages_as_the_guide_gives_them(owner: Caller) -> None:
    for _ in range(3):
        owner.create("/queues")
    assert len(owner.get("/queues?page=2&per_page=2")["queues"]) == 1
    assert owner.get("/users?page=2&per_page=100")["users"] == []


def test_the_rate_limit_is_in_all_responses(owner: Caller) -> None:
    for answer in (owner.ask("GET", "/queues"), owner.ask("GET", "/nothing"), owner.ask("POST", "/queues", {"x": 1})):
        assert all(answer.headers[f"X-RateLimit-{name}"].isdigit() for name in ("Limit", "Remaining", "Reset"))


def test_all_requests_without_a_version_are_v1(owner: Caller) -> None:
    assert owner.get("/v1/queues")["queues"] == owner.get("/queues")["queues"]


@pytest.mark.parametrize("word", ["alias", "name"])
def test_terraform_provider_reads_back_its_values(owner: Caller, word: str) -> None:
    made = owner.create("/queues", **{word: "from-terraform"})
    assert owner.shown(f"/queues/{made['id']}") == made
    renamed = owner.change(f"/queues/{made['id']}", **{word: "renamed-by-it"})
    assert owner.shown(f"/queues/{made['id']}")["name"] == renamed["name"] == "renamed-by-it"
    owner.delete(f"/queues/{made['id']}")
    owner.refused(404, "GET", f"/queues/{made['id']}")
