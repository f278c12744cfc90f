"""Sessions of customers in the portal, and its settings."""

from typing import Any

import pytest

from tests.contract.caller import pointers
from tests.contract.reference import covers
from tests.contract.world import World

# A session that one worker stores is shown by all.
SETTINGS_MEANT = ("three workers",)

PLACES = ["/portal_sessions", "/organizations/{organization_id}/portal_sessions"]


@covers("GET /portal_sessions 200", "GET /organizations/{organization_id}/portal_sessions 200")
@covers("GET /portal_sessions/{portal_session_id} 200")
@covers("GET /organizations/{organization_id}/portal_sessions/{portal_session_id} 200")
@covers("POST /portal_sessions 200", "POST /organizations/{organization_id}/portal_sessions 200")
@covers("DELETE /portal_sessions/{portal_session_id} 200", "portal.md# Sessions")
@covers("DELETE /organizations/{organization_id}/portal_sessions/{portal_session_id} 200")
@pytest.mark.parametrize("place", PLACES)
def test_session_is_created_listed_and_ended(world: World, place: str) -> None:
    path = world.path(place)
    queue = world.owner.change("/queues/customers%2Facme", customer="acme")
    made = world.owner.create(path, customer="acme", queues=[queue["alias"]], may=["test", "create"])
    assert made["queues"] == [queue["id"]]
    assert (made["state"], made["may"]) == ("new", ["create", "test"])
    assert "/portal/open?code=" in made.pop("url")
    assert world.owner.get(path)["portal_sessions"][0] == made == world.owner.shown(f"{path}/{made['id']}")
    world.owner.delete(f"{path}/{made['id']}")
    world.owner.refused(404, "DELETE", f"{path}/{made['id']}")


def test_session_without_an_organization_belongs_to_the_organization_of_its_key(world: World) -> None:
    made = world.owner.create("/portal_sessions", customer="of-the-key", queues=[world["queue_id"]])
    own = world.path("/organizations/{organization_id}/portal_sessions")

    assert world.owner.shown(f"{own}/{made['id']}")["customer"] == "of-the-key"
    assert made["id"] not in [each["id"] for each in world.other.get("/portal_sessions")["portal_sessions"]]
    for method in ("GET", "DELETE"):
        world.other.refused(404, method, f"/portal_sessions/{made['id']}")
    world.owner.delete(f"/portal_sessions/{made['id']}")
    world.owner.refused(404, "GET", f"{own}/{made['id']}")


@covers("POST /portal_sessions 422", "POST /organizations/{organization_id}/portal_sessions 422")
@pytest.mark.parametrize("place", PLACES)
def test_session_for_unknown_queues_topics_or_actions_is_refused(world: World, place: str) -> None:
    path = world.path(place)
    for fields, pointer, code in (
        ({"queues": ["nowhere"]}, "/queues/0", "unknown_reference"),
        ({"topics": ["nowhere"]}, "/topics/0", "unknown_reference"),
        ({"queues": [world["queue_id"]], "may": ["everything"]}, "/may/0", "invalid_value"),
    ):
        refused = world.owner.refused(422, "POST", path, {"customer": "acme", **fields})
        assert (pointers(refused), refused["code"]) == ([pointer], code)


@covers("portal.md# Permissions")
@covers("portal.md: all of the customer", "portal.md: at least one without a customer, or of another customer")
def test_permissions_depend_on_the_customer_of_the_queues(world: World) -> None:
    path = world.path("/organizations/{organization_id}/portal_sessions")
    own = world.owner.change("/queues/customers%2Facme", customer="acme")["id"]
    other, shared = world.owner.create("/queues", customer="globex"), world.owner.create("/queues")
    topic = world.owner.create("/topics")["id"]
    world.owner.create(f"/topics/{topic}/channels", queue_id=shared["id"])
    every = ["create", "edit", "disable", "delete", "secrets", "test", "redeliver", "replay"]
    for given in ({}, {"queues": [own]}, {"queues": ["customers/acme"], "topics": []}):
        assert world.owner.create(path, customer="acme", **given)["may"] == every
        assert world.owner.create(path, customer="acme", may=["replay", "limit"], **given)["may"] == ["replay", "limit"]
    for given, named in (
        ({"queues": [shared["id"]]}, shared["alias"]),
        ({"queues": [own, other["alias"]]}, other["alias"]),
        ({"queues": [own], "topics": [topic]}, shared["alias"]),
    ):
        assert world.owner.create(path, customer="acme", **given)["may"] == ["disable", "test", "redeliver"]
        assert world.owner.create(path, customer="acme", may=["delete"], **given)["may"] == ["delete"]
        for action in ("create", "edit", "replay"):
            content = {"customer": "acme", "may": ["test", action], **given}
            refused = world.owner.refused(422, "POST", path, content)
            assert (refused["code"], pointers(refused)) == ("conflicting_fields", ["/may/1"])
            assert f'"{named}" does not: leave the action out, or name queues' in refused["detail"]


def test_creation_of_a_session_that_shows_nothing_warns(world: World) -> None:
    path = world.path("/organizations/{organization_id}/portal_sessions")
    own = world.owner.change("/queues/customers%2Fshop-00", customer="shop-00")["id"]
    foreign, shared = world.owner.create("/queues", customer="shop-01"), world.owner.create("/queues")
    topic = world.owner.create("/topics")["id"]

    def warnings(customer: str, **fields: Any) -> list[str]:
        made = world.owner.create(path, customer=customer, **fields)
        assert "warnings" not in world.owner.shown(f"{path}/{made['id']}")
        found: list[str] = made.get("warnings", [])
        return found

    assert warnings("shop-00") == warnings("shop-00", queues=[own]) == []
    (none,) = warnings("Shop-00")
    assert none == 'No queue has the customer "Shop-00". The session shows nothing until one is created with it.'
    assert warnings("shop-00", topics=[topic]) == [
        "The topics lead into no queue. The session shows nothing until they do."
    ]
    (others,) = warnings("shop-00", queues=[own, foreign["id"]], may=["test"])
    assert f'"{foreign["alias"]}" has the customer "shop-01", not "shop-00". The session shows nothing of it.' in others
    (less,) = warnings("shop-00", queues=[shared["id"]])
    assert f'"{shared["alias"]}" has no customer. The session shows only listeners' in less
    assert warnings("shop-00", queues=[shared["id"]], may=["test"]) == []


@covers("GET /organizations/{organization_id}/portal 200", "PUT /organizations/{organization_id}/portal 200")
@covers("PUT /organizations/{organization_id}/portal 422", "portal.md# Settings")
def test_origins_that_may_embed_the_portal_are_changed(world: World) -> None:
    path = world.path("/organizations/{organization_id}/portal")
    assert world.owner.shown(path) == {"frame_ancestors": []}
    changed = world.owner.change(path, frame_ancestors=["https://APP.example.com:443"])
    assert changed == {"frame_ancestors": ["https://app.example.com"]} == world.owner.shown(path)
    refused = world.owner.refused(422, "PUT", path, {"frame_ancestors": ["https://a.example.com", "*"]})
    assert pointers(refused) == ["/frame_ancestors/1"]
    assert world.owner.change(path, frame_ancestors=[]) == {"frame_ancestors": []}


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_settings_of_another_organization_do_not_exist(world: World, method: str) -> None:
    path = world.path("/organizations/{organization_id}/portal")
    world.other.refused(404, method, path, {"frame_ancestors": []})
