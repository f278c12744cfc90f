"""Plans of backups, from settings and key files."""

from pathlib import Path
from typing import NamedTuple

from discue.config.settings import Settings
from discue.crypto.key_file import read_keys
from discue.domain.errors import SettingsInvalid


class BackupPlan(NamedTuple):
    """A database, the folder for its backups, and how they are made."""

    database: Path
    folder: Path
    key: bytes | None = None
    """Encrypts the backup; None if it is not encrypted."""
    keep_seconds: float | None = None
    """Age from which older backups of the installation are deleted; None: never."""


def plan_of(settings: Settings) -> BackupPlan | None:
    """Return the plan of the settings; None if there is none. Raises SettingsInvalid if its key cannot be read."""
    if settings.backup_to is None or settings.database_path is None:
        return None
    key = None if settings.backup_key_file is None else backup_keys(settings.backup_key_file)[0]
    return BackupPlan(settings.database_path, settings.backup_to, key, settings.backup_keep)


def backup_keys(path: Path) -> tuple[bytes, ...]:
    """Return the keys in a file: the first one encrypts, each decrypts. Raises SettingsInvalid if there is none."""
    keys = read_keys(path)
    if not keys:
        raise SettingsInvalid(
            f"{path} has no key: create one with `openssl rand -base64 32 > {path}`, and keep a copy of it where the "
            "backups are not."
        )
    return keys
