"""The local server that messages are forwarded to, and the secret that they are signed with."""

from __future__ import annotations

import os
import secrets
from typing import Final, NamedTuple

from discue.cli.exit_codes import UsageInvalid
from discue.cli.user.profiles import folder, write_private
from discue.crypto.signing import SigningKey, decode_private_key, decode_secret, new_secret
from discue.domain.egress import Target, parse_target
from discue.domain.errors import DiscueError

SECRET_VARIABLE: Final = "DISCUE_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable
_PRIVATE_KEY: Final = "whsk_"
_LOCAL_NAMES: Final = (".localhost", ".local", ".test", ".internal", ".home.arpa")


def full_url(text: str) -> str:
    """Return the URL of a short form: `8000/hook` and `localhost:8000/hook` mean this machine, by http."""
    if text.partition("/")[0].isdecimal():
        text = f"localhost:{text}"
    return text if "://" in text else f"http://{text}"


def local_target(text: str, *, allow_remote: bool) -> Target:
    """Parse the URL to forward to, or its short form. Raises UsageInvalid.

    Data of a queue is sent to another machine only if that is said.
    """
    url = full_url(text)
    try:
        target = parse_target(url, "")
    except DiscueError as error:
        rule = error.faults[0].detail if error.faults else error.detail
        raise UsageInvalid(f"The URL {url} {rule}.") from None
    if not (allow_remote or _is_local(target)):
        raise UsageInvalid(
            f"{target.host} is another machine. Add --allow-remote if it may receive the messages of the queue."
        )
    return target


def _is_local(target: Target) -> bool:
    if target.literal is not None:
        return not target.literal.is_global
    return "." not in target.host or target.host.endswith(_LOCAL_NAMES)


class Signing(NamedTuple):
    """The keys that requests are signed with."""

    keys: tuple[SigningKey, ...]
    text: str
    """The secrets, separated by spaces: the value of `DISCUE_WEBHOOK_SECRET`."""
    source: str
    is_new: bool = False

    def __repr__(self) -> str:
        return f"Signing(source={self.source!r})"


def signing_of(given: str | None) -> Signing:
    """Return the secret that was given, that of the environment, or one of this user's own, which stays the same.

    The receiver is configured once: another run of the command signs with the same secret. Raises UsageInvalid.
    """
    if given:
        return Signing(keys_of(given, "--secret"), given, "--secret")
    if exported := os.environ.get(SECRET_VARIABLE, ""):
        return Signing(keys_of(exported, SECRET_VARIABLE), exported, SECRET_VARIABLE)
    path = folder() / "listen-secret"
    kept = path.read_text("ascii").strip() if path.exists() else ""
    text = kept or new_secret(secrets.token_bytes)
    if not kept:
        write_private(path, text + "\n")
    return Signing(keys_of(text, str(path)), text, str(path), is_new=not kept)


def keys_of(text: str, source: str) -> tuple[SigningKey, ...]:
    try:
        return tuple(
            decode_private_key(each) if each.startswith(_PRIVATE_KEY) else decode_secret(each) for each in text.split()
        )
    except ValueError as error:
        # Without the text, which is a secret.
        raise UsageInvalid(f"{source} cannot sign: {error}. A public key (whpk_…) only verifies.") from None
