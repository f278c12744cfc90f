"""Numbered schema files, and which versions of the program may use a database."""

import re
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from string import Template
from typing import NamedTuple

import msgspec

from discue.domain.errors import StoreUnusable

COMPATIBLE_FROM = 23
"""The oldest program that may use the current schema, by the number of its newest migration."""

_FILE_NAME = re.compile(r"(\d{4})_[a-z_]+\.sql")


class Migration(NamedTuple):
    number: int
    name: str
    sql: str


def migrations(dialect: dict[str, str]) -> tuple[Migration, ...]:
    """Return all migrations in order, with the engine's types filled in."""
    found = []
    for number, file in _files():
        sql = Template(file.read_text("utf-8")).substitute(dialect)
        found.append(Migration(number, file.name.removesuffix(".sql"), sql))
    return tuple(sorted(found))


def newest() -> int:
    """Return the schema version that this program migrates to."""
    return max(number for number, _ in _files())


def _files() -> Iterator[tuple[int, Traversable]]:
    for file in resources.files("discue.store").joinpath("migrations").iterdir():
        match = _FILE_NAME.fullmatch(file.name)
        if match:
            yield int(match[1]), file


def pending(known: tuple[Migration, ...], version: int, compatible_from: int) -> tuple[Migration, ...]:
    """Return the migrations that a database at `version` needs.

    A newer database is usable unless its `compatible_from` excludes this program: then raises `StoreUnusable`.
    """
    newest = known[-1].number
    if compatible_from > newest:
        raise StoreUnusable(
            f"The database has schema version {version} and needs a program that knows version {compatible_from}; "
            f"this one knows version {newest}. Install a newer discue."
        )
    return tuple(migration for migration in known if migration.number > version)


class DatabaseInspection(msgspec.Struct, frozen=True):
    """The state of a database, read before it is opened."""

    exists: bool
    version: int
    """0 without a schema."""
    pending: tuple[str, ...]
    """The names of migrations that would be applied."""
    encryption: str = ""
    """The stored encryption state, for `store.encryption.decode`."""
