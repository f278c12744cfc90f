"""`discue doctor`: says why messages do not reach the URL of a listener.

It checks names, addresses, TLS, redirects, latency, signatures and clocks.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import socket
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Final, Literal, NamedTuple

from discue.cli.declarations import Command, argument, option
from discue.cli.exit_codes import FAILED, KeyMissing
from discue.cli.output import GREEN, RED, beginning, coloured, note, printable, say, say_json
from discue.cli.user.arguments import content_of, json_of
from discue.cli.user.command import connect, explain, user_command
from discue.cli.user.listen import keys_of, target_at
from discue.cli.user.login import limits_of
from discue.crypto.signing import HmacKey, SigningKey
from discue.domain.attempts import Outcome, Timings
from discue.domain.clock import SystemClock
from discue.domain.egress import EgressPolicy, Target
from discue.domain.headers import INBOX_HEADER
from discue.domain.message_data import Data, data_of
from discue.sending.request import AttemptRequest, Destination
from discue.sending.response import SenderLimits
from discue.sending.sender import Sender

Level = Literal["ok", "warning", "problem"]

SAMPLE: Final = b'{"test": true}'
"""The data of a test request unless other data is given, as for tests by the service."""
_ASKED_SECONDS: Final = 3.0
_MARKS: Final = {"ok": ("✓", GREEN), "warning": ("!", ""), "problem": ("✗", RED)}
_TIMEOUT_MS: Final = 15_000
_SLOW_MS: Final = 5_000
_SKEW_SECONDS: Final = 300
"""How far the time of a signature may be off: receivers refuse what is older."""
_NOTABLE_SKEW_SECONDS: Final = 30
_KEY_BYTES: Final = 32
_REFUSALS: Final = frozenset({400, 401, 403})
_NO_HANDLER: Final = frozenset({404, 405, 501})
_OTHER_DATA_EXPECTED: Final = frozenset({400, 422, 500})
"""Statuses with which handlers respond to data that they do not expect."""


class ServicePolicy(NamedTuple):
    """The policy of a service for addresses that are not public."""

    url: str
    private_targets: str
    """`all`, `some` or `none`: those that listeners can have."""


class UrlFinding(NamedTuple):
    """The result of one check."""

    check: str
    level: Level
    detail: str


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
    keys = keys_of(arguments.secret, "--secret") if arguments.secret else ()
    data = None if arguments.data is None else bytes(json_of(content_of(arguments.data).strip(), "The data"))
    service = _service(arguments)
    findings = asyncio.run(diagnose(arguments.url, keys, given=data, service=service))
    if arguments.json:
        say_json({"findings": [each._asdict() for each in findings]})
    else:
        for each in findings:
            mark, colour = _MARKS[each.level]
            say(f"{coloured(mark, colour) if colour else mark} {each.check:<9} {printable(each.detail)}")
    return FAILED if any(each.level == "problem" for each in findings) else None


def _service(arguments: argparse.Namespace) -> ServicePolicy | None:
    """Return what the service of the arguments allows. None if none is configured, or it does not say."""
    # `discue doctor --help` does not need the client.
    from discue.cli.user.profiles import target_of  # noqa: PLC0415
    from discue_client import DiscueError  # noqa: PLC0415

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


async def diagnose(
    url: str, keys: tuple[SigningKey, ...], *, given: bytes | None = None, service: ServicePolicy | None = None
) -> list[UrlFinding]:
    """Check a URL from this machine. Without keys, only a forged request is sent. Raises UsageInvalid.

    `given` is the data of the requests as JSON, None for `SAMPLE`. `service` is the one that the URL is meant for, None
    if it is not known.
    """
    target = target_at(url)
    findings: list[UrlFinding] = []
    addresses = await _addresses(target, findings)
    findings.insert(0, _scheme(target, addresses))
    if not addresses:
        return findings
    findings += [_egress(address, service) for address in addresses]
    data = data_of(SAMPLE if given is None else given)
    forged = await _sent(target, (HmacKey(secrets.token_bytes(_KEY_BYTES)),), data)
    outcome = await _sent(target, keys, data) if keys else forged
    findings.append(_response(outcome, is_genuine=bool(keys), is_sample=given is None))
    if outcome.trace is not None and outcome.status:
        findings += [_latency(outcome.trace.timings), *_clock(outcome)]
    return [*findings, *_forgery(forged)]


def _scheme(target: Target, addresses: list[str]) -> UrlFinding:
    is_on_this_machine = bool(addresses) and all(ip_address(each).is_loopback for each in addresses)
    if target.scheme == "https" or is_on_this_machine:
        return UrlFinding("url", "ok", f"{target.scheme}://{target.authority}{target.path}")
    return UrlFinding("url", "warning", "http is not encrypted: others on the way can read the messages.")


async def _addresses(target: Target, findings: list[UrlFinding]) -> list[str]:
    """Return the addresses of the host, after adding what its name says."""
    if target.literal is not None:
        return [str(target.literal)]
    started_at = time.monotonic()
    try:
        found = await asyncio.get_running_loop().getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except OSError as error:
        findings.append(UrlFinding("name", "problem", f"{target.host} cannot be resolved: {error.strerror or error}."))
        return []
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    duration_ms = round((time.monotonic() - started_at) * 1_000)
    count = "1 address" if len(addresses) == 1 else f"{len(addresses)} addresses"
    findings.append(UrlFinding("name", "ok", f"{target.host} has {count}, found in {duration_ms} ms."))
    return addresses


def _egress(address: str, service: ServicePolicy | None) -> UrlFinding:
    refusal = EgressPolicy().refusal(ip_address(address))
    if refusal is None:
        return UrlFinding("address", "ok", f"{address} is public.")
    remedy = "its operator sets allow_private_targets"
    if service is None:
        detail = f"{address} is refused by a service ({refusal}), unless {remedy}."
        return UrlFinding("address", "warning", detail)
    if service.private_targets == "all":
        return UrlFinding("address", "ok", f"{address} is allowed by {service.url} ({refusal}).")
    if service.private_targets == "some":
        remedy = "it is in a network that its operator allows with allow_private_targets"
    return UrlFinding("address", "warning", f"{address} is refused by {service.url} ({refusal}), unless {remedy}.")


async def _sent(target: Target, keys: tuple[SigningKey, ...], data: Data) -> Outcome:
    """Send a signed test request from this machine, over a connection of its own."""
    sender = Sender(
        clock=SystemClock(),
        policy=EgressPolicy(allow_private=True),
        limits=SenderLimits(idle_seconds=0),
        details="all",
    )
    body, codec = data
    request = AttemptRequest(
        destination=Destination(target, "test", "test"),
        message_id=f"test_{secrets.token_hex(8)}",
        codec=codec,
        body=body,
        keys=keys,
        number=1,
        timeout_ms=_TIMEOUT_MS,
        is_test=True,
    )
    try:
        return await sender.attempt(request)
    finally:
        await sender.close(0)


def _response(outcome: Outcome, *, is_genuine: bool, is_sample: bool) -> UrlFinding:
    status = outcome.status
    if outcome.acknowledged:
        return UrlFinding("response", "ok", f"It accepts a signed test request ({status}).")
    if status in _REFUSALS and not is_genuine:
        return UrlFinding(
            "response", "ok", "It refuses an unknown signature. Give --secret to test with the right one."
        )
    return UrlFinding("tls" if outcome.error == "tls" else "response", "problem", _reason(outcome, is_sample=is_sample))


def _reason(outcome: Outcome, *, is_sample: bool) -> str:
    """Return why the URL does not accept a request, what it responded, and what to do."""
    status, said = outcome.status, beginning(outcome.excerpt.decode(errors="replace"))
    if outcome.error == "redirect":
        return f"It redirects to {_header(outcome, b'location')}; redirects are not followed: use that URL."
    if status in _NO_HANDLER:
        return f"It has no handler for POST at this path ({status}).{said}"
    other = f" If it expects other data than {SAMPLE.decode()}, give --data."
    hint = other if is_sample and status in _OTHER_DATA_EXPECTED else ""
    if status in _REFUSALS:
        causes = "Its secret differs, its clock is wrong, or it does not verify the raw body: see `discue verify`."
        return f"It refuses the signature ({status}). {causes}{hint}{said}"
    return f"{outcome.detail}{hint}{said}"


def _forgery(forged: Outcome) -> Iterator[UrlFinding]:
    """Judge the response to a request with a wrong signature."""
    if _header(forged, INBOX_HEADER.encode()):
        yield UrlFinding("forgery", "ok", "It is the inbox of `discue dev`, which shows forged requests, too.")
    elif forged.acknowledged:
        yield UrlFinding("forgery", "problem", "It accepts a request with a wrong signature: verify signatures there.")
    elif forged.status in _REFUSALS:
        yield UrlFinding("forgery", "ok", f"It refuses a request with a wrong signature ({forged.status}).")
    elif forged.status:
        detail = f"Whether it refuses wrong signatures is not known: it responded to one with {forged.status}."
        yield UrlFinding("forgery", "warning", detail)


def _latency(timings: Timings) -> UrlFinding:
    stages = {
        "name": timings.resolve_ms,
        "connection": timings.connect_ms,
        "TLS": timings.tls_ms,
        "first byte": timings.first_byte_ms,
    }
    shown = ", ".join(f"{name} {value} ms" for name, value in stages.items() if value is not None)
    level: Level = "warning" if timings.total_ms > _SLOW_MS else "ok"
    return UrlFinding("latency", level, f"{timings.total_ms} ms in all: {shown}. A service waits for 15 s.")


def _clock(outcome: Outcome) -> Iterator[UrlFinding]:
    try:
        theirs = parsedate_to_datetime(_header(outcome, b"date")).timestamp()
    except ValueError:
        return
    skew = abs(time.time() - theirs)
    level: Level = "problem" if skew > _SKEW_SECONDS else "warning" if skew > _NOTABLE_SKEW_SECONDS else "ok"
    consequence = "" if level == "ok" else f" Signatures are refused when they are off by {_SKEW_SECONDS} s."
    yield UrlFinding("clock", level, f"Its clock and that of this machine differ by {skew:.0f} s.{consequence}")


def _header(outcome: Outcome, name: bytes) -> str:
    headers = outcome.trace.response_headers if outcome.trace is not None else ()
    return next((value.decode("latin-1") for key, value in headers if key.lower() == name), "")
