"""Any sequence of calls leaves the service as a small model of it says, on both engines."""

import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.api.serving import Service, served
from tests.databases import ENGINE_NAMES, new_database
from tests.fuzz.model import Collection, Item, Organization

SEQUENCES = int(os.environ.get("FUZZ_CASES", "0")) // 50
"""How many sequences a long run makes, other ones each time; 0 for a short run, which is always the same."""

_SHORT = 15
_STEPS = 30

who = st.sampled_from([0, 1])
which = st.integers(0, 1_000)
aliases = st.sampled_from([None, "orders", "orders", "bills", "a/b.c-d_e"])


@pytest.fixture(scope="module", params=ENGINE_NAMES)
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("model")
    with (
        new_database(request, request.param, folder) as database,
        served(folder, database=database, rate_limit=0, address_rate_limit=0) as running,
    ):
        yield running


def test_the_service_is_as_its_model_says(service: Service) -> None:
    profile = settings(
        max_examples=SEQUENCES or _SHORT,
        stateful_step_count=_STEPS,
        derandomize=not SEQUENCES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )

    class CallsToThis(Calls):
        def __init__(self) -> None:
            super().__init__(service)

    run_state_machine_as_test(CallsToThis, settings=profile)


def require(answer: httpx.Response, status: int) -> Any:
    """The body of an answer that has this status."""
    told = f"{answer.request.method} {answer.url}: {answer.status_code} {answer.text[:500]}"
    assert answer.status_code == status, told
    return answer.json()


