"""`discue doctor`: says why messages do not reach the URL of a listener."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING, Final

from discue.cli.declarations import Command, argument, option
from discue.cli.exit_codes import FAILED, KeyMissing
from discue.cli.output import GREEN, RED, coloured, note, printable, say, say_json
from discue.cli.user.arguments import content_of, json_of
from discue.cli.user.command import connect, explain, user_command
from discue.cli.user.whoami import limits_of

if TYPE_CHECKING:
    from discue.cli.user.diagnosis import ServicePolicy

_ASKED_SECONDS: Final = 3.0
_MARKS: Final = {"ok": ("✓", GREEN), "warning": ("!", ""), "problem": ("✗", RED)}


def command() -> Command:
    return user_command(
        run,
        argument("url", "URL of the listener, such as https://example.com/hook, or 8000/hook"),
        option("--secret SECRET", "signing secret of the listener (whsec_…)"),
        option("--data JSON", 'data of the requests; @FILE reads it from a file; default: {"test": true}'),
        description="Checks name, addresses, TLS, redirects, latency, signatures and clock with test requests "
        "from this machine (discue-test: true): one with a wrong signature, and with --secret one with the right "
        "one. Asks the service, if one is configured, whether it allows private addresses. Exits with 1 if there is "
        "a problem.",
    )


def run(arguments: argparse.Namespace) -> int | None:
    # `discue --help` does not wait for the sender.
    from discue.cli.user.diagnosis import diagnose  # noqa: PLC0415
    from discue.cli.user.listening.target import full_url, keys_of  # noqa: PLC0415

    keys = keys_of(arguments.secret, "--secret") if arguments.secret else ()
    data = None if arguments.data is None else bytes(json_of(content_of(arguments.data).strip(), "The data"))
    service = _service(arguments)
    findings = asyncio.run(diagnose(full_url(arguments.url), keys, given=data, service=service))
    if arguments.json:
        say_json({"findings": [each._asdict() for each in findings]})
    else:
        for each in findings:
            mark, colour = _MARKS[each.level]
            say(f"{coloured(mark, colour) if colour else mark} {each.check:<9} {printable(each.detail)}")
    return FAILED if any(each.level == "problem" for each in findings) else None


def _service(arguments: argparse.Namespace) -> ServicePolicy | None:
    """Return what the service of the arguments allows. None if none is configured, or it does not say."""
    from discue.cli.user.diagnosis import ServicePolicy  # noqa: PLC0415 - as in `run`
    from discue.cli.user.profiles import target_of  # noqa: PLC0415 - as in `run`
    from discue_client import DiscueError  # noqa: PLC0415 - as in `run`

    try:
        target = target_of(arguments.profile)
    except KeyMissing:
        return None
    try:
        with connect(arguments, attempts=1, deadline=_ASKED_SECONDS) as client:
            limits = limits_of(client)
    except DiscueError as error:
        note(f"Whether the service allows private addresses is not known. {explain(error)}")
        return None
    return None if limits is None else ServicePolicy(target.url, limits.private_targets)
