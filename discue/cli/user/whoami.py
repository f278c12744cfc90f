"""`discue whoami`: shows the service and the key that commands use, and where they come from."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from discue.cli.declarations import Command, switch
from discue.cli.output import note, say_fields, say_json, when
from discue.cli.user.command import connect, readable, user_command

if TYPE_CHECKING:
    from discue_client import Discue
    from discue_client.models import ApiKey, Limits

_PREFIX = "dsk_"
_ID_LENGTH = 21
_SHOWN = 12
_UNLIMITED = 2_147_483_647


def command() -> Command:
    return user_command(
        run,
        switch("--offline", "ask nothing of the service"),
        description="The alias and the scopes are shown if the key may read keys.",
    )


def run(arguments: argparse.Namespace) -> None:
    from discue.cli.user.profiles import hidden_server, target_of  # noqa: PLC0415 - `discue --help` does not wait for the client

    target = target_of(arguments.profile)
    shown: dict[str, Any] = {
        "url": target.url,
        "url_source": target.url_source,
        "key": f"{target.api_key[:_SHOWN]}…",
        "key_source": target.key_source,
    }
    if not arguments.offline:
        with connect(arguments) as client:
            shown |= _asked(client, target.api_key)
    if arguments.json:
        say_json(shown)
        return
    say_fields(
        [
            ("service", f"{target.url} (from {target.url_source})"),
            ("key", f"{shown['key']} (from {target.key_source})"),
            ("alias", str(shown.get("alias", ""))),
            ("scopes", ", ".join(f"{name}:{access}" for name, access in shown.get("scopes", {}).items())),
            ("expires", when(shown.get("expires_at"))),
            ("requests left", str(shown.get("requests_left", ""))),
        ]
    )
    if hidden := hidden_server(target):
        note(hidden)


def _asked(client: Discue, api_key: str) -> dict[str, Any]:
    """Return what the service says about the key. Raises Unauthorized if it does not accept it."""
    limits = limits_of(client)
    is_limited = limits is not None and limits.rate_limit.limit < _UNLIMITED
    shown: dict[str, Any] = {"requests_left": limits.rate_limit.remaining} if limits and is_limited else {}
    found = _own(client, api_key)
    if found is not None:
        scopes = {name: scope["access"] for name, scope in found.scopes.items()}
        shown |= {"alias": found.alias, "scopes": scopes, "expires_at": found.expires_at}
    return shown


def limits_of(client: Discue) -> Limits | None:
    """Return the limits; None if the key may not read them. Raises Unauthorized if the service refuses the key."""
    from discue_client import Forbidden  # noqa: PLC0415 - `discue --help` does not wait for it

    try:
        return client.stats.limits()
    except Forbidden as error:
        if error.code != "scope_missing":
            raise
        return None


def _own(client: Discue, api_key: str) -> ApiKey | None:
    """Return the key's own record; None if it may not read keys."""
    return readable(lambda: client.api_keys.get(api_key.removeprefix(_PREFIX)[:_ID_LENGTH]))
