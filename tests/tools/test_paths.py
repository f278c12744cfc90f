"""Common operations go through no more of the program than before it was restructured."""

from pathlib import Path

from tools.paths import measure


def test_operations_enter_no_more_files_than_before(tmp_path: Path) -> None:
    longer = {operation.name: found for operation, found in measure(tmp_path).items() if len(found) > operation.base}

    assert longer == {}
