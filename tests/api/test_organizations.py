"""Organizations, under both of their names."""

import os

import pytest

from tests.support.served_api import Cast

NAMES = [("api_clients", "api_client"), ("organizations", "organization")]
both_names = pytest.mark.parametrize(("path", "key"), NAMES, ids=["api_clients", "organizations"])


def alias() -> str:
    return f"com.example.o{os.urandom(6).hex()}"


@both_names
def test_an_organization_is_created_with_a_key_that_works_at_once(cast: Cast, path: str, key: str) -> None:
    name = alias()
    operator = cast.service.client(cast.service.operator)
    created = operator.post(f"/{path}", json={"alias": name}).json()
    assert created[key]["alias"] == created[key]["name"] == name
    owner = cast.service.client(created["api_key"]["key"])
    assert owner.post("/queues").status_code == 200
    href = created["_links"]["self"]["href"]
    assert href == f"{cast.service.url}/{path}/{created[key]['id']}"
    assert owner.get(href).json() == {"_links": {"self": {"href": href}}, key: created[key]}


@both_names
def test_organization_is_changed_and_deleted_with_its_resources(cast: Cast, path: str, key: str) -> None:
    name, renamed = alias(), alias()
    operator = cast.service.client(cast.service.operator)
    created = operator.post(f"/{path}", json={"alias": name}).json()
    owner = cast.service.client(created["api_key"]["key"])
    href = created["_links"]["self"]["href"]
    assert owner.put(href, json={"name": renamed}).json()[key]["alias"] == renamed
    assert operator.put(href, json={"rate_limit": 5}).json()[key]["rate_limit"] == 5
    assert "rate_limit" not in operator.put(href, json={"rate_limit": None}).json()[key]
    assert operator.delete(href).json() == {"_links": {"self": {"href": href}}}
    assert operator.get(href).status_code == 404
    assert owner.get("/queues").status_code == 401
    assert operator.post(f"/{path}", json={"alias": renamed}).status_code == 200


@both_names
def test_the_operator_sees_all_and_the_others_see_themselves(cast: Cast, path: str, key: str) -> None:
    operator = cast.service.client(cast.service.operator)
    assert len(operator.get(f"/{path}").json()[path]) > 1
    assert [shown["id"] for shown in cast.alice.get(f"/{path}").json()[path]] == [cast.organization_id]
    assert operator.get(f"/{path}/{cast.organization_id}").json()[key]["alias"] == cast.organization_alias


@pytest.mark.parametrize("name", ["plain", "com..example", "com.example/a/b", "-com.example", "com.exämple"])
def test_organization_alias_is_a_reverse_domain_name(cast: Cast, name: str) -> None:
    answer = cast.alice.post("/organizations", json={"alias": name})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/alias")


def test_without_a_name_it_is_called_after_who_made_it(cast: Cast) -> None:
    created = cast.alice.post("/organizations").json()["organization"]
    assert created["alias"] == f"{cast.organization_alias}.{created['id']}"


def test_a_name_is_taken_in_the_whole_installation(cast: Cast) -> None:
    assert cast.charlie.post("/organizations", json={"alias": cast.organization_alias}).status_code == 422


def test_only_the_operator_changes_settings(cast: Cast) -> None:
    assert cast.alice.put(f"/organizations/{cast.organization_id}", json={"rate_limit": 5}).status_code == 403
