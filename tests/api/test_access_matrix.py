"""Every route of the table for every kind of caller: what is expected follows from the route's row alone."""

import re

import httpx
import pytest

from discue.api.resources import ROUTES
from discue.api.route import Method, Needs, Route
from discue.domain.scopes import Scope, all_scopes
from tests.support.api_world import BODIES, World
from tests.support.served_api import Cast

# Whatever the engine, a route asks for its scope in one place.
ENGINES_MEANT = ["sqlite"]

CASES = [(route, method) for route in ROUTES for method in route.methods]
GUARDED = [(route, method) for route, method in CASES if route.needs is not None]
NAMES = [f"{method} {route.path}" for route, method in CASES]
GUARDED_NAMES = [f"{method} {route.path}" for route, method in GUARDED]

every_route = pytest.mark.parametrize(("route", "method"), CASES, ids=NAMES)
every_guarded_route = pytest.mark.parametrize(("route", "method"), GUARDED, ids=GUARDED_NAMES)


def request(client: httpx.Client, route: Route, method: Method, path: str) -> httpx.Response:
    body = None if not route.takes_body else BODIES[route.request.__name__]
    return client.request(method, path, json=body)


def status(client: httpx.Client, route: Route, method: Method, path: str) -> int:
    answer = request(client, route, method, path)
    assert answer.status_code == 200 or answer.json()["status"] == answer.status_code
    return answer.status_code


def needs_of(route: Route) -> Needs:
    assert route.needs is not None
    return route.needs


@every_route
def test_the_owner_may_do_everything(cast: Cast, route: Route, method: Method) -> None:
    world = World(cast)
    answer = cast.alice.request(method, world.path(route.path), json=world.body(route))
    assert answer.status_code == 200, answer.text


@every_route
def test_without_a_key_only_routes_that_need_none_answer(cast: Cast, route: Route, method: Method) -> None:
    world = World(cast)
    answer = cast.nobody.request(method, world.path(route.path), json=world.body(route))
    assert answer.status_code == (200 if route.needs is None else 401)
    assert ("www-authenticate" in answer.headers) == (answer.status_code == 401)


@every_guarded_route
def test_a_disabled_key_is_as_good_as_none(cast: Cast, route: Route, method: Method) -> None:
    created = cast.alice.post("/api_keys", json={}).json()["api_key"]
    assert cast.alice.put(f"/api_keys/{created['id']}", json={"status": "disabled"}).status_code == 200
    disabled = cast.service.client(created["key"])
    assert status(disabled, route, method, World(cast).path(route.path)) == 401


@every_guarded_route
def test_another_organization_finds_nothing_of_it(cast: Cast, route: Route, method: Method) -> None:
    world = World(cast)
    path = world.path(route.path)
    answer = request(cast.charlie, route, method, path)
    assert answer.status_code == (404 if "{" in route.path else 200)
    assert not any(made in answer.text for made in world.made)


@every_guarded_route
def test_a_key_without_the_scope_is_refused(cast: Cast, route: Route, method: Method) -> None:
    scopes = {name: scope for name, scope in all_scopes().items() if name != needs_of(route).resource}
    answer = request(cast.bob(scopes), route, method, World(cast).path(route.path))
    assert answer.status_code == 403
    assert needs_of(route).resource in answer.json()["detail"]


@every_guarded_route
def test_a_key_that_reads_does_not_write(cast: Cast, route: Route, method: Method) -> None:
    needs = needs_of(route)
    expected = 200 if needs.access == "read" else 403
    bob = cast.bob({needs.resource: Scope("read")})
    assert status(bob, route, method, World(cast).path(route.path)) == expected


@every_guarded_route
def test_a_key_confined_to_something_else_sees_empty_lists_and_is_refused_elsewhere(
    cast: Cast, route: Route, method: Method
) -> None:
    needs = needs_of(route)
    world = World(cast)
    path = world.path(route.path)
    answer = request(cast.bob({needs.resource: Scope("write", ("0" * 21,))}), route, method, path)
    assert answer.status_code == (200 if needs.listing else 403)
    if needs.listing:
        (shown,) = [value for value in answer.json().values() if isinstance(value, list)]
        assert shown == []


@every_guarded_route
def test_a_key_confined_to_what_the_path_names_may_use_it_and_create_nothing_at_the_root(
    cast: Cast, route: Route, method: Method
) -> None:
    needs = needs_of(route)
    world = World(cast)
    path = world.path(route.path)
    named = re.findall(r"\{(\w+)\}", route.path)
    body = world.body(route) or {}
    targets = (world[named[0]] if named else "0" * 21, *([body["queue_id"]] if "queue_id" in body else []))
    bob = cast.bob({needs.resource: Scope("write", targets)})
    answer = bob.request(method, path, json=body)
    assert answer.status_code == (200 if named or needs.listing else 403), answer.text


def test_every_route_says_whom_it_is_for() -> None:
    open_paths = {route.path for route in ROUTES if route.needs is None}
    documentation = {"/openapi.json", "/docs", "/docs/errors/{status}"}
    assert open_paths == {"/", "/health/live", "/health/ready", "/invitations", *documentation}
