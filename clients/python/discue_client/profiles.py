"""The profiles that `discue login` stores in the folder of this user's configuration."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from discue_client.errors import ConfigurationError

DEFAULT = "default"
KEYRING_SERVICE = "discue"
"""Name of the entries in the keyring."""


class Profile(NamedTuple):
    """A service and the key that belongs to it."""

    url: str
    api_key: str
    """"" if the key is in the keyring."""

    def __repr__(self) -> str:
        return f"Profile({self.url!r})"


def configuration_folder() -> Path | None:
    """Return the folder, which may not exist. None if the user has no home folder."""
    try:
        base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    except RuntimeError:
        return None
    return Path(base) / "discue"


def stored_profiles() -> dict[str, Profile]:
    """Return the profiles by name. Raises ConfigurationError if the file cannot be read."""
    folder = configuration_folder()
    if folder is None:
        return {}
    path = folder / "profiles.json"
    try:
        stored = json.loads(path.read_bytes())["profiles"]
        return {name: Profile(str(each["url"]), str(each["api_key"])) for name, each in stored.items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        cause = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        problem = f"Cannot read the profiles of `discue login` in {path}: {cause}."
        raise ConfigurationError(f"{problem} Correct the file, or delete it and log in again.") from None


def keyring() -> Any:
    """Return the module `keyring` if it is installed. It is no dependency."""
    return import_module("keyring") if "keyring" in sys.modules or find_spec("keyring") else None


def keyring_key(name: str) -> str:
    """Return the key of a profile that is in the keyring, "" if there is none. Raises ConfigurationError."""
    module = keyring()
    if module is None:
        return ""
    try:
        return module.get_password(KEYRING_SERVICE, name) or ""
    except module.errors.KeyringError as error:
        raise ConfigurationError(f"The keyring cannot be read: {error}. Set DISCUE_API_KEY instead.") from None
