"""The bill of materials that `make sbom` has written."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def bill() -> Any:
    """Return the document. Skips the test if there is none, except in CI."""
    path = ROOT / "dist" / "discue.cdx.json"
    if not path.exists() and "CI" not in os.environ:
        pytest.skip("there is no bill of materials: `make sbom` writes it")
    return json.loads(path.read_text())


def versions() -> dict[str, str]:
    """Return the versions of what is listed, by normalized name."""
    listed = (bill()["metadata"]["component"], *bill()["components"])
    return {each["name"].replace("_", "-").lower(): each["version"] for each in listed}
