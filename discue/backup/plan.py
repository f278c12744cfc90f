"""Plans of backups, from settings and key files."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from discue.backup.destination import SCHEME, Destination
from discue.backup.folder import Folder
from discue.config.settings import Settings
from discue.crypto.key_file import read_keys
from discue.domain.errors import SettingsInvalid

_LIBRARY: Final = "botocore"


class BackupPlan(NamedTuple):
    """A database, the destination for its backups, and how they are made."""

    database: Path
    destination: str
    """A folder, or a bucket in the form s3://bucket/prefix."""
    key: bytes | None = None
    """Encrypts the backup; None if it is not encrypted."""
    keep_seconds: float | None = None
    """Age from which older backups of the installation are deleted; None: never."""


def plan_of(settings: Settings, environ: Mapping[str, str]) -> BackupPlan | None:
    """Return the plan of the settings; None if there is none.

    Raises SettingsInvalid if its key cannot be read or its destination cannot be used.
    """
    if settings.backup_to is None or settings.database_path is None:
        return None
    key = None if settings.backup_key_file is None else backup_keys(settings.backup_key_file)[0]
    require_usable(settings.backup_to, environ)
    return BackupPlan(settings.database_path, settings.backup_to, key, settings.backup_keep)


def destination_of(text: str, environ: Mapping[str, str]) -> Destination:
    """Return the folder or the bucket that a text names. Raises SettingsInvalid like `require_usable`."""
    require_usable(text, environ)
    if not text.startswith(SCHEME):
        return Folder(Path(text))
    from discue.backup.bucket import Bucket  # noqa: PLC0415 - an extra, and half a second of imports

    return Bucket(text, environ)


def require_usable(destination: str, environ: Mapping[str, str]) -> None:
    """Raise SettingsInvalid unless a bucket has a name and an access key, and the extra `s3` is installed."""
    if not destination.startswith(SCHEME):
        return
    if destination.startswith(f"{SCHEME}/") or destination == SCHEME:
        raise SettingsInvalid(f"{destination} names no bucket.")
    missing = [each for each in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if not environ.get(each)]
    if missing:
        raise SettingsInvalid(f"{destination} needs {' and '.join(missing)} in the environment.")
    if find_spec(_LIBRARY) is None:
        raise SettingsInvalid(
            f"{destination} needs the packages of the extra s3, which are not installed: run "
            "`pip install --require-hashes -r requirements/s3.txt` in a clone of the repository."
        )


def backup_keys(path: Path) -> tuple[bytes, ...]:
    """Return the keys in a file: the first one encrypts, each decrypts. Raises SettingsInvalid if there is none."""
    keys = read_keys(path)
    if not keys:
        raise SettingsInvalid(
            f"{path} has no key: create one with `openssl rand -base64 32 > {path}`, and keep a copy of it where the "
            "backups are not."
        )
    return keys
