"""Calls that every kind of resource has, checked against the model."""

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any, cast

import httpx
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from discue.domain.system_events import SYSTEM_QUEUE_ALIAS
from tests.fuzz.model.collection import Collection, Item
from tests.fuzz.model.organization import Organization
from tests.support.served_api import Service

LISTS = ("queues", "listeners", "messages", "api_keys", "domains", "users")

who = st.sampled_from([0, 1])
which = st.integers(0, 1_000)
variants = st.integers(0, 76)
aliases = st.sampled_from([None, "orders", "orders", "bills", "a/b.c-d_e"])


class NothingThere(Exception):
    """The model has no resource for this call."""


def need(what: object) -> None:
    """Ends a call, and not the whole sequence, for which nothing is there."""
    if not what:
        raise NothingThere


_Decorator = Callable[[Callable[..., None]], Callable[..., None]]
_rule = cast("Callable[..., _Decorator]", rule)


def call(**strategies: st.SearchStrategy[Any]) -> _Decorator:
    """A step of a sequence, with a strategy for each of its arguments."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def made(*given: object, **drawn: object) -> None:
            with suppress(NothingThere):
                function(*given, **drawn)

        return _rule(**strategies)(made)

    return decorate


def require(answer: httpx.Response, status: int) -> Any:
    """Return the body of a response. Asserts its status."""
    told = f"{answer.request.method} {answer.url}: {answer.status_code} {answer.text[:500]}"
    assert answer.status_code == status, told
    return answer.json()


def without_system_queue(shown: list[Any]) -> list[Any]:
    """Return what a list shows, except the queue of system events: the model has only what clients made."""
    return [each for each in shown if each["alias"] != SYSTEM_QUEUE_ALIAS]


def listed(answer: httpx.Response, plural: str) -> list[Any]:
    """Return what a list shows, except the queue of system events."""
    return without_system_queue(require(answer, 200)[plural])


def require_refused(answer: httpx.Response, places: set[str]) -> None:
    """A 422 that names some of the places, and no other ones."""
    named = {error["pointer"] for error in require(answer, 422)["errors"]}
    assert named, answer.text
    assert all(any(f"{name}/".startswith(f"{place}/") for place in places) for name in named), (named, places)


class Calls(RuleBasedStateMachine):
    """Calls to the service, each checked against the model."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self.service = service
        self.operator = service.client(service.operator)
        self.models: list[Organization] = []
        self.clients: list[httpx.Client] = []
        self.keys = 0  # of idempotency
        self.looks = 0

    @initialize()
    def two_organizations(self) -> None:
        for number in range(2):
            answer = require(self.operator.post("/organizations"), 200)
            self._begin(number, answer)
            self.create(number, 0, "orders", "POST", 0)
            for place in (2, 3, 4, 5):
                self.create(number, place, None, "PUT", 0)

    def _begin(self, number: int, answer: Any) -> None:
        made = Organization(answer["organization"]["id"], answer["organization"]["alias"])
        first = answer["api_key"]
        made.collections["/api_keys"].items.append(Item(first["id"], first["alias"]))
        self.models[number : number + 1] = [made]
        self.clients[number : number + 1] = [self.service.client(first["key"])]

    def _collection(self, organization: int, place: int) -> Collection:
        known = list(self.models[organization].collections.values())
        return known[place % len(known)]

    def _item(self, organization: int, number: int) -> tuple[Collection, Item]:
        """Not the first key: it is the one that calls."""
        collections = self.models[organization].collections.values()
        items = [(each, item) for each in collections for item in each.items[each.plural == "api_keys" :]]
        need(items)
        return items[number % len(items)]

    @call(
        organization=who,
        place=which,
        alias=aliases,
        method=st.sampled_from(["POST", "PUT"]),
        variant=variants,
    )
    def create(self, organization: int, place: int, alias: str | None, method: str, variant: int) -> None:
        collection = self._collection(organization, place)
        body = collection.body(collection.called(alias), variant)
        answer = self.clients[organization].request(method, collection.path, json=body)
        self._created(organization, collection, body, answer)

    def _created(
        self, organization: int, collection: Collection, body: dict[str, Any], answer: httpx.Response
    ) -> Item | None:
        if places := self.models[organization].refusals(collection, body):
            require_refused(answer, places)
            return None
        item = collection.made(body, require(answer, 200))
        self.models[organization].created(collection, item)
        self._reads(organization, collection, item)
        return item

    def _reads(self, organization: int, collection: Collection, item: Item) -> httpx.Response:
        """Read a resource: a confirmed change is visible at once."""
        answer = self.clients[organization].get(f"{collection.path}/{item.id}")
        collection.require_shown(item, require(answer, 200)[collection.singular])
        return answer

    @call(organization=who, place=which, alias=aliases, variant=variants)
    def create_twice_with_one_idempotency_key(
        self, organization: int, place: int, alias: str | None, variant: int
    ) -> None:
        collection, client = self._collection(organization, place), self.clients[organization]
        self.keys += 1
        headers, body = {"idempotency-key": f"key-{self.keys}"}, collection.body(collection.called(alias), variant)
        first = client.post(collection.path, json=body, headers=headers)
        is_made = self._created(organization, collection, body, first) is not None
        again = client.post(collection.path, json=body, headers=headers)
        assert again.status_code == first.status_code
        if is_made:
            assert again.headers["idempotency-replayed"] == "true"
            assert again.json()[collection.singular]["id"] == first.json()[collection.singular]["id"]
            assert "token" not in again.json().get("invitation", {})
            other = collection.body(collection.called("other"), variant)
            require(client.post(collection.path, json=other, headers=headers), 422)

    @call(organization=who, number=which, alias=aliases.filter(bool))
    def change(self, organization: int, number: int, alias: str) -> None:
        collection, item = self._item(organization, number)
        body = {collection.handle: collection.called(alias)}
        answer = self.clients[organization].put(f"{collection.path}/{item.id}", json=body)
        if not collection.takes(body[collection.handle], item):
            require_refused(answer, {f"/{collection.handle}"})
        else:
            item.alias = str(body[collection.handle])
            assert require(answer, 200)[collection.singular]["alias"] == item.alias
        self._reads(organization, collection, item)

    @call(organization=who, number=which)
    def change_and_delete_what_somebody_else_changed(self, organization: int, number: int) -> None:
        collection, item = self._item(organization, number)
        client, path = self.clients[organization], f"{collection.path}/{item.id}"
        seen = {"if-match": self._reads(organization, collection, item).headers["etag"]}
        item.alias = str(collection.called(f"changed-{item.marks}-{item.id[-8:]}"))
        item.marks += 1
        require(client.put(path, json={collection.handle: item.alias}, headers=seen), 200)
        require(client.put(path, json={collection.handle: collection.called("too-late")}, headers=seen), 412)
        require(client.delete(path, headers=seen), 412)
        self._reads(organization, collection, item)

    @call(organization=who, number=which, replaced=st.booleans())
    def delete(self, organization: int, number: int, *, replaced: bool) -> None:
        """The alias is free at once: another one may be called so."""
        collection, item = self._item(organization, number)
        client = self.clients[organization]
        if collection.keeps(item):
            require(client.delete(f"{collection.path}/{item.id}"), 409)
            self._reads(organization, collection, item)
            return
        assert require(client.delete(f"{collection.path}/{item.id}"), 200).keys() == {"_links"}
        self.models[organization].deleted(collection, item)
        require(client.delete(f"{collection.path}/{item.id}"), 404)
        if replaced and item.alias != item.id:
            body = collection.body(item.alias, number)
            self._created(organization, collection, body, client.post(collection.path, json=body))

    @call(organization=who, alias=aliases)
    def use_a_narrow_key(self, organization: int, alias: str | None) -> None:
        collection = self.models[organization].collections["/api_keys"]
        need(collection.takes(alias))
        body = collection.body(alias)
        answer = self.clients[organization].post("/api_keys", json=body)
        self._created(organization, collection, body, answer)
        narrow = self.service.client(answer.json()["api_key"]["key"])
        shown = listed(narrow.get("/queues?per_page=100"), "queues")
        assert [queue["id"] for queue in shown] == self.models[organization].collections["/queues"].newest_first()
        require(narrow.post("/queues", json={}), 403)
        for plural in ("api_keys", "domains", "users"):
            require(narrow.get(f"/{plural}"), 403)
        require(self.clients[organization].delete(f"/api_keys/{collection.items[-1].id}"), 200)
        self.models[organization].deleted(collection, collection.items[-1])
        require(narrow.get("/queues"), 401)

    @call(organization=who, number=which, method=st.sampled_from(["GET", "PUT", "DELETE"]))
    def somebody_else_tries(self, organization: int, number: int, method: str) -> None:
        collection, item = self._item(organization, number)
        body: dict[str, Any] | None = {} if method == "PUT" else None
        require(self.clients[1 - organization].request(method, f"{collection.path}/{item.id}", json=body), 404)

    @precondition(lambda self: any(model.gone for model in self.models))
    @call(number=which, method=st.sampled_from(["GET", "PUT", "DELETE"]))
    def use_after_deletion(self, number: int, method: str) -> None:
        gone = [(place, path) for place, model in enumerate(self.models) for path in model.gone]
        organization, path = gone[number % len(gone)]
        is_read_only = path.endswith(("/listeners", "/messages")) or "/schemas/" in path
        need(not is_read_only or method == "GET")
        require(self.clients[organization].request(method, path, json={} if method == "PUT" else None), 404)

    @call(organization=who)
    def delete_an_organization(self, organization: int) -> None:
        """Delete an organization: its key is invalid and its alias is free."""
        model, client = self.models[organization], self.clients[organization]
        need(len(model.collections["/queues"].items) > 1)
        require(self.operator.delete(f"/organizations/{model.id}"), 200)
        require(self.operator.get(f"/organizations/{model.id}"), 404)
        require(client.get("/queues"), 401)
        self._begin(organization, require(self.operator.post("/organizations", json={"alias": model.alias}), 200))

    @call(organization=who, place=which, per_page=st.integers(1, 4))
    def walk_through_a_list(self, organization: int, place: int, per_page: int) -> None:
        collection, client = self._collection(organization, place), self.clients[organization]
        found: list[str] = []
        following: str | None = f"{collection.path}?per_page={per_page}"
        while following is not None:
            answer = require(client.get(following), 200)
            assert len(answer[collection.plural]) <= per_page
            found += [shown["id"] for shown in without_system_queue(answer[collection.plural])]
            following = answer["_links"].get("next", {}).get("href")
        assert found == collection.newest_first()

    @call(organization=who, number=which)
    def find_by_alias(self, organization: int, number: int) -> None:
        collection, item = self._item(organization, number)
        answer = self.clients[organization].get(collection.path, params={"alias": item.alias})
        assert [shown["id"] for shown in require(answer, 200)[collection.plural]] == collection.found(item.alias)

    @call(organization=who)
    def count(self, organization: int) -> None:
        model = self.models[organization]
        for queue in listed(self.clients[organization].get("/queues?per_page=100"), "queues"):
            assert queue["messages"]["published_count"] == model.published[queue["id"]]
            references = model.collections[f"/queues/{queue['id']}/listeners"].items
            assert [each["id"] for each in queue["listeners"]] == [item.id for item in references]

    @invariant()
    def a_list_is_as_the_model_says(self) -> None:
        """Compare one list with the model after each call, in turns."""
        if len(self.models) < 2:
            return
        self.looks += 1
        organization, plural = self.looks % 2, LISTS[self.looks // 2 % len(LISTS)]
        shown = listed(self.clients[organization].get(f"/{plural}?per_page=100"), plural)
        known = self.models[organization].all_of(plural)
        assert [(each["id"], each["alias"]) for each in shown] == [(item.id, item.alias) for item in known][:100]
