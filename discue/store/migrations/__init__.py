"""Numbered schema files, and which versions of the program may use a database."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from string import Template
from typing import NamedTuple

import msgspec

from discue.domain.errors import StoreUnusable

COMPATIBLE_FROM = 1
"""The oldest program that may use the current schema, by the number of its newest migration."""

_FILE_NAME = re.compile(r"(\d{4})_[a-z_]+\.sql")
_COMMENT = re.compile(r"--.*")


class Migration(NamedTuple):
    number: int
    name: str
    sql: str
    fingerprint: str = ""
    """A hash of the file's statements. Comments, white space and the parts that engines fill in do not change it."""


class SchemaState(NamedTuple):
    """The schema of a database, as its table `meta` describes it."""

    version: int = 0
    """The number of its newest migration; 0 for an empty database."""
    compatible_from: int = 0
    """The oldest program that may use it."""
    fingerprint: str = ""
    """The fingerprint of its first migration."""

    @classmethod
    def of(cls, meta: Mapping[str, str]) -> "SchemaState":
        version, compatible_from = (int(meta.get(key, 0)) for key in ("schema_version", "compatible_from"))
        return cls(version, compatible_from, meta.get("schema_fingerprint", ""))


def migrations(dialect: dict[str, str]) -> tuple[Migration, ...]:
    """Return all migrations in order, with the engine's types filled in."""
    found = []
    for number, file in _files():
        text = file.read_text("utf-8")
        statements = " ".join(_COMMENT.sub("", text).split())
        fingerprint = hashlib.sha256(statements.encode()).hexdigest()
        found.append(Migration(number, file.name.removesuffix(".sql"), Template(text).substitute(dialect), fingerprint))
    return tuple(sorted(found))


def newest() -> int:
    """Return the schema version that this program migrates to."""
    return max(number for number, _ in _files())


def _files() -> Iterator[tuple[int, Traversable]]:
    for file in resources.files("discue.store").joinpath("migrations").iterdir():
        match = _FILE_NAME.fullmatch(file.name)
        if match:
            yield int(match[1]), file


def pending(known: tuple[Migration, ...], found: SchemaState, name: str = "The database") -> tuple[Migration, ...]:
    """Return the migrations that a database in this state needs.

    Raises `StoreUnusable` for a database of another build before the first release, and for a newer database whose
    `compatible_from` excludes this program.
    """
    if found.version and found.fingerprint != known[0].fingerprint:
        raise StoreUnusable(
            f"{name} was made by another build of discue before its first release (schema version {found.version}). "
            "Such builds cannot read each other's databases: name a new one, or use the build that made it."
        )
    newest = known[-1].number
    if found.compatible_from > newest:
        raise StoreUnusable(
            f"{name} has schema version {found.version} and needs a program that knows version "
            f"{found.compatible_from}; this one knows version {newest}. Install a newer discue."
        )
    return tuple(migration for migration in known if migration.number > found.version)


def written_by(migration: Migration, known: tuple[Migration, ...]) -> dict[str, str]:
    """Return what `meta` says about the schema after a migration."""
    return {
        "schema_version": str(migration.number),
        "compatible_from": str(COMPATIBLE_FROM),
        "schema_fingerprint": known[0].fingerprint,
    }


class DatabaseInspection(msgspec.Struct, frozen=True):
    """The state of a database, read before it is opened."""

    exists: bool
    version: int
    """0 without a schema."""
    pending: tuple[str, ...]
    """The names of migrations that would be applied."""
    encryption: str = ""
    """The stored encryption state, for `store.encryption.decode`."""
