"""The hand-written parts of the clients stay small. Lines of code count: no blank lines, comments or docstrings."""

import re
from pathlib import Path

CLIENTS = Path(__file__).parents[2] / "clients"
PYTHON = CLIENTS / "python" / "discue_client"

ADAPTER_LINES = 60
TYPESCRIPT_LINES = 600


def typescript_lines(path: Path) -> int:
    text = re.sub(r"/\*\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return sum(bool(line.strip()) and not line.strip().startswith("//") for line in text.splitlines())


def test_each_adapter_of_the_python_client_is_small() -> None:
    sizes = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in PYTHON.glob("adapters/*.py")}

    assert len(sizes) > 5
    assert {name: size for name, size in sizes.items() if size > ADAPTER_LINES} == {}


def test_typescript_client_is_small() -> None:
    written = [*(CLIENTS / "typescript" / "src").glob("*.ts")]

    assert len(written) > 5
    assert sum(map(typescript_lines, written)) <= TYPESCRIPT_LINES
