"""What `discue check` finds of encryption: whether secrets are, and whether the keys to them are there."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

from discue.cli.encryption import missing_keys, own_place
from discue.cli.finding import Finding
from discue.cli.invocation import Invocation
from discue.config.settings import Settings
from discue.crypto import key_file
from discue.crypto.keyring import key_id_of
from discue.domain.errors import SettingsInvalid, StoreUnusable
from discue.server.installation import inspect_database
from discue.store.encryption import CLEAR, Encryption, parsed

_SUBJECT = "encryption"
_IN_THE_CLEAR = (
    "signing secrets stand in the database in the clear; set encryption_key (`openssl rand -base64 32` makes one) or "
    "encryption_key_file for all servers, and run discue rotate-key"
)


def encryption_findings(invocation: Invocation) -> Iterator[Finding]:
    """Whether the next start finds the keys that it needs."""
    settings, place = invocation.settings, key_file.place_of(invocation.settings)
    try:
        keys = [key_id_of(key) for key in key_file.keys_of(settings)]
        stands = parsed(asyncio.run(inspect_database(settings)).encryption)
    except SettingsInvalid as error:
        yield Finding(_SUBJECT, error.detail, is_problem=True)
        return
    except StoreUnusable:
        # That is a finding about the database.
        return
    if place is not None and place.is_file() and not key_file.is_private(place):
        yield Finding(_SUBJECT, f"others can read {place}; chmod 600 {place}", is_problem=True)
    yield _finding(settings, place, keys, stands)


def _finding(settings: Settings, place: Path | None, keys: list[str], stands: Encryption) -> Finding:
    missing = [key for key in stands.needed if key not in keys]
    if missing:
        return Finding(_SUBJECT, missing_keys(settings, missing), is_problem=True)
    if not keys and place is not None and place == own_place(settings):
        return Finding(_SUBJECT, f"a key for signing secrets will be made in {place}", is_problem=False)
    if not keys:
        return Finding(_SUBJECT, _IN_THE_CLEAR, is_problem=True)
    if stands.leaving or stands.current not in (CLEAR, keys[0]):
        detail = f"not everything is encrypted under the first key, {keys[0]}, yet; run discue rotate-key"
        return Finding(_SUBJECT, detail, is_problem=True)
    return Finding(_SUBJECT, f"signing secrets are encrypted under the key {keys[0]}", is_problem=False)
