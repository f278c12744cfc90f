"""Commands that list, show, set and delete resources, generated from a table."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from discue.cli.declarations import Argument, Command, CommandGroup, Kind, argument, option, repeated, switch
from discue.cli.output import json_text, note, say_fields, say_json, say_result, say_table, when
from discue.cli.user.arguments import (
    HEADERS,
    TYPE,
    alias,
    content_of,
    duration,
    event_type,
    instant,
    json_of,
    limit,
    name,
    positive,
)
from discue.cli.user.command import Run, connect, readable, user_command

if TYPE_CHECKING:
    from discue_client import Discue

_NAMED: Final = 1_000
_SHOWN: Final = 5

Shown = Callable[[Any], str]
"""Returns a text about a resource; "" if there is nothing to show."""


class Resource(NamedTuple):
    """A kind of resource, and how its commands show and set it."""

    plural: str
    """The name of the command, and of the attribute of the client."""
    within: str = ""
    """The noun of the parent resource; "" for a resource without a parent."""
    columns: Mapping[str, Shown] = {}
    facts: Mapping[str, Shown] = {}
    options: tuple[Argument, ...] = ()
    """The options of `set`. Their names in Python are fields of the API."""
    filters: tuple[Argument, ...] = ()
    """The options of `list`. Their names in Python are parameters of the API."""
    query: Mapping[str, str] = {}
    """More parameters of the API."""
    limit: int = 100
    """The number of resources that `list` shows by default."""
    about: str = ""
    """A sentence that says what the resource is, for the help of `set`."""
    deletes: str = ""
    """A phrase about the content that is deleted with it."""
    names: str = "alias or id"
    """The names that paths accept for it."""
    new_name: Kind = alias
    """Parses the name of a resource that `set` may create."""

    @property
    def member(self) -> str:
        """The name of the resource in responses."""
        return self.plural.removesuffix("s")

    @property
    def noun(self) -> str:
        return self.member.replace("_", " ")

    @property
    def one(self) -> str:
        """The noun with its article."""
        return f"an {self.noun}" if self.noun[0] in "aeiou" else f"a {self.noun}"

    @property
    def parent(self) -> tuple[Argument, ...]:
        """The argument that names the parent resource."""
        usage = f"alias or id of the {self.within}"
        return (argument("within", usage, name, metavar=self.within),) if self.within else ()

    def place(self, kind: Kind = name) -> tuple[Argument, ...]:
        """Return the arguments that name a resource."""
        return (*self.parent, argument("named", f"{self.names} of the {self.noun}", kind, metavar=self.member))


def group(resource: Resource, **others: Command) -> CommandGroup:
    """Return the commands of a resource. `others` adds verbs, and replaces them."""
    verbs = {
        "list": listing(resource),
        "get": user_command(partial(_get, resource), *resource.place(), summary=f"show {resource.one}"),
        "set": setting(resource, partial(set_resource, resource)),
        "delete": deletion(resource),
    }
    return CommandGroup({**verbs, **others})


def listing(resource: Resource) -> Command:
    plural = resource.plural.replace("_", " ")
    return user_command(
        partial(_list, resource),
        *resource.parent,
        limit(resource.limit),
        *resource.filters,
        summary=f"list {f'the {plural} of a {resource.within}' if resource.within else plural}, newest first",
    )


def setting(resource: Resource, run: Run, *more: Argument, place: Sequence[Argument] = ()) -> Command:
    """Return the verb `set`, with more options than those of the resource. `place` has other arguments that name it."""
    return user_command(
        run,
        *(place or resource.place(resource.new_name)),
        *resource.options,
        *more,
        summary=f"create {resource.one}, or change the one that has this {resource.names.partition(' ')[0]}",
        description=f"{resource.about} Only the given options change.".lstrip(),
    )


def deletion(resource: Resource) -> Command:
    return user_command(
        partial(_delete, resource), *resource.place(), summary=f"delete {resource.one}{resource.deletes}"
    )


def place_of(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Return the names of the parent resource, if there is one, and of the resource."""
    within = getattr(arguments, "within", None)
    return (arguments.named,) if within is None else (within, arguments.named)


