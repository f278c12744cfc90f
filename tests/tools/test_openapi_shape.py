"""The shape of the OpenAPI document is frozen; names of components, prose and the order of keys are free."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from tools.openapi_shape import DOCUMENT, FROZEN, differences, frozen_text, load, shape

Change = Callable[[Any], object]

QUEUES, TOPICS = "/queues", "/topics"


def _two_paths() -> Any:
    """Return the document with two of its paths: a change of a component shows in each operation that refers to it."""
    document = load(DOCUMENT)
    document["paths"] = {path: document["paths"][path] for path in (QUEUES, TOPICS)}
    return document


def test_document_has_the_frozen_shape() -> None:
    found = differences(shape(load(FROZEN)), shape(load(DOCUMENT)))

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
    document = _two_paths()
    change(document)

    assert differences(shape(_two_paths()), shape(document)) == []


def _problem(document: Any) -> Any:
    return document["components"]["schemas"]["Problem"]


def _operation(document: Any) -> Any:
    return document["paths"][QUEUES]["get"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda document: _problem(document)["properties"].pop("title"), id="field removed"),
        pytest.param(lambda document: _problem(document).setdefault("required", []).append("more"), id="required"),
        pytest.param(lambda document: _problem(document)["properties"]["status"].update(type="string"), id="type"),
        pytest.param(lambda document: document["paths"].pop(QUEUES), id="path removed"),
        pytest.param(lambda document: document["paths"][QUEUES].pop("get"), id="method removed"),
        pytest.param(lambda document: _operation(document)["parameters"].pop(), id="parameter removed"),
        pytest.param(lambda document: _operation(document)["responses"].pop("429"), id="response removed"),
        pytest.param(lambda document: _operation(document).update(operationId="another"), id="operation renamed"),
    ],
)
def test_change_that_clients_can_see_is_reported(change: Change) -> None:
    document = _two_paths()
    change(document)

    assert differences(shape(_two_paths()), shape(document)) != []
