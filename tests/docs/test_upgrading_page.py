"""The table of versions says what the program, the previous version's wheel and the changelog say."""

import json
import re
import zipfile
from pathlib import Path

import pytest

from discue import __version__
from discue.store.migrations import COMPATIBLE_FROM, newest

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (\d[\w.]*) \| (\d+) \| (\d+) \| `(/v\d+)` ([\w.]+) \| (.+) \|$", re.MULTILINE)
VERSIONS = {row[0]: row[1:] for row in ROW.findall((ROOT / "docs" / "upgrading.md").read_text())}
(WHEEL,) = (ROOT / "tests" / "upgrade" / "previous").glob("*.whl")


@pytest.fixture(scope="module")
def wheel() -> dict[str, str]:
    """The text of each file of the previous version's wheel."""
    archive = zipfile.ZipFile(WHEEL)
    return {name: archive.read(name).decode() for name in archive.namelist()}


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


def test_row_of_the_previous_version_says_what_its_wheel_does(wheel: dict[str, str]) -> None:
    version = WHEEL.name.split("-")[1]
    numbers = [int(found[1]) for name in wheel if (found := re.search(r"/migrations/(\d{4})_\w+\.sql$", name))]
    compatible = re.search(r"^COMPATIBLE_FROM = (\d+)$", wheel["discue/store/migrations/__init__.py"], re.MULTILINE)
    assert compatible is not None

    schema, usable_from, *_ = VERSIONS[version]

    assert f'__version__ = "{version}"' in wheel["discue/__init__.py"]
    assert (int(schema), int(usable_from)) == (max(numbers), int(compatible[1]))


def test_previous_version_can_use_the_database_of_this_one() -> None:
    """Otherwise a rolling upgrade is impossible: the page has to say so, and its test has to change."""
    schema = int(VERSIONS[WHEEL.name.split("-")[1]][0])

    assert schema >= COMPATIBLE_FROM


def test_wheel_of_the_previous_version_names_no_place_of_the_machine_that_built_it(wheel: dict[str, str]) -> None:
    assert [
        name for name, text in wheel.items() if re.search(r"(/root/|/home/\w|/tmp/tmp|file://\S+/discue)", text)
    ] == []
