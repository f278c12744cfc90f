"""`discue verify`: says whether a webhook is genuine, and if not, why."""

from __future__ import annotations

import argparse
import json
import os
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Iterator
from typing import Final, NamedTuple

from discue.cli.declarations import Command, argument, repeated, switch
from discue.cli.exit_codes import FAILED, UsageInvalid
from discue.cli.output import say, say_json
from discue.cli.user.arguments import content_of, header
from discue.cli.user.command import user_command

_SECRET_VARIABLE: Final = "DISCUE_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable
_PREFIX: Final = "whsec_"
_NEEDED: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")


def command() -> Command:
    return user_command(
        run,
        argument("body", "raw body of the request: @FILE reads it from a file, - from the standard input"),
        repeated(
            "--header NAME:VALUE",
            "header of the request; webhook-id, webhook-timestamp and webhook-signature are needed",
            header,
        ),
        repeated(
            "--secret SECRET", f"secret (whsec_…) or public key (whpk_…); can be repeated; default: {_SECRET_VARIABLE}"
        ),
        switch("--ignore-time", "accept a request that was signed long ago"),
        description="If no signature matches, tries the common mistakes: a body that was parsed and written again, a "
        "line break at its end, a secret that was decoded or has its prefix twice. Exits with 1 if the "
        "request is not genuine.",
        needs_service=False,
    )


class Explanation(NamedTuple):
    """The result of a verification."""

    genuine: bool
    reason: str
    """"" if it is genuine."""
    detail: str
    hints: tuple[str, ...] = ()
    """Mistakes that explain the failure, each as a sentence that says what to do."""


def run(arguments: argparse.Namespace) -> int | None:
    secrets = arguments.secret or os.environ.get(_SECRET_VARIABLE, "").split()
    if not secrets:
        raise UsageInvalid(f"The secret is missing: give --secret, or set {_SECRET_VARIABLE}.")
    found = explanation_of(
        content_of(arguments.body), dict(arguments.header), secrets, ignores_time=arguments.ignore_time
    )
    if not found.genuine and os.path.isfile(arguments.body):  # noqa: PTH113 - any text is accepted, also a long one
        hint = f"The body is this text, and there is a file of that name: did you mean @{arguments.body}?"
        found = found._replace(hints=(hint, *found.hints))
    if arguments.json:
        say_json(found._asdict())
    else:
        say(found.detail)
        for hint in found.hints:
            say(f"  {hint}")
    return None if found.genuine else FAILED


def explanation_of(body: bytes, headers: dict[str, str], secrets: list[str], *, ignores_time: bool) -> Explanation:
    """Verify a request, and find out why it fails. Raises ConfigurationError for a secret that cannot be one."""
    # `discue --help` does not wait for them.
    from discue_client import ConfigurationError, Reason, SignatureInvalid, Webhook  # noqa: PLC0415

    tolerance = float("inf") if ignores_time else 300.0
    try:
        Webhook(secrets, tolerance=tolerance).verify(body, headers)
    except ConfigurationError as error:
        if not (hints := list(_mistakes(body, headers, secrets))):
            raise
        return Explanation(False, "secret", str(error), tuple(hints))
    except SignatureInvalid as error:
        hints = []
        if error.reason is Reason.MISSING:
            hints += _missing(headers)
        elif error.reason in (Reason.EXPIRED, Reason.EARLY):
            # Whether the rest is right matters more than the clock.
            rest = explanation_of(body, headers, secrets, ignores_time=True)
            hints += ["Apart from the time, it is genuine."] if rest.genuine else [rest.detail, *rest.hints]
        elif error.reason in (Reason.NO_MATCH, Reason.MALFORMED):
            hints += list(_mistakes(body, headers, secrets))
            if error.reason is Reason.NO_MATCH and not hints:
                hints += _without_explanation(secrets)
        return Explanation(False, error.reason.value, error.detail, tuple(hints))
    number = next(index for index, each in enumerate(secrets, 1) if _matches(body, headers, each))
    secret = "the secret" if len(secrets) == 1 else f"secret {number} of {len(secrets)}"
    return Explanation(True, "", f"Genuine: signed with {secret}.")


