"""Write the bill of materials of the service: `python -m tools.sbom FILE`.

It is CycloneDX 1.6 in JSON: discue, its dependencies as `requirements/runtime.txt` pins them, their licenses, and which
needs which. The same pins give the same bytes. What a wheel contains in compiled form, such as SQLite in `apsw`, is not
listed.
"""

import json
import re
import sys
import uuid
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
OWN = ("discue", "discue-client")
_PIN = re.compile(r"^([a-z0-9][a-z0-9.-]*)==(\S+)", re.MULTILINE)
_NAMESPACE = uuid.UUID("6f9f4b0e-58a1-4f0a-9a55-0d9c9c3a3a01")

Json = dict[str, Any]


def pins() -> dict[str, str]:
    """Return the version of each pinned dependency of the service, by its normalized name."""
    return dict(_PIN.findall((ROOT / "requirements" / "runtime.txt").read_text(encoding="utf-8")))


def bill() -> Json:
    """Return the document. Raises LookupError if another version than the pinned one is installed."""
    components = {name: _component(name) for name in (*OWN, *sorted(pins()))}
    found: Json = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {**components.pop("discue"), "type": "application"}},
        "components": list(components.values()),
        "dependencies": [{"ref": _url(name), "dependsOn": sorted(_needed(name))} for name in (*OWN, *sorted(pins()))],
    }
    # The same content has the same number.
    found["serialNumber"] = f"urn:uuid:{uuid.uuid5(_NAMESPACE, json.dumps(found, sort_keys=True))}"
    return found


def _component(name: str) -> Json:
    installed, pinned = metadata.version(name), pins().get(name)
    if pinned not in {None, installed}:
        raise LookupError(f"{name} {installed} is installed, and {pinned} is pinned: run `make check` first.")
    return {
        "type": "library",
        "bom-ref": _url(name),
        "name": name,
        "version": installed,
        "purl": _url(name),
        "licenses": _licenses(name),
    }


def _url(name: str) -> str:
    return f"pkg:pypi/{name}@{metadata.version(name)}"


def _licenses(name: str) -> list[Json]:
    """Return the licenses in the metadata of a package: its expression, else its classifiers, else its `License`."""
    fields = metadata.metadata(name)
    if "License-Expression" in fields:
        return [{"expression": fields["License-Expression"]}]
    classified = [
        each.rpartition(" :: ")[2] for each in fields.get_all("Classifier", []) if each.startswith("License ::")
    ]
    names = classified or fields.get_all("License", ["unknown"])
    return [{"license": {"name": each.splitlines()[0]}} for each in names]


def _needed(name: str) -> Iterator[str]:
    if name == "discue":
        # The image contains it. The metadata does not name it, so that no installer fetches a package of that name.
        yield _url("discue-client")
    for line in metadata.requires(name) or []:
        requirement = Requirement(line)
        needed = re.sub(r"[-_.]+", "-", requirement.name).lower()
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and (needed in pins() or needed in OWN):
            yield _url(needed)


def main() -> None:
    Path(sys.argv[1]).write_text(json.dumps(bill(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
