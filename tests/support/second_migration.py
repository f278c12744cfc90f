"""A program with one additional migration, for tests of migrations."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from discue.cli import migrate
from discue.store import migrations
from discue.store.postgres import schema

_SQL = """
ALTER TABLE cursor ADD COLUMN added BIGINT NOT NULL DEFAULT 7;
CREATE INDEX attempt_added ON attempt (organization, number);
"""


def add_second_migration(patch: pytest.MonkeyPatch, folder: Path, *, sql: str = _SQL, compatible_from: int = 1) -> None:
    """Let the program know a second migration, which programs from `compatible_from` on can use."""
    file = folder / "0002_second.sql"
    file.write_text(sql, encoding="utf-8")
    own = [*migrations._files()]

    def files() -> Iterator[tuple[int, object]]:
        yield from own
        yield 2, file

    patch.setattr(migrations, "_files", files)
    for module in (migrations, migrate, schema):
        patch.setattr(module, "COMPATIBLE_FROM", compatible_from)
