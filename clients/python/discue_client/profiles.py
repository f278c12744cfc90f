"""The profile that `discue login` has stored in the folder of this user's configuration."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from discue_client.errors import ConfigurationError


class Profile(NamedTuple):
    """A service and the key that belongs to it."""

    url: str
    api_key: str


def default_profile() -> Profile | None:
    """Return the profile `default`, None if nobody has logged in. Raises ConfigurationError for an unreadable one."""
    path = Path(os.environ.get("XDG_CONFIG_HOME") or Path("~", ".config"), "discue", "profiles.json")
    try:
        stored = json.loads(path.expanduser().read_bytes())["profiles"].get("default")
        return None if stored is None else Profile(str(stored["url"]), str(stored["api_key"]) or _keyring_key())
    except (FileNotFoundError, NotADirectoryError, RuntimeError):
        # A user without a home folder has no profile either.
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"Cannot read the profile of `discue login` in {path}: {error}") from None


def _keyring_key() -> str:
    if "keyring" not in sys.modules and find_spec("keyring") is None:
        return ""
    return import_module("keyring").get_password("discue", "default") or ""
