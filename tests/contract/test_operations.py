"""Every operation of the OpenAPI document, with each status that a request can cause."""

import itertools
import json
import re
from typing import Any

import httpx
import jsonschema_rs
import pytest

from tests.contract.caller import Caller, problem
from tests.contract.reference import DOCUMENT, OPERATIONS, Operation, covers, for_every, for_status
from tests.contract.world import World

OF_DOCUMENTATION = ("GET /docs/errors/{code}", "GET /docs/{page}", "GET /docs/{part}/{page}")
"""Pages that belong to no organization."""

WITH_BODY = [operation for operation in OPERATIONS if operation.takes_body]
READING = [operation for operation in OPERATIONS if operation.method == "GET"]
before_routing = pytest.mark.parametrize("operation", {each.method: each for each in OPERATIONS}.values(), ids=str)
"""An operation of each method, for requests that are refused before their operation is looked up."""

RATE_HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
INVALID_PAGES = (
    "page=0",
    "page=-1",
    "page=x",
    "page=",
    "page=1.5",
    "page=1&page=2",
    "page=99999999999999999999",
    "per_page=0",
    "per_page=101",
    "per_page=%D9%A3",
    "after=x",
    "before=",
    "before=0000000000000000000%00",
)
NOBODYS = "0" * 21
LEFT_OUT = object()
_MOST_CHANGES = 9


def caller_of(world: World, operation: Operation) -> Caller:
    return world.owner if operation.has_key else world.owner.with_key(None)


def asked(
    world: World, operation: Operation, content: Any = None, *, query: str = "", **headers: str
) -> httpx.Response:
    """Send a request for the world's own resources."""
    path, given = world.path(operation.path) + query, {name.replace("_", "-"): text for name, text in headers.items()}
    return caller_of(world, operation).ask(operation.method, path, content, headers=given)


@for_every("operation", READING, lambda operation: f"{operation} 200")
def test_operation_responds(world: World, operation: Operation) -> None:
    answer = asked(world, operation)
    assert answer.status_code == 200
    assert answer.headers["x-request-id"]
    assert all(answer.headers[name].isdigit() for name in RATE_HEADERS)
    if operation.is_json and not operation.path.endswith("openapi.json"):
        assert answer.json()["_links"]["self"]["href"] == str(answer.url)


@for_every("operation", READING, lambda operation: f"HEAD {operation.path}")
def test_head_works_wherever_get_does(world: World, operation: Operation) -> None:
    answer = caller_of(world, operation).ask("HEAD", world.path(operation.path))
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 0


@for_status(304)
def test_known_etag_gets_not_modified(world: World, operation: Operation) -> None:
    path = world.path(operation.path)
    # Links are part of what a tag stands for: all workers have one name, as they have behind a load balancer.
    host = {"Host": "discue.example.com"}
    answer = world.owner.ask("GET", path, headers=host)
    # A delivery in flight may change the resource and its ETag between two requests; soon it waits.
    for _ in range(_MOST_CHANGES):
        tag = answer.headers["etag"]
        answer = world.owner.ask("GET", path, headers={**host, "If-None-Match": tag})
        if answer.headers["etag"] == tag:
            break
    assert (answer.status_code, answer.content) == (304, b"")


@for_status(400)
def test_a_header_that_comes_once_only_comes_twice(world: World, operation: Operation) -> None:
    answer = world.owner.ask(operation.method, world.path(operation.path), headers=[("X-API-KEY", "another")])
    assert problem(answer, 400)["title"] == "Bad Request"


@for_status(401)
def test_without_a_key_it_is_unauthorized(world: World, operation: Operation) -> None:
    answer = world.owner.with_key(None).ask(operation.method, world.path(operation.path))
    assert problem(answer, 401)["title"] == "Unauthorized"
    assert answer.headers["www-authenticate"]
    assert all(answer.headers[name].isdigit() for name in RATE_HEADERS)


