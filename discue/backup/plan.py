"""Plans of backups, from settings and key files."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from discue.backup.bucket import SCHEME, bucket_of
from discue.backup.destination import Destination
from discue.backup.folder import Folder
from discue.config.settings import Settings
from discue.crypto.key_file import read_keys
from discue.domain.clock import Clock
from discue.domain.errors import SettingsInvalid


class BackupPlan(NamedTuple):
    """A database, the destination for its backups, and how they are made."""

    database: Path
    destination: Destination
    key: bytes | None = None
    """Encrypts the backup; None if it is not encrypted."""
    keep_seconds: float | None = None
    """Age from which older backups of the installation are deleted; None: never."""


def plan_of(settings: Settings, environ: Mapping[str, str], clock: Clock) -> BackupPlan | None:
    """Return the plan of the settings; None if there is none. Raises SettingsInvalid if its key cannot be read."""
    if settings.backup_to is None or settings.database_path is None:
        return None
    key = None if settings.backup_key_file is None else backup_keys(settings.backup_key_file)[0]
    destination = destination_of(settings.backup_to, environ, clock)
    return BackupPlan(settings.database_path, destination, key, settings.backup_keep)


def destination_of(text: str, environ: Mapping[str, str], clock: Clock) -> Destination:
    """Return the folder or the bucket that a text names. Raises SettingsInvalid."""
    return bucket_of(text, environ, clock) if text.startswith(SCHEME) else Folder(Path(text))


def backup_keys(path: Path) -> tuple[bytes, ...]:
    """Return the keys in a file: the first one encrypts, each decrypts. Raises SettingsInvalid if there is none."""
    keys = read_keys(path)
    if not keys:
        raise SettingsInvalid(
            f"{path} has no key: create one with `openssl rand -base64 32 > {path}`, and keep a copy of it where the "
            "backups are not."
        )
    return keys