def _list(resource: Resource, arguments: argparse.Namespace) -> None:
    place = (arguments.within,) if resource.within else ()
    filters = {each.dest: getattr(arguments, each.dest) for each in resource.filters}
    with connect(arguments) as client:
        found = list(getattr(client, resource.plural).list(*place, limit=arguments.limit, **filters, **resource.query))
    if arguments.json:
        say_json({resource.plural: found})
    else:
        say_table(tuple(resource.columns), ([shown(each) for shown in resource.columns.values()] for each in found))


def _get(resource: Resource, arguments: argparse.Namespace) -> None:
    with connect(arguments) as client:
        found = getattr(client, resource.plural).get(*place_of(arguments))
    show(resource, found, as_json=arguments.json)


def set_resource(resource: Resource, arguments: argparse.Namespace) -> None:
    """Create or change the resource that the arguments name, and show it."""
    given = {each.dest: getattr(arguments, each.dest) for each in resource.options}
    fields = {
        key: _READ[key](value) if key in _READ else value for key, value in given.items() if value not in (None, [])
    }
    with connect(arguments) as client:
        made = getattr(client, resource.plural).update(*place_of(arguments), **fields)
    show(resource, made, as_json=arguments.json)


def _delete(resource: Resource, arguments: argparse.Namespace) -> None:
    with connect(arguments) as client:
        getattr(client, resource.plural).delete(*place_of(arguments))
    say_result({}, f"{resource.noun.capitalize()} {arguments.named} is deleted.", as_json=arguments.json)


def show(resource: Resource, found: Any, *, as_json: bool) -> None:
    """Print a resource."""
    if as_json:
        say_json({resource.member: found})
    else:
        say_fields((title, shown(found)) for title, shown in resource.facts.items())


def _json(what: str, text: str) -> Any:
    return json_of(content_of(text), what)


_READ: Final[Mapping[str, Callable[[Any], Any]]] = {
    "data": partial(_json, "The data"),
    "example": partial(_json, "The example"),
    "filter": partial(_json, "The filter"),
    "headers": dict,
    "json_schema": partial(_json, "The schema"),
    "retention": round,
    "secrets": lambda texts: [content_of(each).decode().strip() for each in texts],
    "transform": lambda text: text or None,
    "types": lambda text: text.split() or None,
}
"""Makes the value of a field of an option's value, where they differ."""


def _json_text(value: Any) -> str:
    return "" if value is None else json_text(value)


def queue_names(client: Discue) -> dict[str, str]:
    """Return the aliases of the newest queues by id: those that the key may list."""
    return {each.id: each.alias for each in readable(lambda: list(client.queues.list(limit=_NAMED))) or ()}


ALIAS: Final[Mapping[str, Shown]] = {"alias": lambda each: each.alias, "id": lambda each: each.id}
CREATED: Final[Mapping[str, Shown]] = {"created": lambda each: when(each.created_at)}
FILTER: Final = option("--filter JSON", "filter that messages must pass; @FILE reads it from a file, null removes it")
SECRETS: Final = repeated(
    "--secret SECRET", "signing secret of the provider; @FILE reads it from a file; can be repeated", dest="secrets"
)
TYPES: Final = option("--types TYPES", "types or patterns of messages, such as 'order.* invoice.paid'; '' for all")
_COLUMNS: Final[Mapping[str, Shown]] = {"ALIAS": lambda each: each.alias, "ID": lambda each: each.id}


def queues() -> CommandGroup:
    resource = Resource(
        "queues",
        columns={
            **_COLUMNS,
            "PUBLISHED": lambda each: f"{each.messages.published_count:,}",
            "LAST PUBLISHED": lambda each: when(each.messages.last_published_at) or "never",
        },
        facts={
            **ALIAS,
            "customer": lambda each: each.customer or "",
            "ordered": lambda each: "yes" if each.ordered else "",
            "published": lambda each: f"{each.messages.published_count:,}",
            "last published": lambda each: when(each.messages.last_published_at),
            "largest message": lambda each: f"{each.max_message_bytes:,} bytes" if each.max_message_bytes else "",
            "schema": lambda each: each.schema_id or "",
            **CREATED,
            "listeners": lambda each: ", ".join(listener.alias or listener.id for listener in each.listeners),
        },
        options=(
            switch("--ordered", "messages with the same key are delivered one at a time; fixed", default=None),
            option("--customer NAME", "customer whom the queue belongs to; fixed"),
            option("--retention TIME", "how long settled messages are kept", duration),
            option("--max-message-bytes N", "largest message that can be published, in bytes", positive),
            option("--json-schema JSON", "JSON Schema that messages must match; @FILE reads it from a file"),
        ),
        filters=(option("--customer NAME", "list only the queues of this customer"),),
        deletes=" with its listeners and messages",
    )
    return group(resource)


