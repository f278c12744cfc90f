"""Commands that list, show, set and delete resources, generated from a table: `topics`, `channels` and `schedules`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from discue.cli.output import say, say_fields, say_json, say_table, when
from discue.cli.user.arguments import alias, content_of, header, instant, json_of, name, positive
from discue.cli.user.command import add_command, add_group, connect
from discue.cli.verbs import Commands

_LIMIT: Final = 100

Shown = Callable[[Any], str]
"""Returns a text about a resource; "" if there is nothing to show."""


class Option(NamedTuple):
    """An option of `set`, and the field of the API that it sets."""

    flag: str
    field: str
    read: Callable[[Any], Any]
    """Converts the parsed argument to the value of the field."""
    arguments: Mapping[str, Any]
    """Arguments of `add_argument`."""


class Resource(NamedTuple):
    """A kind of resource, and how its commands show and set it."""

    name: str
    """The name of the command, and of the attribute of the client."""
    noun: str
    within: str
    """The noun of the parent resource; "" for a resource without a parent."""
    about: str
    """A sentence that says what the resource is; the help of `set` begins with it."""
    columns: Mapping[str, Shown]
    facts: Mapping[str, Shown]
    """The facts that `get` shows after the alias and the id."""
    options: tuple[Option, ...] = ()


def add(resource: Resource, commands: Commands) -> None:
    """Add the commands of a resource."""
    noun, within = resource.noun, resource.within
    verbs = add_group(commands, resource.name, summary=f"list, show, create, change and delete {resource.name}")
    of = f" of a {within}" if within else ""
    listing = add_command(
        verbs, "list", partial(_list, resource), summary=f"list the {resource.name}{of}, newest first"
    )
    _add_place(resource, listing, of_all=True)
    listing.add_argument(
        "--limit", type=positive, default=_LIMIT, metavar="N", help=f"list at most N; default: {_LIMIT}"
    )
    _add_place(resource, add_command(verbs, "get", partial(_get, resource), summary=f"show a {noun}"))
    setting = add_command(
        verbs,
        "set",
        partial(_set, resource),
        summary=f"create a {noun}, or change the one that has this alias",
        description=f"{resource.about} Only the given options change.",
    )
    _add_place(resource, setting, alias)
    for option in resource.options:
        setting.add_argument(option.flag, dest=option.field, **option.arguments)
    _add_place(resource, add_command(verbs, "delete", partial(_delete, resource), summary=f"delete a {noun}"))


def _add_place(
    resource: Resource,
    parser: argparse.ArgumentParser,
    kind: Callable[[str], str] = name,
    *,
    of_all: bool = False,
) -> None:
    if resource.within:
        parser.add_argument("within", metavar=resource.within, type=name, help=f"alias or id of the {resource.within}")
    if not of_all:
        parser.add_argument("named", metavar=resource.noun, type=kind, help=f"alias or id of the {resource.noun}")


def _place(resource: Resource, arguments: argparse.Namespace) -> tuple[str, ...]:
    return (arguments.within, arguments.named) if resource.within else (arguments.named,)


def _list(resource: Resource, arguments: argparse.Namespace) -> None:
    place = (arguments.within,) if resource.within else ()
    with connect(arguments) as client:
        found = list(getattr(client, resource.name).list(*place, limit=arguments.limit))
    if arguments.json:
        say_json({resource.name: found})
        return
    rows = [[shown(each) for shown in resource.columns.values()] for each in found]
    say_table(tuple(resource.columns), rows)


def _get(resource: Resource, arguments: argparse.Namespace) -> None:
    with connect(arguments) as client:
        _show(resource, getattr(client, resource.name).get(*_place(resource, arguments)), as_json=arguments.json)


def _set(resource: Resource, arguments: argparse.Namespace) -> None:
    given = [(option, getattr(arguments, option.field)) for option in resource.options]
    fields = {option.field: option.read(value) for option, value in given if value not in (None, [])}
    with connect(arguments) as client:
        made = getattr(client, resource.name).update(*_place(resource, arguments), **fields)
        _show(resource, made, as_json=arguments.json)


def _delete(resource: Resource, arguments: argparse.Namespace) -> None:
    with connect(arguments) as client:
        getattr(client, resource.name).delete(*_place(resource, arguments))
    if arguments.json:
        say_json({})
    else:
        say(f"{resource.noun.capitalize()} {arguments.named} is deleted.")


def _show(resource: Resource, found: Any, *, as_json: bool) -> None:
    if as_json:
        say_json({resource.noun: found})
        return
    facts = [(title, shown(found)) for title, shown in resource.facts.items()]
    say_fields([("alias", found.alias), ("id", found.id), *facts, ("created", when(found.created_at))])


def _json_text(value: Any) -> str:
    import msgspec  # noqa: PLC0415 - imported with the client

    return "" if value is None else msgspec.json.encode(value).decode()


def _json(what: str, text: str) -> Any:
    return json_of(content_of(text), what)


_ALIAS: Final[Mapping[str, Shown]] = {"ALIAS": lambda each: each.alias, "ID": lambda each: each.id}

TOPICS: Final = Resource(
    "topics",
    "topic",
    "",
    "A topic copies each message into the queues of its channels.",
    {**_ALIAS, "CHANNELS": lambda each: ", ".join(channel.alias for channel in each.channels)},
    {"channels": lambda each: ", ".join(channel.alias for channel in each.channels)},
)
CHANNELS: Final = Resource(
    "channels",
    "channel",
    "topic",
    "A channel leads from a topic into a queue.",
    {
        **_ALIAS,
        "QUEUE": lambda each: each.queue_id,
        "PATTERN": lambda each: each.pattern or "",
        "FILTER": lambda each: _json_text(each.filter),
    },
    {
        "queue": lambda each: each.queue_id,
        "pattern": lambda each: each.pattern or "",
        "filter": lambda each: _json_text(each.filter),
    },
    (
        Option(
            "--queue", "queue_id", str, {"type": name, "metavar": "QUEUE", "help": "alias or id of the queue; fixed"}
        ),
        Option(
            "--pattern",
            "pattern",
            str,
            {"metavar": "PATTERN", "help": "pattern that subjects must match, such as orders.*.paid or orders.>"},
        ),
        Option(
            "--filter",
            "filter",
            partial(_json, "The filter"),
            {"metavar": "JSON", "help": "filter that messages must match; @FILE reads it from a file, null removes it"},
        ),
    ),
)
SCHEDULES: Final = Resource(
    "schedules",
    "schedule",
    "queue",
    "A schedule publishes a message to a queue at each of its times.",
    {
        **_ALIAS,
        "STATUS": lambda each: each.status,
        "CRON": lambda each: each.cron,
        "TIME ZONE": lambda each: each.time_zone,
        "NEXT RUN": lambda each: when(each.next_runs[0]) if each.next_runs else "none",
    },
    {
        "queue": lambda each: each.queue_id,
        "status": lambda each: each.status,
        "cron": lambda each: each.cron,
        "time zone": lambda each: each.time_zone,
        "next runs": lambda each: ", ".join(map(when, each.next_runs)),
        "last run": lambda each: when(each.last_run.scheduled_at) if each.last_run else "",
        "starts": lambda each: when(each.starts_at),
        "ends": lambda each: when(each.ends_at),
        "missed runs": lambda each: each.missed_runs,
        "key": lambda each: each.key or "",
        "data": lambda each: _json_text(each.data) if each.data_base64 is None else f"{each.data_base64} in base64",
    },
    (
        Option(
            "--cron", "cron", str, {"metavar": "CRON", "help": "times of the runs, such as '0 9 * * mon-fri' or @daily"}
        ),
        Option("--time-zone", "time_zone", str, {"metavar": "NAME", "help": "such as Europe/Berlin; default: UTC"}),
        Option(
            "--data",
            "data",
            partial(_json, "The data"),
            {"metavar": "JSON", "help": "data of each message; @FILE reads it from a file, - from the standard input"},
        ),
        Option("--key", "key", str, {"metavar": "KEY", "help": "key of each message"}),
        Option(
            "--header",
            "headers",
            dict,
            {
                "action": "append",
                "type": header,
                "default": [],
                "metavar": "NAME:VALUE",
                "help": "header of each request to a listener; can be repeated",
            },
        ),
        Option("--status", "status", str, {"choices": ("enabled", "disabled"), "help": "whether the schedule runs"}),
        Option(
            "--missed-runs",
            "missed_runs",
            str,
            {"choices": ("skip", "catch_up"), "help": "what to do about runs missed while no worker was running"},
        ),
        Option("--starts-at", "starts_at", int, {"type": instant, "metavar": "TIME", "help": "earliest time of a run"}),
        Option("--ends-at", "ends_at", int, {"type": instant, "metavar": "TIME", "help": "no run from this time on"}),
    ),
)
