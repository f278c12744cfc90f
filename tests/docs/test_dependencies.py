import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETS = ("build", "runtime", "otel", "s3", "sbom", "mutate", "browser", "dev")


def direct_dependencies(name: str) -> list[str]:
    lines = (ROOT / "requirements" / f"{name}.in").read_text().splitlines()
    return [found[0] for line in lines if (found := re.match(r"[a-z][a-z0-9-]*", line))]


def npm_dependencies() -> list[str]:
    package = json.loads((ROOT / "clients" / "typescript" / "package.json").read_text())
    return list(package["devDependencies"])


def pins(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


@pytest.mark.parametrize("packages", [*map(direct_dependencies, SETS), npm_dependencies()], ids=[*SETS, "npm"])
def test_every_direct_dependency_has_a_reason(packages: list[str]) -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    explained = dict(re.findall(r"^\| `([a-z0-9@/-]+)` \| (.+) \|$", page, re.MULTILINE))

    assert packages
    assert [package for package in packages if len(explained.get(package, "")) < 10] == []


def test_dependencies_page_lists_no_removed_dependency() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    known = {package for name in SETS for package in direct_dependencies(name)} | set(npm_dependencies())

    assert set(re.findall(r"^\| `([a-z0-9@/-]+)` \|", page, re.MULTILINE)) == known


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


def test_lock_file_of_npm_has_a_hash_for_every_package_and_no_address() -> None:
    text = (ROOT / "clients" / "typescript" / "package-lock.json").read_text()
    packages = {name: package for name, package in json.loads(text)["packages"].items() if name}

    assert {f"node_modules/{name}" for name in npm_dependencies()} <= packages.keys()
    assert [name for name, package in packages.items() if not package["integrity"].startswith("sha512-")] == []
    assert "://" not in text
