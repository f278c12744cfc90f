"""The OpenAPI document in other tools: the schema of the specification, and a fuzzer."""

import jsonschema_rs
import schemathesis
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.definitions import OPENAPI_31

from discue.api.openapi.document import document_of
from discue.api.resources import ROUTES

DOCUMENT = document_of(ROUTES, "http://127.0.0.1:3000/v1")
OPERATIONS = sum(len(route.methods) for route in ROUTES)


def test_the_document_is_one_by_the_specification() -> None:
    jsonschema_rs.Draft202012Validator(OPENAPI_31).validate(DOCUMENT)


def test_every_schema_is_one_by_json_schema() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        assert jsonschema_rs.meta.is_valid(schema)


def test_a_fuzzer_finds_every_operation_and_can_make_up_requests_for_each() -> None:
    found = list(schemathesis.openapi.from_dict(DOCUMENT).get_all_operations())

    assert len(found) == OPERATIONS
    assert all(isinstance(result, Ok) for result in found)