def topics() -> CommandGroup:
    def channels_of(each: Any) -> str:
        return ", ".join(channel.alias for channel in each.channels)

    resource = Resource(
        "topics",
        columns={**_COLUMNS, "CHANNELS": channels_of},
        facts={**ALIAS, "channels": channels_of, **CREATED},
        about="A topic copies each message into the queues of its channels.",
    )
    return group(resource)


def event_types() -> CommandGroup:
    resource = Resource(
        "event_types",
        columns={
            "TYPE": lambda each: each.type,
            "ID": lambda each: each.id,
            "STATUS": lambda each: each.status,
            "DESCRIPTION": lambda each: each.description or "",
        },
        facts={
            "type": lambda each: each.type,
            "id": lambda each: each.id,
            "status": lambda each: each.status,
            "description": lambda each: each.description or "",
            "schema": lambda each: _json_text(each.json_schema),
            "example": lambda each: _json_text(each.example),
            **CREATED,
        },
        options=(
            option("--description TEXT", "when the event happens, for customers"),
            option("--status", "whether it is offered to customers", choices=("enabled", "deprecated")),
            option("--json-schema JSON", "JSON Schema of the data; @FILE reads it from a file, null removes it"),
            option("--example JSON", "example of the data; @FILE reads it from a file, null removes it"),
        ),
        about="Customers choose from the catalogue of event types.",
        names="type or id",
        new_name=event_type,
    )
    delete = user_command(
        partial(_delete_event_type, resource),
        *resource.place(),
        summary="delete an event type; messages and listeners keep it",
    )
    return group(resource, delete=delete)


def _delete_event_type(resource: Resource, arguments: argparse.Namespace) -> None:
    """Delete an event type, and name the listeners that have it among their types."""
    with connect(arguments) as client:
        deleted = client.event_types.get(arguments.named).type
        newest = readable(lambda: list(client.listeners.list(limit=_NAMED))) or ()
        having = [each for each in newest if deleted in (each.types or ())]
        queues = queue_names(client) if having else {}
    if having:
        named = [f"{queues.get(each.queue_id, each.queue_id)}/{each.alias}" for each in having[:_SHOWN]]
        more = f" and {len(having) - _SHOWN} more" if len(having) > _SHOWN else ""
        note(f"discue: Listeners still have the type {deleted}: {', '.join(named)}{more}.")
    _delete(resource, arguments)


def channels() -> CommandGroup:
    facts: dict[str, Shown] = {
        "queue": lambda each: each.queue_id,
        "pattern": lambda each: each.pattern or "",
        "filter": lambda each: _json_text(each.filter),
    }
    resource = Resource(
        "channels",
        "topic",
        columns={**_COLUMNS, **{title.upper(): shown for title, shown in facts.items()}},
        facts={**ALIAS, **facts, **CREATED},
        options=(
            option("--queue QUEUE", "alias or id of the queue; fixed", name, dest="queue_id"),
            option("--pattern PATTERN", "pattern that types must match, such as orders.*.paid or orders.>"),
            FILTER,
        ),
        about="A channel leads from a topic into a queue.",
    )
    return group(resource)


