"""The OpenAPI document: every row of the table is in it, every field described, every example true."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import jsonschema_rs
import pytest

from discue.api.openapi.document import document_of
from discue.api.resources.organizations import OrganizationBody
from discue.api.route import Method, Route
from discue.api.structs import READ_ONLY
from discue.http.negotiation import JSON
from discue.product import ROUTES
from tests.support.api_world import World
from tests.support.described_responses import Seen, description, registry_of, validator_of
from tests.support.served_api import Cast

DOCUMENT = document_of(ROUTES, "/v1")
SCHEMAS: Mapping[str, Any] = DOCUMENT["components"]["schemas"]
OPERATIONS = [
    (f"{method.upper()} {path}", operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
]
# Routes without a key take a secret in the body, which an example cannot have.
EXAMPLES = [(route, method) for route in ROUTES if route.request_example and route.needs for method in route.methods]

every_operation = pytest.mark.parametrize(
    ("operation"), [operation for _, operation in OPERATIONS], ids=[name for name, _ in OPERATIONS]
)


_SCHEMAS_OF_DOCUMENT = registry_of(DOCUMENT)


def validator(schema: Mapping[str, Any]) -> jsonschema_rs.Draft202012Validator:
    return validator_of(schema, _SCHEMAS_OF_DOCUMENT)


def test_document_and_its_schemas_follow_their_specifications() -> None:
    # The import takes half a second: only the process that runs this test needs it.
    from schemathesis.specs.openapi.definitions import OPENAPI_31  # noqa: PLC0415

    jsonschema_rs.Draft202012Validator(OPENAPI_31).validate(document_of(ROUTES, "http://127.0.0.1:3000/v1"))
    assert all(map(jsonschema_rs.meta.is_valid, SCHEMAS.values()))


def test_aliases_are_marked_and_can_be_left_out(cast: Cast) -> None:
    answer = cast.nobody.get("/openapi.json?aliases=false").json()
    once = [operation["operationId"] for item in answer["paths"].values() for operation in item.values()]
    marked = {each["operationId"]: each["x-alias-of"] for _, each in OPERATIONS if "x-alias-of" in each}
    assert {"put_queue": "create_queue", "get_api_client": "get_organization"}.items() <= marked.items()
    assert all(each["deprecated"] == ("x-alias-of" in each) for _, each in OPERATIONS if "deprecated" in each)
    assert sorted([*once, *marked]) == sorted(each["operationId"] for _, each in OPERATIONS)
    assert set(marked.values()) <= set(once)
    assert cast.nobody.get("/openapi.json?aliases=perhaps").status_code == 400


def test_unions_do_not_refer_to_themselves_and_constants_are_no_lists() -> None:
    """Some generators of clients know only objects that refer to themselves, and constants that are scalars."""
    for name, schema in SCHEMAS.items():
        assert "type" in schema, f"{name} is not an object, and may be referred to"
    for found in walked(SCHEMAS):
        assert not isinstance(found.get("const"), list | dict), found
        assert found.get("type") != "array" or "items" in found, found


def test_no_object_is_a_union() -> None:
    """OpenAPI Generator replaces an object that is also a union by the union, without the other fields."""
    unions = [name for name, schema in SCHEMAS.items() if {"oneOf", "anyOf", "allOf"} & schema.keys()]
    assert [name for name in unions if "properties" in SCHEMAS[name]] == []


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({}, False),
        ({"message_id": "x"}, True),
        ({"data": None}, True),
        ({"data_base64": "AA=="}, True),
        ({"message_id": None, "data_base64": "AA=="}, True),
        ({"message_id": "x", "data": 1}, False),
        ({"data": 1, "data_base64": "AA=="}, False),
        ({"message_id": "x", "data": 1, "data_base64": "AA=="}, False),
    ],
    ids=str,
)
def test_exactly_one_of_three_fields_is_required(fields: dict[str, Any], fits: bool) -> None:  # noqa: FBT001
    assert validator({"$ref": "#/components/schemas/FilterTestBody"}).is_valid({"filter": None, **fields}) is fits


def test_numbers_that_32_bits_cannot_hold_have_a_format() -> None:
    """Generators for Go, Java and Rust choose 32 bits for a number without a format."""
    described = list(walked(_without_examples(DOCUMENT)))
    fields = [(name, field) for each in described for name, field in each.get("properties", {}).items()]
    fields += [(each["name"], each["schema"]) for each in described if each.get("in") == "query"]
    sent = [(name, field) for name, field in fields if field.get("description") != READ_ONLY]
    large = [(name, field) for name, field in sent if name.endswith(("_at", "_after", "_before")) or name in _LARGE]
    assert [name for name, field in large if _formats_of(field, "integer") != {"int64"}] == []
    assert [name for name, field in sent if not _formats_of(field, "number") <= {"double"}] == []
    integers = [each for each in described if each.get("type") == "integer"]
    assert [each for each in integers if (each.get("maximum", 2**31) < 2**31) is ("format" in each)] == []


_LARGE = {"size", "leased_until", "startAfter"}


def _without_examples(value: Any) -> Any:
    if isinstance(value, list):
        return list(map(_without_examples, value))
    if not isinstance(value, Mapping):
        return value
    return {name: _without_examples(each) for name, each in value.items() if name not in {"example", "examples"}}


def _formats_of(field: Mapping[str, Any], kind: str) -> set[str]:
    return {each.get("format", "") for each in walked(field) if each.get("type") == kind}


def test_no_schema_has_the_name_of_a_constructor() -> None:
    """OpenAPI Generator's Go client has a function `NewQueueView` for the schema `QueueView`."""
    assert [name for name in SCHEMAS if name.startswith("New") and name.removeprefix("New") in SCHEMAS] == []


