"""Every route of the table for every kind of caller: what is expected follows from the route's row alone."""

import re

import httpx
import pytest

from discue.api.route import Method, Needs, Route
from discue.domain.scopes import Scope
from discue.product import ROUTES
from tests.support.api_world import BODIES, World
from tests.support.served_api import Cast, Service, cast_of

GUARDED = [(route, method) for route in ROUTES if route.needs is not None for method in route.methods]
GUARDED_NAMES = [f"{method} {route.path}" for route, method in GUARDED]

every_guarded_route = pytest.mark.parametrize(("route", "method"), GUARDED, ids=GUARDED_NAMES)


def asked(client: httpx.Client, route: Route, method: Method, path: str) -> httpx.Response:
    return client.request(method, path, json=BODIES[route.request.__name__] if route.takes_body else None)


def needs_of(route: Route) -> Needs:
    assert route.needs is not None
    return route.needs


def scopes_of(needs: Needs, scope: Scope) -> dict[str, Scope]:
    """Return the scope for every resource that a route needs."""
    return {name: scope for name in (needs.resource, needs.reads) if name}


@pytest.fixture(scope="module")
def unchanged(service: Service) -> World:
    """Resources for requests that change nothing."""
    return World(cast_of(service))


@every_guarded_route
def test_a_key_that_reads_does_not_write(unchanged: World, route: Route, method: Method) -> None:
    needs = needs_of(route)
    expected = 200 if needs.access == "read" else 403
    bob = unchanged.cast.bob(scopes_of(needs, Scope("read")))
    assert asked(bob, route, method, unchanged.path(route.path)).status_code == expected


@every_guarded_route
def test_a_key_confined_to_something_else_sees_empty_lists_and_is_refused_elsewhere(
    unchanged: World, route: Route, method: Method
) -> None:
    needs = needs_of(route)
    path = unchanged.path(route.path)
    answer = asked(unchanged.cast.bob(scopes_of(needs, Scope("write", ("0" * 21,)))), route, method, path)
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
    bob = cast.bob(scopes_of(needs, Scope("write", targets)))
    answer = bob.request(method, path, json=body)
    assert answer.status_code == (200 if named or needs.listing else 403), answer.text


@pytest.mark.parametrize(
    ("route", "method"),
    [(route, method) for route, method in GUARDED if needs_of(route).reads],
    ids=[name for (route, _), name in zip(GUARDED, GUARDED_NAMES, strict=True) if needs_of(route).reads],
)
def test_a_key_needs_the_second_scope_of_a_route_too(unchanged: World, route: Route, method: Method) -> None:
    needs, path = needs_of(route), unchanged.path(route.path)
    alone = asked(unchanged.cast.bob({needs.resource: Scope("write")}), route, method, path)
    assert (alone.status_code, needs.reads in alone.json()["detail"]) == (403, True)
    both = {needs.resource: Scope("write"), needs.reads: Scope("read")}
    assert asked(unchanged.cast.bob(both), route, method, path).status_code == 200


def test_every_route_says_whom_it_is_for() -> None:
    open_paths = {route.path for route in ROUTES if route.needs is None}
    pages = {"/docs", "/docs/api", "/docs/{page}", "/docs/{part}/{page}", "/docs/errors/{code}"}
    documentation = {"/openapi.json", "/docs/search", *pages}
    assert open_paths == {"/", "/health/live", "/health/ready", "/invitations", *documentation}
