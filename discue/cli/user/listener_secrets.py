"""The file into which `discue apply` writes the signing secrets of new listeners."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, TypeAlias

from discue.cli.exit_codes import CommandFailed
from discue.cli.user.profiles import write_private

Secrets: TypeAlias = dict[str, dict[str, str]]
"""Secrets by the alias of the listener, by the alias of its queue."""

_OTHERS: Final = 0o077


class SecretsFile:
    """A JSON file that only its owner can read. New secrets are merged with those in the file."""

    def __init__(self, name: str) -> None:
        """Read the file, if it exists. Raises CommandFailed if others can read it, or if it has other content."""
        # A symbolic link stays: its target is replaced.
        self._path = Path(name).resolve()
        self._read()

    def write(self, new: Secrets) -> None:
        """Add the secrets, and replace the file in one step. Raises CommandFailed."""
        secrets = self._read()
        for queue, listeners in new.items():
            secrets.setdefault(queue, {}).update(listeners)
        try:
            write_private(self._path, json.dumps(secrets, indent=2) + "\n")
        except OSError as error:
            raise CommandFailed(f"Cannot write {self._path}: {error.strerror}. Name another file.") from None

    def _read(self) -> Secrets:
        try:
            if not self._path.exists():
                return {}
            if not self._path.is_file():
                raise CommandFailed(f"{self._path} is not a regular file. Name another file.")
            if self._path.stat().st_mode & _OTHERS:
                raise CommandFailed(
                    f"Other users can read or change {self._path}. Run `chmod 600 {self._path}`, or name another file."
                )
            content = self._path.read_bytes()
        except OSError as error:
            raise CommandFailed(f"Cannot read {self._path}: {error.strerror}. Name another file.") from None
        try:
            found = json.loads(content)
        except ValueError:
            found = None
        if not _is_secrets(found):
            raise CommandFailed(f"{self._path} is not a file of secrets from `discue apply`. Name another file.")
        secrets: Secrets = found
        return secrets


def _is_secrets(found: object) -> bool:
    return isinstance(found, dict) and all(
        isinstance(listeners, dict) and all(isinstance(secret, str) for secret in listeners.values())
        for listeners in found.values()
    )