def walked(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for each in inner:
        yield from walked(each)


def test_every_row_of_the_table_is_an_operation() -> None:
    expected = {f"{method} {route.path}" for route in ROUTES for method in route.methods}
    assert {name for name, _ in OPERATIONS} == expected


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.methods[0]} {route.path}")
def test_every_row_has_a_summary_and_an_example_of_its_body(route: Route) -> None:
    assert route.summary[:1].isupper(), "its Route needs a summary"
    assert route.request_example or not route.takes_body, "its Route needs an example"


def test_every_field_is_described() -> None:
    missing = [
        f"{name}.{field}"
        for name, schema in SCHEMAS.items()
        for field, described in schema.get("properties", {}).items()
        if "description" not in described
    ]
    assert missing == [], "describe them where they are declared"


def test_operations_are_called_by_names_of_their_own() -> None:
    names = [operation["operationId"] for _, operation in OPERATIONS]
    assert len(set(names)) == len(names)


SINGULARS = {
    "acknowledgements": "acknowledgement",
    "api_clients": "api_client",
    "api_keys": "api_key",
    "attempts": "attempt",
    "channels": "channel",
    "deliveries": "delivery",
    "domains": "domain",
    "erasures": "erasure",
    "errors": "error",
    "events": "event",
    "filter-tests": "filter_test",
    "groups": "group",
    "invitations": "invitation",
    "listeners": "listener",
    "messages": "message",
    "organizations": "organization",
    "portal_sessions": "portal_session",
    "queues": "queue",
    "redeliveries": "redelivery",
    "event_types": "event_type",
    "sources": "source",
    "refusals": "refusal",
    "replays": "replay",
    "schedules": "schedule",
    "schemas": "schema",
    "secrets": "secret",
    "tests": "test",
    "transform-tests": "transform_test",
    "topics": "topic",
    "users": "user",
}
OTHER_STEPS = {
    **{step: step for step in ("api", "batch", "health", "limits", "live", "missed", "portal", "ready", "search")},
    **{step: step for step in ("stats", "verification", "{page}", "{part}")},
    "docs": "doc",
    "openapi.json": "openapi_json",
    "event_types.openapi.json": "event_types_openapi_json",
}


