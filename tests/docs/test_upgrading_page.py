"""The table of versions agrees with the program and the changelog."""

import json
import re
from pathlib import Path

from discue import __version__
from discue.store.migrations import COMPATIBLE_FROM, newest

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (\d[\w.]*) \| (\d+) \| (\d+) \| `(/v\d+)` ([\w.]+) \| (.+) \|$", re.MULTILINE)
VERSIONS = {row[0]: row[1:] for row in ROW.findall((ROOT / "docs" / "upgrading.md").read_text())}


def test_first_row_is_this_version_with_its_schema_and_api() -> None:
    api = json.loads((ROOT / "docs" / "openapi.json").read_text())
    (server,) = api["servers"]

    version, (schema, usable_from, prefix, api_version, _) = next(iter(VERSIONS.items()))

    assert version == __version__
    assert (int(schema), int(usable_from)) == (newest(), COMPATIBLE_FROM)
    assert (prefix, api_version) == (server["url"], api["info"]["version"])


def test_every_version_of_the_changelog_has_a_row() -> None:
    released = re.findall(r"^## (\d[\w.]*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert released
    assert [version for version in VERSIONS if "dev" not in version] == released
