"""`discue listeners`: lists, shows, creates, disables, tests and deletes listeners."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from discue.cli.declarations import CommandGroup, argument, option, switch
from discue.cli.exit_codes import FAILED, CommandFailed, UsageInvalid
from discue.cli.output import beginning, printable, say_json, say_result, say_table, when
from discue.cli.user.arguments import HEADERS, alias, content_of, json_of, limit, name
from discue.cli.user.command import connect, explain, readable, user_command
from discue.cli.user.messages import failure_of
from discue.cli.user.resources import (
    ALIAS,
    CREATED,
    FILTER,
    TYPES,
    Resource,
    group,
    place_of,
    queue_names,
    set_resource,
    setting,
    show,
)
from discue.domain.system_events import SYSTEM_QUEUE_ALIAS

if TYPE_CHECKING:
    from discue_client.models import DeliveryTest

_LIMIT = 100
_WITHHELD = (
    "Details of requests to private addresses are not shown, unless the operator of the service sets "
    "show_private_responses."
)
_RESOURCE: Final = Resource(
    "listeners",
    "queue",
    facts={
        **ALIAS,
        "customer": lambda each: each.customer or "",
        "status": lambda each: f"{each.status}: {each.status_reason}" if each.status_reason else each.status,
        "url": lambda each: each.notify_url or each.mode,
        "types": lambda each: " ".join(each.types or ()),
        "transform": lambda each: each.transform or "",
        "liveness": lambda each: each.liveness.state if each.liveness_url else "",
        "last failed probe": lambda each: _failure(each.liveness.last_failure_at, each.liveness.last_failure_msg),
        "waiting": lambda each: f"{each.messages.pending_count:,}",
        "acknowledged": lambda each: f"{each.messages.acknowledged_count:,}",
        "missed": lambda each: f"{each.messages.missed_count:,}",
        "last success": lambda each: when(each.messages.last_success_at),
        "last failure": lambda each: when(each.messages.last_failure_at),
        "secret": lambda each: each.secret or "",
        **CREATED,
    },
    options=(
        option("--url URL", "where messages are sent", dest="notify_url"),
        switch(
            "--pull", "consumers fetch the messages instead; fixed", action="store_const", const="pull", dest="mode"
        ),
        TYPES,
        FILTER,
        option("--transform EXPRESSION", "JMESPath expression that makes the body; '' to send the data unchanged"),
        HEADERS,
    ),
    about="Shows the signing secret of a new listener once.",
)


_SLACK: Final = option(
    "--slack URL", "post the messages to an incoming webhook of Slack; without a queue, the system events"
)
_PLACE_OR_SYSTEM_EVENTS: Final = (
    argument("within", "alias or id of the queue; may be left out with --slack", name, nargs="?", metavar="queue"),
    argument("named", "alias or id of the listener", alias, metavar="listener"),
)
_FOR_SLACK: Final = "join(': ', [not_null(type, 'message'), to_string(data)])"
_LISTENER: Final = "The listener {listener.alias} of the queue {queue.alias}"
SENTENCES: Final[Mapping[str, str]] = {
    "listener.disabled": f"{_LISTENER} was disabled: {{reason}}.",
    "listener.inactive": f"{_LISTENER} is inactive: {{last_failure_msg}}.",
    "listener.recovered": f"{_LISTENER} receives messages again. It was {{was}}.",
    "message.missed": f"{_LISTENER} missed messages: {{count}}.",
    "key.locked_out": "The API key {key.alias} is locked out at {address}.",
    "quota.near": "The quota {quota} is nearly used up: {used} of {limit}.",
    "domain.verified": "The domain {hostname} is verified.",
    "domain.lost": "The domain {hostname} is no longer verified: {error}.",
    "schedule.skipped": "The schedule {schedule.alias} of the queue {queue.alias} skipped a run: {reason}.",
    "store.damaged": "A part of the database with data of the queue {queue.alias} cannot be read.",
    "source.refusing": "The source {source.alias} refused requests: {count}.",
    "egress_proxy.failing": "The HTTP proxy does not pass on requests to listeners.",
}
"""The text of each system event in Slack. Braces enclose members of its data."""


def transform_for_slack(queue: str) -> str:
    """Return the transform of a listener of the queue, which makes the body that Slack expects."""
    texts = [_FOR_SLACK]
    if queue == SYSTEM_QUEUE_ALIAS:
        texts = [f"type == '{event}' && {_joined(sentence)}" for event, sentence in SENTENCES.items()] + texts
    return f"{{text: {' || '.join(texts)}}}"


def _joined(sentence: str) -> str:
    """Return the JMESPath expression that makes a sentence."""
    # Every second part was in braces.
    parts = re.split(r"[{}]", sentence)
    made = [f"to_string(data.{part})" if index % 2 else f"'{part}'" for index, part in enumerate(parts)]
    return f"join('', [{', '.join(made)}])"


def command() -> CommandGroup:
    changes: tuple[tuple[str, Literal["enabled", "disabled"], str], ...] = (
        ("disable", "disabled", "stop deliveries to a listener; its messages wait"),
        ("enable", "enabled", "continue deliveries to a listener"),
    )
    return group(
        _RESOURCE,
        list=user_command(
            _list,
            argument("queue", "alias or id of the queue; default: all queues", name, nargs="?"),
            limit(_LIMIT),
            option("--customer NAME", "list only the listeners of this customer"),
            summary="list the listeners of a queue, or of all queues",
        ),
        get=user_command(_get, *_RESOURCE.place(), summary="show a listener, and why it receives nothing if so"),
        set=setting(_RESOURCE, _set, _SLACK, place=_PLACE_OR_SYSTEM_EVENTS),
        **{
            verb: user_command(partial(_set_status, status), *_RESOURCE.place(), summary=summary)
            for verb, status, summary in changes
        },
        test=user_command(
            _test,
            *_RESOURCE.place(),
            option("--data JSON", "data of the request; @FILE reads it from a file"),
            summary="send a signed test request to a listener",
            description="It has the header discue-test: true, and is neither stored nor retried. Exits with 1 if it "
            "fails.",
        ),
    )


def _list(arguments: argparse.Namespace) -> None:
    with connect(arguments) as client:
        found = list(client.listeners.list(arguments.queue, limit=arguments.limit, customer=arguments.customer))
        names = {} if arguments.json or arguments.queue else queue_names(client)
    if arguments.json:
        say_json({"listeners": found})
        return
    rows = [
        (
            arguments.queue or names.get(each.queue_id, each.queue_id),
            each.alias,
            each.status,
            f"{each.messages.pending_count:,}",
            f"{each.messages.missed_count:,}",
            each.notify_url or each.mode,
            # After a success, only the details show the last failure.
            each.messages.last_failure_msg if each.messages.last_failure_at > each.messages.last_success_at else "",
        )
        for each in found
    ]
    say_table(("QUEUE", "ALIAS", "STATUS", "WAITING", "MISSED", "URL", "LAST FAILURE"), rows)


def _get(arguments: argparse.Namespace) -> None:
    place, failed = place_of(arguments), None
    with connect(arguments) as client:
        listener = client.listeners.get(*place)
        if listener.messages.last_failure_at:
            failed = client.listeners.attempts(*place, state="failed", limit=1).first()
    if arguments.json:
        say_json({"listener": listener, "last_failed_attempt": failed})
        return
    reason = failure_of(failed) if failed else ""
    facts = {**_RESOURCE.facts, "last failure": lambda each: _failure(each.messages.last_failure_at, reason)}
    show(_RESOURCE._replace(facts=facts), listener, as_json=False)


def _set(arguments: argparse.Namespace) -> None:
    """Create or change a listener.

    Raises UsageInvalid for a new one without a URL, and for Slack in a customer's queue.
    """
    from discue_client import BadRequest, ValidationFailed  # noqa: PLC0415 - `discue --help` does not wait for it

    if arguments.slack is not None:
        if arguments.notify_url is not None or arguments.mode is not None:
            raise UsageInvalid("--slack sets the URL of the listener: leave out --url and --pull.")
        arguments.within = arguments.within or SYSTEM_QUEUE_ALIAS
        arguments.notify_url = arguments.slack
        arguments.transform = arguments.transform or transform_for_slack(arguments.within)
    if arguments.within is None:
        raise UsageInvalid(f"Name the queue before the listener, such as {SYSTEM_QUEUE_ALIAS} for system events.")
    if arguments.slack is not None:
        _require_own_queue(arguments)
    try:
        set_resource(_RESOURCE, arguments)
    except BadRequest as error:
        if error.pointers != ("/notify_url",) or arguments.notify_url is not None:
            raise
        raise UsageInvalid(f"There is no listener {arguments.named} yet. Give --url or --pull.") from None
    except ValidationFailed as error:
        if arguments.slack is None or error.pointers != ("/notify_url",):
            raise
        raise CommandFailed(explain(error).replace("The value at /notify_url", "--slack")) from None


def _require_own_queue(arguments: argparse.Namespace) -> None:
    with connect(arguments) as client:
        queue = readable(lambda: client.queues.get(arguments.within))
    if queue is not None and queue.customer:
        raise UsageInvalid(
            f"The queue {arguments.within} belongs to the customer {queue.customer}, who can see the URL in the "
            "portal. Use a queue without a customer. A topic can publish to both: see /docs/portal."
        )


def _set_status(status: Literal["enabled", "disabled"], arguments: argparse.Namespace) -> None:
    place = place_of(arguments)
    with connect(arguments) as client:
        # An update would create the listener if it does not exist.
        client.listeners.get(*place)
        show(_RESOURCE, client.listeners.update(*place, status=status), as_json=arguments.json)


def _test(arguments: argparse.Namespace) -> int | None:
    given = {} if arguments.data is None else {"data": json_of(content_of(arguments.data), "The data")}
    with connect(arguments) as client:
        found = client.listeners.test(*place_of(arguments), **given)
    status = found.status or found.status_class
    shown = f", status {status}" if status else ""
    duration = "" if found.took_ms is None else f", {found.took_ms} ms"
    text = printable(f"{found.state}{shown}{duration}{_reason(found)}")
    say_result({"test": found}, text, as_json=arguments.json)
    return FAILED if found.error else None


def _reason(found: DeliveryTest) -> str:
    """Return why a test failed, and the beginning of the response; "" if it did not fail."""
    if not found.error:
        return ""
    if found.withheld:
        return f". {_WITHHELD}" if found.status_class else f": {found.error}. {_WITHHELD}"
    return f": {found.detail or found.error}{beginning(found.response.body if found.response else '')}"


def _failure(at: int, reason: str) -> str:
    """Return when something failed last, and why; "" if nothing failed."""
    return f"{when(at)}: {reason}" if at and reason else when(at)
