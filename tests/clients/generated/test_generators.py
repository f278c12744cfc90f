"""Public generators make clients from the OpenAPI document, and the Go client calls a service.

`make clients` gives the folder with the generators of `requirements/generators.txt` in `GENERATORS`. Every warning is a
failure: what a generator skips is missing in a client.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from discue.api.openapi.document import document_of
from discue.product import ROUTES
from discue.testing.serving import serve

if "GENERATORS" not in os.environ:
    pytest.skip("`make clients` installs the generators", allow_module_level=True)

GENERATORS = Path(os.environ["GENERATORS"]).absolute()
DOCUMENT = document_of(ROUTES, "https://discue.example.com/v1", aliases=False)
OPERATIONS = sorted(operation["operationId"] for item in DOCUMENT["paths"].values() for operation in item.values())

_TYPESCRIPT = ("openapi-typescript@7.13.0", "typescript@5.9.3")
_SECONDS = 300

_GO_PROGRAM = Path(__file__).with_name("main.go")
_GO_MODULE = ["--git-host", "example.com", "--git-user-id", "generated", "--git-repo-id", "discue"]
_GO_PACKAGE = ["--additional-properties", "packageName=discue"]
_GO_WARNINGS = ("OpenAPI 3.1 support is still in beta", "Failed to get the schema name: null")
"""Harmless warnings: about the version of OpenAPI, and about lists that may be null."""


def run(command: Sequence[str], folder: Path) -> str:
    """Run a program, one of the generators for instance, and return its output."""
    path = os.pathsep.join([str(GENERATORS), os.environ["PATH"]])
    ended = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, f"{' '.join(command)} failed:\n{ended.stdout}"
    return ended.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the document."""
    (tmp_path / "openapi.json").write_text(json.dumps(DOCUMENT), encoding="utf-8")
    return tmp_path


def test_python_client_has_each_operation_once(folder: Path) -> None:
    options = ["--path", "openapi.json", "--meta", "none", "--output-path", "client", "--fail-on-warning"]
    made = run([str(GENERATORS / "openapi-python-client"), "generate", *options], folder)
    modules = (file.stem for file in (folder / "client/api").glob("*/*.py"))

    assert "warning" not in made.lower(), made
    assert sorted(name for name in modules if name != "__init__") == OPERATIONS
    for module in ("client.client", "client.models"):
        run([str(GENERATORS / "python"), "-W", "error", "-c", f"import {module}"], folder)


def test_models_of_pydantic_can_be_imported(folder: Path) -> None:
    model = ["--output-model-type", "pydantic_v2.BaseModel", "--formatters", "builtin", "--output", "models.py"]
    source = ["--input", "openapi.json", "--input-file-type", "openapi"]
    made = run([str(GENERATORS / "datamodel-codegen"), *source, *model], folder)

    assert "warning" not in made.lower(), made
    run([str(GENERATORS / "python"), "-W", "error", "-c", "import models"], folder)


def test_types_of_typescript_are_valid(folder: Path) -> None:
    run(["npm", "install", "--no-audit", "--no-fund", "--silent", *_TYPESCRIPT], folder)
    run(["npx", "openapi-typescript", "openapi.json", "-o", "types.ts"], folder)
    run(["npx", "tsc", "--noEmit", "--strict", "types.ts"], folder)


@pytest.mark.skipif(
    "CI" not in os.environ and not (shutil.which("java") and shutil.which("go")), reason="needs Java and Go"
)
def test_go_client_has_each_operation_once_and_calls_a_service(folder: Path) -> None:
    command = [str(GENERATORS / "openapi-generator-cli"), "generate", "-g", "go", "-i", "openapi.json", "-o", "go"]
    made = run([*command, *_GO_MODULE, *_GO_PACKAGE], folder)
    source = "".join(file.read_text(encoding="utf-8") for file in (folder / "go").glob("api_*.go"))
    functions = re.findall(r"^func \(a \*\w+APIService\) (\w+)\(ctx ", source, re.MULTILINE)

    assert [line for line in made.splitlines() if "WARN" in line and not any(map(line.count, _GO_WARNINGS))] == []
    assert sorted(functions) == sorted("".join(word.title() for word in name.split("_")) for name in OPERATIONS)
    (folder / "go" / "cmd").mkdir()
    shutil.copyfile(_GO_PROGRAM, folder / "go" / "cmd" / "main.go")
    run(["go", "build", "-o", "../program", "./cmd"], folder / "go")
    with serve() as kit:
        run(["./program", kit.url, kit.api_key], folder)
