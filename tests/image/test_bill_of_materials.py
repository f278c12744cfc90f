"""The bill of materials is valid CycloneDX, and lists exactly what the pins install, with versions and licenses."""

import json
import os
from pathlib import Path

import pytest
from jsonschema import Draft7Validator  # type: ignore[import-untyped]
from referencing import Registry, Resource

from tools import sbom

SCHEMAS = Path(os.environ.get("CYCLONEDX", ""))


@pytest.mark.skipif(
    "CYCLONEDX" not in os.environ, reason="the schema of CycloneDX is not there: `make packages` gets it"
)
def test_bill_of_materials_is_valid_cyclonedx() -> None:
    schemas = {path.name.replace(".SNAPSHOT", ""): json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")}
    registry = Registry().with_resources(
        (f"http://cyclonedx.org/schema/{name}", Resource.from_contents(schema)) for name, schema in schemas.items()
    )
    validator = Draft7Validator(schemas["bom-1.6.schema.json"], registry=registry)

    assert [error.message for error in validator.iter_errors(sbom.bill())] == []
    assert [error.json_path for error in validator.iter_errors({**sbom.bill(), "components": [{}]})]


def test_bill_of_materials_lists_the_pins_with_licenses_and_what_needs_what() -> None:
    bill = sbom.bill()
    components = {each["name"]: each for each in bill["components"]}
    needs = {each["ref"]: each["dependsOn"] for each in bill["dependencies"]}

    assert {name: each["version"] for name, each in components.items() if name not in sbom.OWN} == sbom.pins()
    assert [name for name, each in components.items() if "unknown" in json.dumps(each["licenses"])] == []
    reached, found = set[str](), [bill["metadata"]["component"]["bom-ref"]]
    while found:
        reached.add(ref := found.pop())
        found += set(needs[ref]) - reached
    assert reached == needs.keys(), "everything is there because discue needs it"


def test_same_pins_give_the_same_bill_of_materials() -> None:
    assert sbom.bill() == sbom.bill()
