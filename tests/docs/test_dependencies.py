import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETS = ("build", "runtime", "dev")


def direct_dependencies(name: str) -> list[str]:
    lines = (ROOT / "requirements" / f"{name}.in").read_text().splitlines()
    return [found[0] for line in lines if (found := re.match(r"[a-z][a-z0-9-]*", line))]


def pins(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", SETS)
def test_every_direct_dependency_has_a_reason(name: str) -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    explained = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (.+) \|$", page, re.MULTILINE))

    assert direct_dependencies(name)
    assert [package for package in direct_dependencies(name) if len(explained.get(package, "")) < 10] == []


def test_dependencies_page_lists_no_removed_dependency() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    known = {package for name in SETS for package in direct_dependencies(name)}

    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", page, re.MULTILINE)) == known


@pytest.mark.parametrize("name", SETS)
def test_every_pin_has_a_hash_and_no_index_url(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    blocks = re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]

    assert len(blocks) == len(pins(name))
    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert "://" not in text
    assert not re.search(r"^--", text, re.MULTILINE)


@pytest.mark.parametrize("name", SETS)
def test_every_direct_dependency_is_pinned(name: str) -> None:
    assert set(direct_dependencies(name)) - pins(name).keys() == set()


@pytest.mark.parametrize("name", ["build", "runtime"])
def test_development_pins_the_runtime_versions(name: str) -> None:
    assert pins("dev").items() >= pins(name).items()