def test_operations_are_called_by_singulars_except_for_lists() -> None:
    for name, operation in OPERATIONS:
        method, _, path = name.partition(" ")
        steps = [step for step in path.split("/")[1:] if step and step not in _IDS]
        verb, _, words = operation["operationId"].partition("_")
        singular = [(SINGULARS | OTHER_STEPS)[step].strip("{}") for step in steps] or ["service"]
        if verb == "list":
            singular[-1] = steps[-1]
        assert verb in {"GET": ("get", "list"), "POST": ("create",), "PUT": ("change", "put")}.get(method, ("delete",))
        assert words == "_".join(singular), name


_IDS = {f"{{{name}}}" for name in DOCUMENT["components"]["parameters"]} - OTHER_STEPS.keys()


@every_operation
def test_every_example_fits_its_schema(operation: Mapping[str, Any]) -> None:
    contents = [*operation.get("requestBody", {}).get("content", {}).values()]
    contents += operation["responses"]["200"]["content"].values()
    for content in contents:
        if "example" in content:
            validator(content["schema"]).validate(content["example"])


@every_operation
def test_a_body_may_be_left_out_where_an_empty_one_fits(operation: Mapping[str, Any]) -> None:
    for body in filter(None, [operation.get("requestBody")]):
        assert body["required"] != validator(body["content"][JSON]["schema"]).is_valid({})


@pytest.mark.parametrize("component", ["MessageBody", "NewSchedule"])
@pytest.mark.parametrize(
    ("data", "status"),
    [
        ({}, 400),
        ({"data": None}, 200),
        ({"data_base64": None}, 400),
        ({"data_base64": "AA=="}, 200),
        ({"data": 1, "data_base64": None}, 200),
        ({"data": 1, "data_base64": "AA=="}, 422),
    ],
    ids=str,
)
def test_description_of_data_agrees_with_the_service(
    cast: Cast, component: str, data: dict[str, Any], status: int
) -> None:
    path, fields = ("messages", data) if component == "MessageBody" else ("schedules", {"cron": "@daily", **data})
    assert cast.alice.post(f"/queues/{cast.queue()}/{path}", json=fields).status_code == status
    assert validator({"$ref": f"#/components/schemas/{component}"}).is_valid(fields) is (status == 200)


def test_every_list_describes_its_items() -> None:
    fields = {name: schema.get("properties", {}) for name, schema in SCHEMAS.items()}
    assert [name for name, of_fields in fields.items() if any(map(_is_vague, _all_in(of_fields)))] == []


