"""The shape of the OpenAPI document is frozen; names of components, prose and the order of keys are free."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from tools.openapi_shape import DOCUMENT, FROZEN, differences, frozen_text, load

Change = Callable[[Any], object]

QUEUES = "/queues"


def test_document_has_the_frozen_shape() -> None:
    found = differences(load(FROZEN), load(DOCUMENT))

    assert not found, "clients see a change (`python -m tools.openapi_shape --freeze` accepts it):\n" + "\n".join(found)


def test_frozen_file_is_written_in_its_normal_form() -> None:
    assert FROZEN.read_text(encoding="utf-8") == frozen_text(load(FROZEN))


def _rename_component(document: Any) -> None:
    text = json.dumps(document["components"]).replace('schemas/Problem"', 'schemas/Renamed"')
    document["components"] = json.loads(text)
    schemas = document["components"]["schemas"]
    schemas["Renamed"] = schemas.pop("Problem")


def _inline_component(document: Any) -> None:
    response = document["components"]["responses"]["BadRequest"]
    response["content"]["application/json"]["schema"] = copy.deepcopy(document["components"]["schemas"]["Problem"])


def _reword(document: Any) -> None:
    document["paths"][QUEUES]["get"]["summary"] = "Another summary"
    document["components"]["schemas"]["Problem"]["description"] = "Another description."


def _reorder(document: Any) -> None:
    document["paths"] = dict(reversed(document["paths"].items()))
    document["paths"][QUEUES]["get"]["parameters"].reverse()
    for schema in document["components"]["schemas"].values():
        for key in {"required", "anyOf"} & schema.keys():
            schema[key].reverse()


@pytest.mark.parametrize("change", [_rename_component, _inline_component, _reword, _reorder])
def test_change_without_effect_on_clients_is_accepted(change: Change) -> None:
    document = load(DOCUMENT)
    change(document)

    assert differences(load(DOCUMENT), document) == []


def _remove_field(document: Any) -> None:
    del document["components"]["schemas"]["Problem"]["properties"]["title"]


def _require_field(document: Any) -> None:
    schema = document["components"]["schemas"]["Problem"]
    schema["required"] = [*schema.get("required", []), "more"]


def _change_type(document: Any) -> None:
    document["components"]["schemas"]["Problem"]["properties"]["status"]["type"] = "string"


def _remove_path(document: Any) -> None:
    del document["paths"][QUEUES]


def _remove_method(document: Any) -> None:
    del document["paths"][QUEUES]["get"]


def _remove_parameter(document: Any) -> None:
    document["paths"][QUEUES]["get"]["parameters"].pop()


def _remove_response(document: Any) -> None:
    del document["paths"][QUEUES]["get"]["responses"]["429"]


def _rename_operation(document: Any) -> None:
    document["paths"][QUEUES]["get"]["operationId"] = "another"


@pytest.mark.parametrize(
    "change",
    [
        _remove_field,
        _require_field,
        _change_type,
        _remove_path,
        _remove_method,
        _remove_parameter,
        _remove_response,
        _rename_operation,
    ],
)
def test_change_that_clients_can_see_is_reported(change: Change) -> None:
    document = load(DOCUMENT)
    change(document)

    assert differences(load(FROZEN), document) != []