@for_status(403, "POST /invitations")
def test_without_the_scope_and_when_locked_out_it_is_forbidden(world: World, operation: Operation) -> None:
    if not operation.has_key:
        # The operation needs no key, but a request that reaches no operation counts with its key.
        path = f"{world.path(operation.path)}?{'x' * 8_192}"
        assert "retry-after" in world.locked_out.ask(operation.method, path).headers
        world.locked_out.refused(403, operation.method, path)
        return
    scope = operation.described["x-required-scope"]["resource"]
    assert scope in world.powerless.refused(403, operation.method, world.path(operation.path))["detail"]


@for_status(404, "POST /invitations", *OF_DOCUMENTATION)
def test_resource_of_another_organization_is_not_found(world: World, operation: Operation) -> None:
    content = operation.example if operation.takes_body else None
    assert world.other.refused(404, operation.method, world.path(operation.path), content)["title"] == "Not Found"


@for_every(
    "operation", [each for each in OPERATIONS if "{" in each.path], lambda operation: f"{operation} 404 unknown id"
)
def test_an_id_that_nothing_has_is_not_found(world: World, operation: Operation) -> None:
    path = operation.path.replace("{schema_id}", "0" * 64).replace("{code}", "no_such_code")
    path = path.rsplit("{", 1)[0] + NOBODYS + path.rsplit("}", 1)[1] if "{" in path else path
    content = operation.example if operation.takes_body else None
    caller_of(world, operation).refused(404, operation.method, world.path(path), content)


@for_every("path", sorted({each.path for each in OPERATIONS}), lambda path: f"{path} 405")
def test_a_method_that_it_does_not_know_is_answered_with_those_that_it_knows(world: World, path: str) -> None:
    known = {operation.method for operation in OPERATIONS if operation.path == path}
    known |= {"HEAD"} if "GET" in known else set()
    for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"} - known:
        answer = world.owner.ask(method, world.path(path))
        problem(answer, 405)
        assert set(answer.headers["allow"].split(", ")) == known


@for_status(406)
def test_an_accept_header_that_excludes_its_type_is_refused(world: World, operation: Operation) -> None:
    assert problem(asked(world, operation, accept="image/png"), 406)["title"] == "Not Acceptable"


@for_status(413)
def test_a_body_that_is_too_large_is_refused(world: World, operation: Operation) -> None:
    size = 8 * 1024 * 1024 + 1 if operation.path.endswith("/batch") else 300_000
    content = json.dumps({"data": "x" * size}).encode()
    answer = asked(world, operation, content, content_type="application/json")
    assert problem(answer, 413)["title"] in {"Payload Too Large", "Content Too Large"}


@covers(*(f"{each} 414" for each in OPERATIONS if 414 in each.statuses))
@before_routing
def test_an_address_that_is_too_long_is_refused(world: World, operation: Operation) -> None:
    problem(asked(world, operation, query="?" + "x" * 8_192), 414)


@for_status(415)
def test_a_body_that_is_not_json_by_its_type_is_refused(world: World, operation: Operation) -> None:
    problem(asked(world, operation, b"{}", content_type="text/plain"), 415)


@for_every("operation", WITH_BODY, lambda operation: f"{operation} 400 unknown field")
def test_an_unknown_field_is_refused_by_its_name(world: World, operation: Operation) -> None:
    answer = asked(world, operation, {**operation.example, "surprise": 1})
    assert problem(answer, 400)["errors"][0]["pointer"] == "/surprise"


