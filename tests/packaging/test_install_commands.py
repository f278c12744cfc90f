"""No command, requirement or metadata lets an installer fetch discue's own packages from an index.

They are on none: a stranger who registers their names there could run code wherever such a command is run.
"""

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
OWN = {"discue", "discue-client", "@discue/client"}
_COMMAND = re.compile(
    r"\b(?:pip3?|uv pip|uv|npm|yarn|pnpm|bun|deno) (?:install|i|add|download|wheel|tool install)\b(.*)"
)
_RUN = re.compile(r"\b(?:uvx|uv run|uv tool run|pipx run|npx|bunx)\b(.*)")
_WRITTEN = {".md", ".py", ".toml", ".txt", ".in", ".yaml", ".yml", ".html", ".js", ".ts", ".json", ".sh", ""}


def texts() -> Iterator[tuple[Path, str]]:
    """Return the files of the repository that people or programs read, without tests and recorded data."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        path = ROOT / name
        if path.suffix in _WRITTEN and not name.startswith(("tests/", "benchmarks/results")):
            yield path.relative_to(ROOT), path.read_text(errors="replace")


def names_own_package(word: str) -> bool:
    """Return whether an installer would look up a word of its command line as the name of a package of discue."""
    word = word.strip("`'\"().,;:")
    if "/" in word.removeprefix("@discue/") or "*" in word or word.endswith((".whl", ".tgz")):
        return False
    bare = re.split(r"[\[=<>~!;]|(?<!^)@", word)[0].lower().replace("_", "-")
    return bare in OWN


def fetches(command: str) -> bool:
    """Return whether a line has a command that fetches a package of discue from an index."""
    if found := _COMMAND.search(command):
        return any(names_own_package(word) for word in found[1].split("#")[0].split())
    if found := _RUN.search(command):
        words = found[1].split()
        # `uvx --from WHEEL discue`: the program of a package that the command names.
        return "--from" not in words and any(names_own_package(word) for word in words[:1])
    return False


@pytest.mark.parametrize(
    "command",
    [
        "pip install discue-client fastapi",
        "venv/bin/pip install -q 'discue[otel]'",
        "pip install discue_client==0.1.0",
        "npm install @discue/client",
        "npm install @discue/client@0.1.0",
        "uvx discue dev",
    ],
)
def test_command_that_fetches_a_package_is_recognized(command: str) -> None:
    assert fetches(command)


@pytest.mark.parametrize(
    "command",
    [
        "pip install . ./clients/python",
        "pip install discue-*.whl discue_client-*.whl",
        "npm install …/clients/typescript/discue-client-0.1.0.tgz",
        "uvx --from WHEEL --with CLIENT_WHEEL discue dev",
    ],
)
def test_command_that_installs_a_file_or_folder_is_accepted(command: str) -> None:
    assert not fetches(command)


def test_no_page_or_program_fetches_a_package_of_discue_from_an_index() -> None:
    found = [f"{path}: {line}" for path, text in texts() for line in text.splitlines() if fetches(line)]

    assert len(list(texts())) > 500
    assert found == []


def test_no_requirement_names_a_package_of_discue() -> None:
    files = [(path, text) for path, text in texts() if re.search(r"requirements.*\.(txt|in)$|requirements/", str(path))]
    named = [
        f"{path}: {line}"
        for path, text in files
        for line in text.splitlines()
        if names_own_package(line.partition(" ")[0])
    ]

    assert len(files) >= 20
    assert named == []


@pytest.mark.parametrize("project", [".", "clients/python"])
def test_no_dependency_or_extra_names_a_package_of_discue(project: str) -> None:
    found = tomllib.loads((ROOT / project / "pyproject.toml").read_text())
    extras = found["project"].get("optional-dependencies", {})
    listed = [*found["project"]["dependencies"], *found["build-system"]["requires"], *chain(*extras.values())]

    assert listed
    assert [each for each in listed if Requirement(each).name.lower().replace("_", "-") in OWN] == []


def test_packages_of_examples_and_tests_do_not_name_the_typescript_client() -> None:
    for path, text in texts():
        if path.name == "package.json":
            found = json.loads(text)
            assert not OWN & {*found.get("dependencies", {}), *found.get("devDependencies", {})}, path
