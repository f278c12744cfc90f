"""The numbered schema files, and what a database's version means for this program."""

import re
from collections.abc import Iterator
from importlib import resources
from importlib.abc import Traversable
from string import Template
from typing import NamedTuple

import msgspec

from discue.domain.errors import StoreUnusable

COMPATIBLE_FROM = 16
"""The oldest program (by the number of its newest migration) that may work on the schema as it stands now."""

_FILE_NAME = re.compile(r"(\d{4})_[a-z_]+\.sql")


class Migration(NamedTuple):
    number: int
    name: str
    sql: str


def migrations(dialect: dict[str, str]) -> tuple[Migration, ...]:
    """Every migration in its order, with the engine's words filled in."""
    found = []
    for number, file in _files():
        sql = Template(file.read_text("utf-8")).substitute(dialect)
        found.append(Migration(number, file.name.removesuffix(".sql"), sql))
    return tuple(sorted(found))


def newest() -> int:
    """The schema version that this program brings a database to."""
    return max(number for number, _ in _files())


def _files() -> Iterator[tuple[int, Traversable]]:
    for file in resources.files("discue.store").joinpath("migrations").iterdir():
        match = _FILE_NAME.fullmatch(file.name)
        if match:
            yield int(match[1]), file


def pending(known: tuple[Migration, ...], version: int, compatible_from: int) -> tuple[Migration, ...]:
    """The migrations that a database at `version` still needs.

    A newer database is fine as long as its `compatible_from` does not exclude this program.
    Raises `StoreUnusable` when it does.
    """
    newest = known[-1].number
    if compatible_from > newest:
        raise StoreUnusable(
            f"The database has schema version {version} and needs a program that knows version {compatible_from}; "
            f"this one knows version {newest}. Install a newer discue."
        )
    return tuple(migration for migration in known if migration.number > version)


class DatabaseInspection(msgspec.Struct, frozen=True):
    """What stands there. `version` is 0 without a schema; `pending` are the names of migrations to come.

    `encryption` is what the database says of that, as `store.encryption.parsed` takes it.
    """

    exists: bool
    version: int
    pending: tuple[str, ...]
    encryption: str = ""