def _matches(body: bytes, headers: dict[str, str], secret: str) -> bool:
    from discue_client import ConfigurationError, SignatureInvalid, Webhook  # noqa: PLC0415 - as above

    try:
        Webhook(secret, tolerance=float("inf")).verify(body, headers)
    except (SignatureInvalid, ConfigurationError):
        return False
    return True


def _missing(headers: dict[str, str]) -> list[str]:
    missing = [name for name in _NEEDED if not headers.get(name)]
    hints = [f"Missing: {', '.join(missing)}. Give each with --header."]
    if any(name.startswith("svix-") for name in headers):
        hints.append("Headers svix-… are those of another sender: pass their values as webhook-….")
    return hints


def _mistakes(body: bytes, headers: dict[str, str], secrets: list[str]) -> Iterator[str]:
    """Yield the mistakes that explain why no signature matches."""
    for secret in secrets:
        for changed, sentence in _other_bodies(body):
            if changed != body and _matches(changed, headers, secret):
                yield sentence
        for other, sentence in _other_secrets(secret):
            if _matches(body, headers, other):
                yield sentence
        for names, sentence in _other_headers(headers):
            if _matches(body, names, secret):
                yield sentence


def _other_bodies(body: bytes) -> Iterator[tuple[bytes, str]]:
    yield (
        body.rstrip(b"\r\n"),
        "The body has a line break at its end that was not sent: write it with printf, not echo.",
    )
    yield body + b"\n", "The body lacks the line break at its end: something has stripped it."
    yield body.replace(b"\r\n", b"\n"), "Line breaks of the body were changed to CR LF: read it as bytes."
    yield body.removeprefix(b"\xef\xbb\xbf"), "The body begins with a byte order mark that was not sent."
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return
    written = "The body was parsed and written again as JSON: verify the raw body, before any parsing."
    for separators in ((",", ":"), (", ", ": ")):
        for ascii_only in (True, False):
            yield json.dumps(value, separators=separators, ensure_ascii=ascii_only).encode(), written
    if isinstance(value, str):
        yield value.encode(), "The body was written as a JSON string: verify the text itself."


def _other_secrets(secret: str) -> Iterator[tuple[str, str]]:
    bare = secret.strip("\"' ")
    if bare != secret:
        yield bare, "The secret has quotation marks or spaces around it."
    while bare.startswith(_PREFIX * 2):
        bare = bare.removeprefix(_PREFIX)
        yield bare, "The secret has its prefix whsec_ twice."
    encoded = _PREFIX + b64encode(secret.removeprefix(_PREFIX).encode()).decode()
    yield encoded, "The sender uses the text of the secret as the key, without decoding its base64."
    try:
        yield (
            _PREFIX + b64encode(urlsafe_b64decode(bare.removeprefix(_PREFIX) + "==")).decode(),
            "The secret is in URL-safe base64: use it with + and / instead of - and _.",
        )
    except ValueError:
        return


def _other_headers(headers: dict[str, str]) -> Iterator[tuple[dict[str, str], str]]:
    timestamp = headers.get("webhook-timestamp", "")
    if len(timestamp) == 13:
        yield {**headers, "webhook-timestamp": timestamp[:-3]}, "webhook-timestamp is in milliseconds: it is seconds."
    spaced = headers.get("webhook-signature", "").replace(" ", "+")
    yield {**headers, "webhook-signature": spaced}, "A + of webhook-signature has become a space on the way."


def _without_explanation(secrets: list[str]) -> list[str]:
    several = "None of the secrets is" if len(secrets) > 1 else "The secret is not"
    hint = "Compare the header discue-listener with the listener whose secret this is: each has its own."
    return [f"{several} that of the listener that sent this, or the body is not what was sent. {hint}"]
