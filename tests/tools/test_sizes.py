"""The hand-written parts of the clients, and the simulation, stay small.

Lines of code count: no blank lines, comments or docstrings.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
CLIENTS = REPOSITORY / "clients"
PYTHON = CLIENTS / "python" / "discue_client"

PYTHON_LINES = 1_520
ADAPTER_LINES = 60
TYPESCRIPT_LINES = 605
TYPESCRIPT_INBOX_LINES = 80
SIMULATION_LINES = 3_065


def python_lines(path: Path) -> int:
    text = path.read_text(encoding="utf-8")
    described = {line for each in _texts(ast.parse(text)) for line in range(each.lineno, (each.end_lineno or 0) + 1)}
    lines = enumerate(text.splitlines(), 1)
    return sum(bool(line.strip()) and line.strip()[0] != "#" and number not in described for number, line in lines)


def _texts(tree: ast.Module) -> Iterator[ast.Expr]:
    """Yield docstrings, and texts that describe an attribute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node


def typescript_lines(path: Path) -> int:
    text = re.sub(r"/\*\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return sum(bool(line.strip()) and not line.strip().startswith("//") for line in text.splitlines())


def is_written(path: Path) -> bool:
    """Whether a module of the Python client was written by hand. Generated ones say so."""
    return "Written by `make docs`" not in path.read_text(encoding="utf-8")[:500]


def test_core_of_the_python_client_is_small() -> None:
    # The arithmetic of a signature does what a package does where that is installed.
    apart = {PYTHON / name for name in ("adapters", "connections.py", "ed25519.py", "inbox", "outbox")}
    written = [path for path in PYTHON.rglob("*.py") if is_written(path) and not apart & {path, *path.parents}]

    assert len(written) > 10
    assert sum(map(python_lines, written)) <= PYTHON_LINES


def test_each_adapter_of_the_python_client_is_small() -> None:
    sizes = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in PYTHON.glob("adapters/*.py")}

    assert len(sizes) > 5
    assert {name: size for name, size in sizes.items() if size > ADAPTER_LINES} == {}


def test_typescript_client_is_small() -> None:
    inbox = CLIENTS / "typescript" / "src" / "inbox.ts"
    written = [*(CLIENTS / "typescript" / "src").glob("*.ts")]

    assert len(written) > 5
    assert sum(map(typescript_lines, written)) - typescript_lines(inbox) <= TYPESCRIPT_LINES
    assert typescript_lines(inbox) <= TYPESCRIPT_INBOX_LINES


def test_simulation_is_small() -> None:
    written = [*(REPOSITORY / "tests" / "simulation").glob("*.py")]

    assert len(written) > 10
    assert sum(map(python_lines, written)) <= SIMULATION_LINES
