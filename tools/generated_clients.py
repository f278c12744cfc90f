"""Generates clients from the OpenAPI document with public generators: `python -m tools.generated_clients BIN`.

`BIN` is the folder with the generators of `requirements/generators.txt`. Fails on every warning: what a generator
skips is missing in a client. The Go client also calls a service.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from discue.api.openapi.document import document_of
from discue.product import ROUTES
from discue.testing.serving import serve

_TYPESCRIPT: Final = ("openapi-typescript@7.13.0", "typescript@5.9.3")
_SECONDS: Final = 300

_GO_PROGRAM: Final = Path(__file__).parents[1] / "tests" / "clients" / "go" / "main.go"
_GO_MODULE: Final = ["--git-host", "example.com", "--git-user-id", "generated", "--git-repo-id", "discue"]
_GO_PACKAGE: Final = ["--additional-properties", "packageName=discue"]
_GO_WARNINGS: Final = ("OpenAPI 3.1 support is still in beta", "Failed to get the schema name: null")
"""Harmless warnings: about the version of OpenAPI, and about lists that may be null."""


def main(generators: Path) -> None:
    """Raise SystemExit if a generator fails, warns, or makes an operation twice or not at all."""
    document = document_of(ROUTES, "https://discue.example.com/v1", aliases=False)
    names = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "openapi.json").write_text(json.dumps(document), encoding="utf-8")
        path = os.pathsep.join([str(generators), os.environ["PATH"]])
        environment = {**os.environ, "PATH": path, "PYTHONPATH": folder}
        options = ["--path", "openapi.json", "--meta", "none", "--output-path", "client", "--fail-on-warning"]
        made = _run([str(generators / "openapi-python-client"), "generate", *options], place, environment)
        if "warning" in made.lower():
            raise SystemExit(made)
        functions = sorted(file.stem for file in (place / "client/api").glob("*/*.py") if file.stem != "__init__")
        if functions != sorted(names):
            raise SystemExit(f"Operations that are not generated once: {sorted(set(functions) ^ set(names))}")
        model = ["--output-model-type", "pydantic_v2.BaseModel", "--formatters", "builtin", "--output", "models.py"]
        source = ["--input", "openapi.json", "--input-file-type", "openapi"]
        warned = _run([str(generators / "datamodel-codegen"), *source, *model], place, environment)
        if "warning" in warned.lower():
            raise SystemExit(warned)
        python = str(generators / "python")
        for module in ("client.client", "client.models", "models"):
            _run([python, "-W", "error", "-c", f"import {module}"], place, environment)
        _run(["npm", "install", "--no-audit", "--no-fund", "--silent", *_TYPESCRIPT], place, environment)
        _run(["npx", "openapi-typescript", "openapi.json", "-o", "types.ts"], place, environment)
        _run(["npx", "tsc", "--noEmit", "--strict", "types.ts"], place, environment)
        _go(names, place, generators, environment)
    print(f"{len(names)} operations, each generated once, without a warning.")


def _go(names: Sequence[str], place: Path, generators: Path, environment: dict[str, str]) -> None:
    """Generate a Go client, build a program with it, and run the program against a service."""
    missing = [program for program in ("java", "go") if shutil.which(program) is None]
    if missing and "CI" not in environment:
        print(f"{' and '.join(missing)} not found: the Go client is not built.")
        return
    command = [str(generators / "openapi-generator-cli"), "generate", "-g", "go", "-i", "openapi.json", "-o", "go"]
    made = _run([*command, *_GO_MODULE, *_GO_PACKAGE], place, environment)
    warnings = [line for line in made.splitlines() if "WARN" in line and not any(map(line.count, _GO_WARNINGS))]
    if warnings:
        raise SystemExit("\n".join(warnings))
    source = "".join(file.read_text(encoding="utf-8") for file in (place / "go").glob("api_*.go"))
    functions = re.findall(r"^func \(a \*\w+APIService\) (\w+)\(ctx ", source, re.MULTILINE)
    expected = ["".join(word.title() for word in name.split("_")) for name in names]
    if sorted(functions) != sorted(expected):
        raise SystemExit(f"Operations that Go does not have once: {sorted(set(functions) ^ set(expected))}")
    program = place / "go" / "cmd" / "main.go"
    program.parent.mkdir()
    shutil.copyfile(_GO_PROGRAM, program)
    _run(["go", "build", "-o", "../program", "./cmd"], place / "go", environment)
    with serve() as kit:
        _run(["./program", kit.url, kit.api_key], place, environment)


def _run(command: Sequence[str], folder: Path, environment: dict[str, str]) -> str:
    """Return the output. Raises SystemExit with it if the command fails."""
    ended = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if ended.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{ended.stdout}")
    return ended.stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
