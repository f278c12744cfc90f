"""The programs of a PostgreSQL server on this machine, and the account that may run them."""

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

import pytest

FOLDER_VARIABLE = "POSTGRES_PROGRAMS"
PATIENCE_SECONDS = 60.0

_DEBIAN = Path("/usr/lib/postgresql")
_NEEDED = ("initdb", "postgres")


class ProgramFailed(Exception):
    """A program of PostgreSQL failed; what it said is the message."""


class Account(NamedTuple):
    """The account that runs the programs: PostgreSQL refuses root. None is the current account."""

    user: int | None = None
    group: int | None = None

    def own(self, path: Path) -> None:
        """Give it a file or folder."""
        if self.user is not None and self.group is not None:
            os.chown(path, self.user, self.group)

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of `subprocess.run` that make it the process's account."""
        return {"user": self.user, "group": self.group, "extra_groups": None if self.user is None else ()}


@dataclass(frozen=True)
class Programs:
    """The programs of one version, all in one folder."""

    folder: Path
    account: Account

    @cached_property
    def major(self) -> int:
        """15 of 15.4: the features and the format of the data follow it."""
        found = re.search(r"\(PostgreSQL\) (\d+)", self.run("postgres", "--version", folder=self.folder))
        assert found is not None
        return int(found[1])

    def require(self, name: str) -> None:
        """Skips the test, or fails it under CI, where a program is missing that not every package has."""
        if not (self.folder / name).is_file():
            _do_without(f"there is no {name} in {self.folder}")

    def run(self, name: str, *arguments: str, folder: Path) -> str:
        """Run a program and return its output. Raises ProgramFailed with the output if it fails."""
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [str(self.folder / name), *arguments],
            cwd=folder,
            env=_environment(),
            **self.account.options,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        if done.returncode:
            raise ProgramFailed(f"{name} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def begin(self, name: str, arguments: Sequence[str], *, folder: Path, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        """Start a program in the background, in its own session: an interrupt of pytest does not reach it."""
        return subprocess.Popen(
            [str(self.folder / name), *arguments],
            cwd=folder,
            env=_environment(),
            **self.account.options,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def find_programs() -> Programs | None:
    """Find the programs: in the folder POSTGRES_PROGRAMS if it is set, else on PATH, else the distribution's newest."""
    named = os.environ.get(FOLDER_VARIABLE)
    folders = [Path(named)] if named else _installed()
    folder = next((folder for folder in folders if all((folder / name).is_file() for name in _NEEDED)), None)
    return None if folder is None else Programs(folder.absolute(), _account())


def require_programs() -> Programs:
    """Skips the test where there are none. Under CI that is a failure: the engine would go untested."""
    programs = find_programs()
    if programs is None:
        _do_without(f"there are no PostgreSQL server programs in {FOLDER_VARIABLE}, on PATH or under {_DEBIAN}")
    return programs


def _do_without(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def _installed() -> Iterator[Path]:
    if server := shutil.which("postgres"):
        yield Path(server).resolve().parent
    yield from sorted(_DEBIAN.glob("[0-9]*/bin"), key=lambda folder: float(folder.parent.name), reverse=True)


def _account() -> Account:
    if os.geteuid() != 0:
        return Account()
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = names.get("postgres") or names["nobody"]
    return Account(entry.pw_uid, entry.pw_gid)


def _environment() -> dict[str, str]:
    """Return the environment without variables that PostgreSQL's programs read: PGDATA, PGPORT, the locale."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
