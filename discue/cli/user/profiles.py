"""The service and the key that commands use: from a flag, the environment, or profiles in the user's folder."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from discue.cli.exit_codes import KeyMissing, UsageInvalid
from discue.domain.representation import shows
from discue_client.profiles import (
    DEFAULT,
    KEYRING_SERVICE,
    Profile,
    configuration_folder,
    keyring,
    keyring_key,
    stored_profiles,
)

URL_VARIABLE: Final = "DISCUE_URL"
KEY_VARIABLE: Final = "DISCUE_API_KEY"

_HERE: Final = re.compile(r"https?://(?:127\.0\.0\.1|\[::1\]|localhost):[0-9]+/?")
_DEVELOPMENT: Final = Path(".discue")
"""Folder of `discue dev`, in its working directory."""


@shows("url")
class ServiceTarget(NamedTuple):
    """A service and the key that requests to it carry, and where each of them comes from."""

    url: str
    api_key: str
    url_source: str
    key_source: str


def folder() -> Path:
    """Return the folder of this user's configuration, which may not exist. Raises UsageInvalid if it has no place."""
    found = configuration_folder()
    if found is None:
        raise UsageInvalid("This user has no home folder. Set XDG_CONFIG_HOME to a folder that can be used.")
    return found


def profiles_path() -> Path:
    return folder() / "profiles.json"


def target_of(name: str | None) -> ServiceTarget:
    """Return the service to talk to.

    A profile that is named wins, then the environment, then the profile `default`, then a server of `discue dev` with
    its data in the working directory. A stored key is sent to no other URL than the one it was stored with. Raises
    UsageInvalid, KeyMissing, and ConfigurationError if the stored profiles cannot be read.
    """
    if name is not None:
        return _stored(name)
    url, key = os.environ.get(URL_VARIABLE, ""), os.environ.get(KEY_VARIABLE, "")
    if url and key:
        return ServiceTarget(url, key, URL_VARIABLE, KEY_VARIABLE)
    found = _stored(DEFAULT) if DEFAULT in _profiles() else None
    if found is None and (found := _development()) is not None and key:
        # Its URL comes from the working directory, which may belong to another user.
        raise KeyMissing(
            f"{KEY_VARIABLE} is set, and {URL_VARIABLE} is not. Set it, or unset {KEY_VARIABLE}: the server of "
            "`discue dev` in this folder has a key of its own."
        )
    if found is None:
        missing = f"The variable {KEY_VARIABLE if url else URL_VARIABLE} is not set, and no profile is stored."
        raise KeyMissing(
            f"{missing} Run `discue login`, or set {URL_VARIABLE} and {KEY_VARIABLE}, or go to the folder that "
            "`discue dev` was started in."
        )
    if url and _same(url) != _same(found.url):
        raise KeyMissing(
            f"{URL_VARIABLE} names {url}, and the stored key belongs to {found.url}. Set {KEY_VARIABLE}, too."
        )
    return found._replace(api_key=key, key_source=KEY_VARIABLE) if key else found


def _same(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme.lower() + "://" + parts.netloc.lower(), parts.path.rstrip("/")


def _development() -> ServiceTarget | None:
    """Return the server of `discue dev` in this folder, if it has run here. It is on this machine."""
    url, key = (_content(_DEVELOPMENT / name) for name in ("url", "key"))
    source = f"`discue dev` in {_DEVELOPMENT.absolute().parent}"
    return ServiceTarget(url, key, source, source) if _HERE.fullmatch(url) and key else None


def hidden_server(target: ServiceTarget) -> str:
    """Return a sentence if there is a server of `discue dev` in this folder that the target is not; "" otherwise."""
    here = _development()
    if here is None or here.api_key == target.api_key:
        return ""
    return f"The server of {here.url_source} is not used: {target.key_source} wins over it."


def _content(path: Path) -> str:
    # The folder may be missing, or another user's.
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text("ascii").strip()
    return ""


def _stored(name: str) -> ServiceTarget:
    found = _profiles().get(name)
    if found is None:
        known = ", ".join(sorted(_profiles())) or "none"
        raise UsageInvalid(
            f"There is no profile {name}. Stored: {known}. Run `discue login --profile {name}` to store it."
        )
    source, key = f"profile {name}", found.api_key
    if key:
        return ServiceTarget(found.url, key, source, source)
    key = keyring_key(name)
    if not key:
        raise KeyMissing(f"The keyring has no key for the profile {name}. Run `discue login --profile {name}`.")
    return ServiceTarget(found.url, key, source, f"keyring, profile {name}")


def store(name: str, url: str, api_key: str) -> str:
    """Store a profile, with the key in the keyring if there is one. Returns where the key is."""
    module, in_keyring = keyring(), False
    # A machine without a desktop often has none.
    if module is not None:
        with suppress(module.errors.KeyringError):
            module.set_password(KEYRING_SERVICE, name, api_key)
            in_keyring = True
    _write({**_profiles(), name: Profile(url, "" if in_keyring else api_key)})
    return "the keyring" if in_keyring else str(profiles_path())


def remove(name: str) -> None:
    """Remove a profile and its key. Raises UsageInvalid if there is none."""
    kept = _profiles()
    found = kept.pop(name, None)
    if found is None:
        raise UsageInvalid(f"There is no profile {name}.")
    module = keyring()
    if not found.api_key and module is not None:
        with suppress(module.errors.KeyringError):
            module.delete_password(KEYRING_SERVICE, name)
    _write(kept)


def _profiles() -> dict[str, Profile]:
    folder()
    return stored_profiles()


def _write(profiles: dict[str, Profile]) -> None:
    shown = {name: each._asdict() for name, each in profiles.items()}
    write_private(profiles_path(), json.dumps({"profiles": shown}, indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Replace a file, in one step, by one that only its owner can read."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)
