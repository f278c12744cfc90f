"""The page of errors, from the tree of errors and the kinds of failed attempts."""

import inspect
from typing import get_args

from discue.api.advice import ADVICE, answered
from discue.errors import DiscueError, SettingsInvalid, StoreUnusable, title_of
from discue.model import FailureKind

_INTRODUCTION = """# Errors

<!-- Written by `make docs` from discue/errors.py and discue/model.py. -->

## Answers of the API

An error is JSON: `title` and `status` as below, `request_id` (also in the header `X-Request-Id`, and in the log), `detail`
with a sentence for people, and, where places in the request are wrong, `errors` with a `pointer` and a `detail` each. With
`Accept: application/problem+json` it has that content type.

| status | title | meaning | what to do |
| --- | --- | --- | --- |
"""

_COMMAND_LINE = """
## The command line

| error | meaning | what to do |
| --- | --- | --- |
"""

_ATTEMPTS = """
## Failed attempts

Why an attempt to deliver a message failed, in the log's `error` and in that of the [attempt](reference/attempts.md). The next attempt follows, until the twelfth: then the message
is missed for that listener. An answer with the header `webhook-no-retry: true` makes it missed at once, one with the
status `410` disables the listener.

| error | meaning |
| --- | --- |
"""

_COMMAND_LINE_ADVICE: dict[type[DiscueError], str] = {
    StoreUnusable: "The sentence says why, and what helps. `discue check` looks at the same without starting anything.",
    SettingsInvalid: "Correct what is listed: each line begins with the place that the value came from.",
}

FAILURES: dict[str, str] = {
    "status": "The answer's status was not 2xx.",
    "redirect": "The answer was a redirect: it is never followed.",
    "resolve": "The host name could not be resolved.",
    "refused_address": "The host is at an address that nothing may be sent to; see `allow_private_targets`.",
    "connect": "No connection could be made.",
    "connect_timeout": "Connecting took longer than `connect_timeout_seconds`.",
    "tls": "The TLS handshake failed, or the certificate is not valid for the host.",
    "timeout": "The whole attempt took longer than `delivery_timeout_seconds`.",
    "reset": "The connection broke before the answer was whole.",
    "protocol": "What was answered is not HTTP.",
    "response_too_large": "The answer's head was too large.",
    "authentication": "There was no access token, or no certificate that can be used, to show the listener who it is.",
    "internal": "The cause is on this side: the service was stopped, or could open no connection.",
    "rejected": "The consumer that had pulled the message rejected it.",
    "lease_expired": "The message was pulled, and its lease was over before its consumer said what became of it.",
}


def errors_page() -> str:
    """Statuses of the API, failures of commands, failures of attempts."""
    answers = "".join(map(_row, answered()))
    commands = "".join(
        f"| {kind.__name__} | {inspect.getdoc(kind)} | {advice} |\n" for kind, advice in _COMMAND_LINE_ADVICE.items()
    )
    attempts = "".join(f"| `{kind}` | {FAILURES[kind]} |\n" for kind in get_args(FailureKind) if kind)
    return _INTRODUCTION + answers + _COMMAND_LINE + commands + _ATTEMPTS + attempts


def _row(kind: type[DiscueError]) -> str:
    meaning = inspect.getdoc(kind)
    return f"| {kind.status} | {title_of(kind.status)} | {meaning} | {ADVICE[kind.__name__]} |\n"