def sources() -> CommandGroup:
    facts: dict[str, Shown] = {
        "provider": lambda each: each.provider,
        "queue": lambda each: each.queue_id,
        "refused": lambda each: f"{each.refused:,}",
    }
    resource = Resource(
        "sources",
        columns={**_COLUMNS, **{title.upper(): shown for title, shown in facts.items()}},
        facts={
            **ALIAS,
            **facts,
            "last refused": lambda each: when(each.refused_at) if each.refused_at else "",
            "URL": lambda each: each.url,
            **CREATED,
        },
        options=(
            option("--provider NAME", "stripe, github, shopify, standard-webhooks, or hmac for others"),
            option("--queue QUEUE", "alias or id of the queue that it publishes to", name, dest="queue_id"),
            SECRETS,
            option("--header NAME", "hmac: the header with the signature"),
            option("--algorithm NAME", "hmac: the hash function; sha256, sha1 or sha512"),
            option("--encoding NAME", "hmac: the encoding of the signature, hex or base64"),
            option("--prefix TEXT", "hmac: the text before the signature"),
            option("--timestamp-header NAME", "hmac: the header with the signed time in seconds"),
            option("--id-header NAME", "hmac: the header with the id of the event"),
        ),
        about="A source verifies the webhooks of another service and publishes them to a queue.",
        deletes="; messages that it has published stay",
    )
    return group(resource)


def schedules() -> CommandGroup:
    resource = Resource(
        "schedules",
        "queue",
        columns={
            **_COLUMNS,
            "STATUS": lambda each: each.status,
            "CRON": lambda each: each.cron,
            "TIME ZONE": lambda each: each.time_zone,
            "NEXT RUN": lambda each: when(each.next_runs[0]) if each.next_runs else "none",
        },
        facts={
            **ALIAS,
            "queue": lambda each: each.queue_id,
            "status": lambda each: each.status,
            "cron": lambda each: each.cron,
            "time zone": lambda each: each.time_zone,
            "next runs": lambda each: ", ".join(map(when, each.next_runs)),
            "last run": lambda each: when(each.last_run.scheduled_at) if each.last_run else "",
            "starts": lambda each: when(each.starts_at),
            "ends": lambda each: when(each.ends_at),
            "missed runs": lambda each: each.missed_runs,
            "type": lambda each: each.type or "",
            "key": lambda each: each.key or "",
            "data": lambda each: _json_text(each.data) if each.data_base64 is None else f"{each.data_base64} in base64",
            **CREATED,
        },
        options=(
            option("--cron CRON", "times of the runs, such as '0 9 * * mon-fri' or @daily"),
            option("--time-zone NAME", "such as Europe/Berlin; default: UTC"),
            option("--data JSON", "data of each message; @FILE reads it from a file, - from the standard input"),
            TYPE,
            option("--key KEY", "key of each message"),
            HEADERS,
            option("--status", "whether the schedule runs", choices=("enabled", "disabled")),
            option(
                "--missed-runs",
                "what to do about runs missed while no worker was running",
                choices=("skip", "catch_up"),
            ),
            option("--starts-at TIME", "earliest time of a run", instant),
            option("--ends-at TIME", "no run from this time on", instant),
        ),
        about="A schedule publishes a message to a queue at each of its times.",
    )
    return group(resource)


def erasures() -> CommandGroup:
    resource = Resource(
        "erasures",
        "queue",
        columns={
            "ID": lambda each: each.id,
            "KEY": lambda each: each.key,
            "STATE": lambda each: each.state,
            "ERASED": lambda each: f"{each.erased:,}",
            "CREATED": lambda each: when(each.created_at),
        },
        facts={
            "id": lambda each: each.id,
            "key": lambda each: each.key,
            "state": lambda each: each.state,
            "erased": lambda each: f"{each.erased:,}",
            "delivered": lambda each: (
                ", ".join(f"{one.count:,} message{'s' * (one.count != 1)} to {one.listener}" for one in each.delivered)
                or "none"
            ),
            **CREATED,
            "ended": lambda each: when(each.ended_at),
        },
        names="id",
    )
    return CommandGroup(
        {
            "list": listing(resource),
            "get": user_command(partial(_get, resource), *resource.place(), summary="show an erasure"),
            "create": user_command(
                partial(_erase, resource),
                *resource.parent,
                argument("key", "key of the messages"),
                summary="erase all messages with a key; this cannot be undone",
            ),
        }
    )


def _erase(resource: Resource, arguments: argparse.Namespace) -> None:
    with connect(arguments) as client:
        made = client.erasures.create(arguments.within, key=arguments.key)
    show(resource, made, as_json=arguments.json)