class Calls(RuleBasedStateMachine):
    """Calls to the service, and what the model says of their answers."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self.service = service
        self.operator = service.client(service.operator)
        self.models: list[Organization] = []
        self.clients: list[httpx.Client] = []
        self.keys = 0
        self.looks = 0

    @initialize()
    def two_organizations(self) -> None:
        for number in range(2):
            answer = require(self.operator.post("/organizations"), 200)
            self._begin(number, answer)
            self.create(number, 0, "orders", "POST")
            for place in (2, 3):
                self.create(number, place, None, "PUT")

    def _begin(self, number: int, answer: Any) -> None:
        made = Organization(answer["organization"]["id"], answer["organization"]["alias"])
        first = answer["api_key"]
        made.add(Collection("/queues", "queue", "queues"))
        made.add(Collection("/api_keys", "api_key", "api_keys", [Item(first["id"], first["alias"])]))
        self.models[number : number + 1] = [made]
        self.clients[number : number + 1] = [self.service.client(first["key"])]

    def _collection(self, organization: int, place: int) -> Collection:
        known = list(self.models[organization].collections.values())
        return known[place % len(known)]

    def _item(self, organization: int, number: int) -> tuple[Collection, Item]:
        """Not the first key: it is the one that calls."""
        collections = self.models[organization].collections.values()
        items = [(each, item) for each in collections for item in each.items[each.plural == "api_keys" :]]
        assume(items)
        return items[number % len(items)]

    @rule(organization=who, place=which, alias=aliases, method=st.sampled_from(["POST", "PUT"]))
    def create(self, organization: int, place: int, alias: str | None, method: str) -> None:
        collection = self._collection(organization, place)
        answer = self.clients[organization].request(method, collection.path, json=collection.body(alias))
        self._created(organization, collection, alias, answer)

    def _created(self, organization: int, collection: Collection, alias: str | None, answer: httpx.Response) -> None:
        if not collection.takes(alias):
            assert require(answer, 422)["errors"][0]["pointer"] == "/alias"
            return
        shown = require(answer, 200)[collection.singular]
        item = Item(shown["id"], alias or shown["id"])
        assert shown["alias"] == shown["name"] == item.alias
        self.models[organization].created(collection, item)
        self._reads(organization, collection, item)

    def _reads(self, organization: int, collection: Collection, item: Item) -> httpx.Response:
        """What was confirmed is seen at once."""
        answer = self.clients[organization].get(f"{collection.path}/{item.id}")
        shown = require(answer, 200)[collection.singular]
        assert (shown["id"], shown["alias"]) == (item.id, item.alias)
        return answer

    @rule(organization=who, place=which, alias=aliases)
    def create_twice_with_one_idempotency_key(self, organization: int, place: int, alias: str | None) -> None:
        collection, client = self._collection(organization, place), self.clients[organization]
        self.keys += 1
        headers, body = {"idempotency-key": f"key-{self.keys}"}, collection.body(alias)
        may_be = collection.takes(alias)
        first = client.post(collection.path, json=body, headers=headers)
        self._created(organization, collection, alias, first)
        again = client.post(collection.path, json=body, headers=headers)
        assert again.status_code == first.status_code
        if may_be:
            assert again.headers["idempotency-replayed"] == "true"
            assert again.json()[collection.singular]["id"] == first.json()[collection.singular]["id"]
            require(client.post(collection.path, json=collection.body("other"), headers=headers), 422)

    @rule(organization=who, number=which, alias=aliases.filter(bool))
    def change(self, organization: int, number: int, alias: str) -> None:
        collection, item = self._item(organization, number)
        answer = self.clients[organization].put(f"{collection.path}/{item.id}", json={"alias": alias})
        if not collection.takes(alias, item):
            require(answer, 422)
        else:
            assert require(answer, 200)[collection.singular]["alias"] == alias
            item.alias = alias
        self._reads(organization, collection, item)

    @rule(organization=who, number=which)
    def change_and_delete_what_somebody_else_changed(self, organization: int, number: int) -> None:
        collection, item = self._item(organization, number)
        client, path = self.clients[organization], f"{collection.path}/{item.id}"
        seen = {"if-match": self._reads(organization, collection, item).headers["etag"]}
        item.alias = f"changed-{item.marks}-{item.id[-8:]}"
        item.marks += 1
        require(client.put(path, json={"alias": item.alias}, headers=seen), 200)
        require(client.put(path, json={"alias": "too-late"}, headers=seen), 412)
        require(client.delete(path, headers=seen), 412)
        self._reads(organization, collection, item)

    @rule(organization=who, number=which, replaced=st.booleans())
    def delete(self, organization: int, number: int, *, replaced: bool) -> None:
        """The alias is free at once: another one may be called so."""
        collection, item = self._item(organization, number)
        client = self.clients[organization]
        assert require(client.delete(f"{collection.path}/{item.id}"), 200).keys() == {"_links"}
        self.models[organization].deleted(collection, item)
        require(client.delete(f"{collection.path}/{item.id}"), 404)
        if replaced and item.alias != item.id:
            answer = client.post(collection.path, json=collection.body(item.alias))
            self._created(organization, collection, item.alias, answer)

    @rule(organization=who, alias=aliases)
    def use_a_narrow_key(self, organization: int, alias: str | None) -> None:
        collection = self.models[organization].collections["/api_keys"]
        assume(collection.takes(alias))
        answer = self.clients[organization].post("/api_keys", json=collection.body(alias))
        self._created(organization, collection, alias, answer)
        narrow = self.service.client(answer.json()["api_key"]["key"])
        shown = require(narrow.get("/queues?per_page=100"), 200)["queues"]
        assert [queue["id"] for queue in shown] == self.models[organization].collections["/queues"].newest_first()
        require(narrow.post("/queues", json={}), 403)
        require(narrow.get("/api_keys"), 403)
        require(self.clients[organization].delete(f"/api_keys/{collection.items[-1].id}"), 200)
        self.models[organization].deleted(collection, collection.items[-1])
        require(narrow.get("/queues"), 401)

    @rule(organization=who, number=which, method=st.sampled_from(["GET", "PUT", "DELETE"]))
    def somebody_else_tries(self, organization: int, number: int, method: str) -> None:
        collection, item = self._item(organization, number)
        body: dict[str, Any] | None = {} if method == "PUT" else None
        require(self.clients[1 - organization].request(method, f"{collection.path}/{item.id}", json=body), 404)

    @precondition(lambda self: any(model.gone for model in self.models))
    @rule(number=which, method=st.sampled_from(["GET", "PUT", "DELETE"]))
    def use_after_deletion(self, number: int, method: str) -> None:
        gone = [(place, path) for place, model in enumerate(self.models) for path in model.gone]
        organization, path = gone[number % len(gone)]
        is_collection = path.endswith(("/listeners", "/messages"))
        assume(not is_collection or method == "GET")
        require(self.clients[organization].request(method, path, json={} if method == "PUT" else None), 404)

    @rule(organization=who)
    def delete_an_organization(self, organization: int) -> None:
        """Its key is void, and its alias free."""
        model, client = self.models[organization], self.clients[organization]
        assume(len(model.collections["/queues"].items) > 1)
        require(self.operator.delete(f"/organizations/{model.id}"), 200)
        require(self.operator.get(f"/organizations/{model.id}"), 404)
        require(client.get("/queues"), 401)
        self._begin(organization, require(self.operator.post("/organizations", json={"alias": model.alias}), 200))

    @rule(organization=who, place=which, per_page=st.integers(1, 4))
    def walk_through_a_list(self, organization: int, place: int, per_page: int) -> None:
        collection, client = self._collection(organization, place), self.clients[organization]
        found: list[str] = []
        following: str | None = f"{collection.path}?per_page={per_page}"
        while following is not None:
            answer = require(client.get(following), 200)
            assert len(answer[collection.plural]) <= per_page
            found += [shown["id"] for shown in answer[collection.plural]]
            following = answer["_links"].get("next", {}).get("href")
        assert found == collection.newest_first()

    @rule(organization=who, number=which)
    def find_by_alias(self, organization: int, number: int) -> None:
        collection, item = self._item(organization, number)
        wanted = [each.id for each in reversed(collection.items) if each.alias == item.alias][:10]
        answer = self.clients[organization].get(collection.path, params={"alias": item.alias})
        assert [shown["id"] for shown in require(answer, 200)[collection.plural]] == wanted

    @rule(organization=who)
    def count(self, organization: int) -> None:
        model = self.models[organization]
        for queue in require(self.clients[organization].get("/queues?per_page=100"), 200)["queues"]:
            assert queue["messages"]["published_count"] == model.published[queue["id"]]
            references = model.collections[f"/queues/{queue['id']}/listeners"].items
            assert [each["id"] for each in queue["listeners"]] == [item.id for item in references]

    @invariant()
    def a_list_is_as_the_model_says(self) -> None:
        """One of them after each call, in turns."""
        if len(self.models) < 2:
            return
        self.looks += 1
        organization, plural = self.looks % 2, ("queues", "listeners", "messages", "api_keys")[self.looks // 2 % 4]
        shown = require(self.clients[organization].get(f"/{plural}?per_page=100"), 200)[plural]
        known = self.models[organization].all_of(plural)
        assert [(each["id"], each["alias"]) for each in shown] == [(item.id, item.alias) for item in known][:100]