@pytest.mark.parametrize(
    ("component", "collection", "alternatives"),
    [
        ("FilterTestBody", "filter-tests", {"message_id": [None, NOBODYS], "data": [None, {"state": "paid"}]}),
        ("ReplayBody", "replays", {"from_at": [None, 0], "from_message": [None, NOBODYS]}),
        (
            "RedeliveryBody",
            "redeliveries",
            {"messages": [None, [NOBODYS]], "filter": [None, {}], "all": [None, False, True]},
        ),
    ],
)
def test_document_describes_which_fields_exclude_each_other(
    owner: Caller, component: str, collection: str, alternatives: dict[str, list[object]]
) -> None:
    """A body that fits the document reaches the listener, which does not exist."""
    form = {"$ref": f"#/components/schemas/{component}", "components": DOCUMENT["components"]}
    validator = jsonschema_rs.Draft202012Validator(form)
    for values in itertools.product(*([LEFT_OUT, *each] for each in alternatives.values())):
        given = zip(alternatives, values, strict=True)
        content = {name: value for name, value in given if value is not LEFT_OUT}
        answer = owner.ask("POST", f"/queues/{NOBODYS}/listeners/{NOBODYS}/{collection}", content)
        assert (answer.status_code == 404) == validator.is_valid(content), content
        assert answer.status_code in {400, 404, 422}


@for_every("operation", WITH_BODY, lambda operation: f"{operation} 400 not JSON")
def test_a_body_that_is_not_json_is_refused(world: World, operation: Operation) -> None:
    problem(asked(world, operation, b"{", content_type="application/json"), 400)


@for_status(429, *(str(operation) for operation in OPERATIONS if not operation.has_key))
def test_past_the_limit_it_is_refused(world: World, operation: Operation) -> None:
    answer = world.limited.ask(operation.method, world.path(operation.path))
    if answer.status_code != 429:  # A new minute has begun since.
        answer = world.limited.ask(operation.method, world.path(operation.path))
    assert problem(answer, 429)["title"] == "Too Many Requests"
    assert answer.headers["x-ratelimit-limit"] == "1"
    assert answer.headers["x-ratelimit-remaining"] == "0"
    assert 0 < int(answer.headers["retry-after"]) <= 60


@covers(*(f"{each} 431" for each in OPERATIONS if 431 in each.statuses))
@before_routing
def test_headers_that_are_too_large_are_refused(world: World, operation: Operation) -> None:
    problem(asked(world, operation, x_large="x" * 33_000), 431)


@pytest.mark.parametrize("query", INVALID_PAGES)
def test_invalid_page_is_refused_with_the_name_of_the_parameter(world: World, query: str) -> None:
    answer = world.owner.ask("GET", f"/queues?{query}")
    assert problem(answer, 400)["errors"][0]["pointer"] == "?" + query.partition("=")[0]


@for_every("operation", [each for each in OPERATIONS if each.is_list], lambda operation: f"{operation} pages")
def test_a_list_refuses_a_page_that_is_none(world: World, operation: Operation) -> None:
    for query in ("page=0", "per_page=101", "after=x"):
        answer = world.owner.ask("GET", f"{world.path(operation.path)}?{query}")
        assert problem(answer, 400)["errors"][0]["pointer"] == "?" + query.partition("=")[0]


@for_every("operation", READING, lambda operation: f"{operation} unknown parameter")
def test_unknown_parameter_is_refused_with_the_nearest_known_name(world: World, operation: Operation) -> None:
    refused = problem(asked(world, operation, query="?surprise=1"), 400)
    assert refused["code"] == "unknown_parameter"
    [fault] = refused["errors"]
    assert fault["pointer"] == "?surprise"
    assert re.fullmatch(r"is not known; known names: ([a-zA-Z_]+, )*pretty(, [a-zA-Z_]+)*", fault["detail"])
    assert "did you mean pretty?" in problem(asked(world, operation, query="?prety=true"), 400)["detail"]


@for_every("operation", READING, lambda operation: f"{operation} v1")
def test_path_without_version_means_v1(world: World, operation: Operation) -> None:
    path = world.path(operation.path)
    answer = caller_of(world, operation).ask("GET", "/v1" + path)
    assert answer.status_code == 200
    problem(caller_of(world, operation).ask("GET", "/v2" + path), 404)
