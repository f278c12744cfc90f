"""The bill of materials lists exactly what the pins install, with versions and licenses. `make sbom` validates it."""

import json
import re

from tests.image.bill_of_materials import ROOT, bill, versions

OWN = {"discue", "discue-client"}


def test_bill_of_materials_lists_the_pins_with_licenses() -> None:
    pins = re.findall(r"^([a-z0-9][a-z0-9.-]*)==(\S+)", (ROOT / "requirements/runtime.txt").read_text(), re.MULTILINE)

    assert {name: version for name, version in versions().items() if name not in OWN} == dict(pins)
    assert versions().keys() >= OWN
    assert [each["name"] for each in bill()["components"] if not each.get("licenses")] == []


def test_bill_of_materials_lists_the_dependencies_of_packages() -> None:
    needs = {each["ref"]: each.get("dependsOn", []) for each in bill()["dependencies"]}
    # The image contains the client. The metadata of the service does not name it, so that no installer fetches it.
    found = [bill()["metadata"]["component"]["bom-ref"]]
    found += [each["bom-ref"] for each in bill()["components"] if each["name"] == "discue-client"]
    reached = set[str]()
    while found:
        reached.add(ref := found.pop())
        found += set(needs[ref]) - reached

    assert reached == needs.keys()


def test_bill_of_materials_names_no_file_of_the_machine_and_no_time() -> None:
    text = json.dumps(bill())

    assert "file:" not in text
    assert str(ROOT) not in text
    assert "timestamp" not in bill()["metadata"]
