"""Queues of customers: the customer is fixed at creation, and the queue's listeners belong to the same one."""

from typing import Any

import pytest

from tests.contract.caller import Caller, pointers
from tests.contract.reference import covers
from tests.contract.world import NOWHERE

ACME = "/queues/customers%2Facme"


@covers("queues.md# Customers")
def test_queue_of_a_customer_is_created_by_put_and_keeps_its_customer(owner: Caller) -> None:
    made = owner.change(ACME, customer="acme")
    assert (made["alias"], made["customer"]) == ("customers/acme", "acme")
    assert owner.change(ACME, customer="acme", retention=60)["customer"] == "acme"
    assert owner.change(ACME, retention=None)["customer"] == "acme"
    assert owner.shown(ACME)["customer"] == "acme"
    for other in ("globex", None):
        refused = owner.refused(422, "PUT", ACME, {"customer": other})
        assert (pointers(refused), refused["code"]) == (["/customer"], "immutable_field")
        assert "create another queue for that customer" in refused["detail"]


@pytest.mark.parametrize("given", [{}, {"customer": None}])
def test_queue_without_a_customer_gets_none_later(owner: Caller, given: dict[str, Any]) -> None:
    path = f"/queues/{owner.create('/queues', **given)['id']}"
    assert "customer" not in owner.shown(path)
    assert "customer" not in owner.change(path, **given)
    assert pointers(owner.refused(422, "PUT", path, {"customer": "acme"})) == ["/customer"]


@pytest.mark.parametrize("customer", ["x" * 129, " acme", "a\nb", "a\u0000b"])
def test_malformed_customer_of_a_queue_is_refused(owner: Caller, customer: str) -> None:
    refused = owner.refused(422, "POST", "/queues", {"customer": customer})
    assert pointers(refused) == ["/customer"]
    assert "at most 128 printable characters" in refused["detail"]


def test_empty_customer_is_refused_for_queues_and_listeners(owner: Caller) -> None:
    path = f"/queues/{owner.create('/queues')['id']}"
    listener = f"{path}/listeners/{owner.create(f'{path}/listeners', **NOWHERE)['id']}"
    for method, place, fields in (
        ("POST", "/queues", {}),
        ("PUT", path, {}),
        ("POST", f"{path}/listeners", NOWHERE),
        ("PUT", listener, {}),
    ):
        refused = owner.refused(422, method, place, {**fields, "customer": ""})
        assert pointers(refused) == ["/customer"]
        assert "send null for no customer" in refused["detail"]


@pytest.mark.parametrize("customer", ["x" * 128, "Ä & Søn", "/", "0"])
def test_customer_comes_back_as_it_was_sent(owner: Caller, customer: str) -> None:
    made = owner.create("/queues", customer=customer)
    assert owner.shown(f"/queues/{made['id']}")["customer"] == customer


def test_customer_of_the_system_queue_cannot_be_set(owner: Caller) -> None:
    assert pointers(owner.refused(422, "PUT", "/queues/system%2Fevents", {"customer": "acme"})) == ["/customer"]


def test_listener_of_a_queue_belongs_to_its_customer(owner: Caller) -> None:
    owner.change(ACME, customer="acme")
    for given in ({}, {"customer": None}, {"customer": "acme"}):
        assert owner.create(f"{ACME}/listeners", **NOWHERE, **given)["customer"] == "acme"
    path = f"{ACME}/listeners/billing"
    assert owner.change(path, **NOWHERE)["customer"] == "acme"
    for unchanged in ({}, {"customer": None}, {"customer": "acme"}):
        assert owner.change(path, **unchanged)["customer"] == "acme"
    for method, place in (("POST", f"{ACME}/listeners"), ("PUT", f"{ACME}/listeners/new"), ("PUT", path)):
        refused = owner.refused(422, method, place, {**NOWHERE, "customer": "globex"})
        assert (pointers(refused), refused["code"]) == (["/customer"], "conflicting_fields")
        assert 'must be "acme", the customer of the queue: leave it out' in refused["detail"]
    assert owner.shown(path)["customer"] == "acme"


def test_listener_of_a_shared_queue_has_any_customer_or_none(owner: Caller) -> None:
    path = f"/queues/{owner.create('/queues')['id']}/listeners"
    made = [owner.create(path, **NOWHERE, customer=customer)["id"] for customer in ("acme", "globex")]
    made.append(owner.create(path, **NOWHERE)["id"])
    assert "customer" not in owner.shown(f"{path}/{made[2]}")
    assert owner.change(f"{path}/{made[0]}", customer="initech")["customer"] == "initech"
    assert "customer" not in owner.change(f"{path}/{made[0]}", customer=None)


@covers("lists.md# Customers", "lists.md: customer")
@pytest.mark.parametrize("name", ["queues", "listeners"])
def test_list_is_filtered_by_customer(owner: Caller, name: str) -> None:
    for _ in range(3):
        for customer in ("acme", "globex", None):
            queue = owner.create("/queues", customer=customer)["id"]
            owner.create(f"/queues/{queue}/listeners", **NOWHERE)

    def ids(query: str) -> list[str]:
        return [each["id"] for each in owner.get(query if "?" in query else f"/{name}?{query}")[name]]

    everything = owner.get(f"/{name}?per_page=100")[name]
    for customer in ("acme", "globex"):
        expected = [each["id"] for each in everything if each.get("customer") == customer]
        mine = f"customer={customer}"
        assert (len(expected), ids(mine)) == (3, expected)
        assert ids(f"{mine}&per_page=2") == expected[:2] == ids(f"{mine}&before={expected[2]}")
        assert ids(f"{mine}&page=2&per_page=2") == expected[2:] == ids(f"{mine}&after={expected[1]}")
        following = owner.get(f"/{name}?{mine}&per_page=2")["_links"]["next"]["href"]
        assert (ids(following), mine in following) == (expected[2:], True)
        assert ids(f"{mine}&alias={expected[1]}") == [expected[1]]
        queue = next(each for each in everything if each["id"] == expected[0])
        owner.delete(f"/queues/{queue.get('queue_id', queue['id'])}")
        assert ids(mine) == expected[1:]
    assert ids("customer=initech") == []
    for query in ("customer=", f"customer={'x' * 129}", "customer=acme&customer=globex"):
        assert pointers(owner.refused(400, "GET", f"/{name}?{query}")) == ["?customer"]


def test_key_with_targets_filters_its_own_queues_by_customer(owner: Caller) -> None:
    ours, theirs, other = [owner.create("/queues", customer=customer)["id"] for customer in ("acme", "acme", "globex")]
    scopes = {"queues": {"access": "read", "targets": [ours, other]}}
    reader = owner.with_key(owner.create("/api_keys", scopes=scopes)["key"])
    found = [each["id"] for each in reader.get("/queues?customer=acme")["queues"]]
    assert (found, theirs in found) == ([ours], False)