def _is_vague(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "array" and not {"items", "const"} & schema.keys()


def _all_in(schema: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(schema, Mapping):
        yield schema
    for inner in schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list) else ():
        yield from _all_in(inner)


@pytest.mark.parametrize("name", sorted(DOCUMENT["components"]["responses"]))
def test_every_error_has_an_example_that_fits(name: str) -> None:
    for content in DOCUMENT["components"]["responses"][name].get("content", {}).values():
        validator(content["schema"]).validate(content["example"])


@pytest.mark.parametrize("name", sorted({**DOCUMENT["components"]["parameters"], **DOCUMENT["components"]["headers"]}))
def test_every_parameter_and_header_has_an_example_that_fits(name: str) -> None:
    for kind in ("parameters", "headers"):
        entry = DOCUMENT["components"][kind].get(name)
        if entry is not None:
            validator(entry["schema"]).validate(entry["example"])


@pytest.mark.parametrize(("route", "method"), EXAMPLES, ids=[f"{method} {route.path}" for route, method in EXAMPLES])
def test_every_example_of_a_request_works(cast: Cast, route: Route, method: Method) -> None:
    # The operator may do all of it, in an organization where no name is taken.
    is_operators = route.request is OrganizationBody or "rate_limit" in route.request_example
    owner = cast.service.client(cast.service.operator) if is_operators else cast.alice
    world = World(cast)
    answer = owner.request(method, world.path(route.path), json=world.filled(route.request_example))
    if route.request is OrganizationBody and answer.status_code == 422:
        assert answer.json()["errors"][0]["detail"] == "is taken"
    else:
        assert answer.status_code == 200, answer.text


def test_the_links_of_a_creation_lead_to_what_can_be_done_with_it() -> None:
    links = DOCUMENT["paths"]["/queues"]["post"]["responses"]["200"]["links"]
    assert {"get_queue", "change_queue", "delete_queue", "create_queue_message"} <= links.keys()
    assert links["get_queue"]["parameters"] == {"queue_id": "$response.body#/queue/id"}
    below = DOCUMENT["paths"]["/queues/{queue_id}/listeners"]["post"]["responses"]["200"]["links"]
    assert below["delete_queue_listener"]["parameters"] == {
        "queue_id": "$request.path.queue_id",
        "listener_id": "$response.body#/listener/id",
    }


def test_every_link_leads_to_an_operation_and_gives_its_ids() -> None:
    known = {operation["operationId"]: name for name, operation in OPERATIONS}
    for _, operation in OPERATIONS:
        for link in operation["responses"]["200"].get("links", {}).values():
            path = known[link["operationId"]].partition(" ")[2]
            assert all(f"{{{name}}}" in path for name in link["parameters"])


@pytest.mark.parametrize("version", ["", "/v1"])
def test_the_document_is_served_without_a_key_and_speaks_of_where_it_was_found(cast: Cast, version: str) -> None:
    answer = cast.nobody.get(f"{version}/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, JSON)
    assert answer.json() == json.loads(json.dumps(document_of(ROUTES, cast.service.url + version)))
    assert "\n" in cast.nobody.get(f"{version}/openapi.json?pretty=true").text


def test_page_shows_every_operation_once(cast: Cast) -> None:
    answer = cast.nobody.get("/docs/api", headers={"accept": "text/html"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert all(
        (f'id="{operation["operationId"]}"' in answer.text) == ("x-alias-of" not in operation)
        for _, operation in OPERATIONS
    )


@pytest.mark.parametrize(("accept", "status"), [("text/*", 200), ("*/*", 200), ("application/json", 406)])
def test_a_page_is_html_or_nothing(cast: Cast, accept: str, status: int) -> None:
    answer = cast.nobody.get("/docs", headers={"accept": accept})
    assert answer.status_code == status
    if status == 406:
        assert answer.json()["detail"].startswith("This page is HTML, which the Accept header excludes. Accept `text/h")
        assert "content-security-policy" not in answer.headers


def response(**changes: Any) -> Seen:
    limits = {"x-ratelimit-limit": "5", "x-ratelimit-remaining": "4", "x-ratelimit-reset": "9"}
    headers = {"content-type": JSON, "x-request-id": "mine", **limits, **changes.pop("headers", {})}
    body = {"name": "discue", "version": "1", "_links": {"self": {"href": "x"}}, **changes.pop("body", {})}
    given = {"method": "GET", "path": "/", "status": 200, "content": json.dumps(body).encode(), **changes}
    return Seen(headers=httpx.Headers(headers), **given)


def test_a_response_as_it_is_described_has_no_faults() -> None:
    assert description().faults(response()) == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"status": 418}, "418 is not declared"),
        ({"status": 201}, "201 is not declared"),
        ({"headers": {"content-type": "text/plain"}}, "content type"),
        ({"headers": {"x-request-id": "a b"}}, "x-request-id"),
        ({"headers": {"x-ratelimit-limit": "many"}}, "x-ratelimit-limit"),
        ({"headers": {"x-powered-by": "us"}}, "x-powered-by is not declared"),
        ({"body": {"more": 1}}, "more"),
        ({"body": {"name": 1}}, "/name"),
        ({"path": "/nothing", "status": 200}, "no operation"),
    ],
)
def test_response_that_differs_from_the_document_is_reported(changes: dict[str, Any], word: str) -> None:
    (fault, *_) = description().faults(response(**changes))
    assert word in fault
