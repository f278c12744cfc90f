"""`tail`, `trigger`, `redeliver` and `replay`, on a real service."""

import json
import signal

import jsonschema_rs
import pytest

from discue.dashboard.json_example import NoExample, example_of
from tests.cli.commands import running
from tests.cli.user.local_server import local_server
from tests.cli.user.service import Service
from tests.cli.user.test_listen import publish, queue_named

ORDER = {
    "type": "object",
    "required": ["id", "state", "total", "lines"],
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "state": {"enum": ["paid", "sent"]},
        "total": {"type": "number", "exclusiveMinimum": 0},
        "lines": {"type": "array", "minItems": 2, "items": {"$ref": "#/$defs/line"}},
        "buyer": {"anyOf": [{"type": "string", "minLength": 12}, {"type": "null"}]},
    },
    "$defs": {"line": {"type": "object", "required": ["sku", "count"], "properties": {"count": {"type": "integer"}}}},
}


def missed(service: Service, queue: str, url: str, *messages: object) -> list[str]:
    """Return messages that the listener `app` of a queue has missed."""
    service.succeed("queues", "set", queue)
    body = {"notify_url": url, "liveness_url": None, "retry": {"schedule": [], "attempts": 1}}
    service.call("PUT", f"/queues/{queue}/listeners/app", body)
    ids = [publish(service, queue, each) for each in messages]
    while service.call("GET", f"/queues/{queue}/listeners/app")["listener"]["messages"]["missed_count"] < len(ids):
        pass
    return ids


def test_missed_messages_are_previewed_and_redelivered(service: Service) -> None:
    with local_server(lambda *_: (500, b"")) as local:
        ids = missed(service, "redelivered", local.url, 1, 2)
        local.respond = lambda *_: (204, b"")
        preview = service.run("redeliver", "redelivered", "app", "--all", "--dry-run")
        unanswered = service.run("redeliver", "redelivered", "app", "--all")
        done = service.json("redeliver", "redelivered", "app", "--all", "--yes")
        local.wait_for(lambda: len(local.accepted) == 2)
        followed = service.succeed("redeliver", "redelivered", "app", "--follow", done["redelivery"]["id"])
        nothing = service.run("redeliver", "redelivered", "app", "--since", "1m", "--reason", "expired")

    assert preview.stderr == f"2 messages for the listener app, from {ids[0]} to {ids[1]}.\n"
    assert (unanswered.returncode, "--yes is missing" in unanswered.stderr) == (2, True)
    assert done["redelivery"]["counts"]["redelivered"] == 2
    assert "done: 2 selected, 2 redelivered" in followed
    assert nothing.returncode == 0
    assert "0 messages for the listener app." in nothing.stderr


def test_group_is_redelivered_after_a_trial(service: Service) -> None:
    with local_server(lambda *_: (500, b"order 17 is unknown")) as local:
        ids = missed(service, "grouped", local.url, 1, 2)
        (group,) = service.json("missed", "--queue", "grouped")["groups"]
        shown = service.succeed("missed", "--queue", "grouped")
        listed = service.json("messages", "missed", "--group", group["id"])["missed"]
        arguments = ("redeliver", "grouped", "app", "--group", group["id"], "--trial", "1", "--yes")
        stopped = service.run(*arguments)
        group = service.json("missed", "--queue", "grouped")["groups"][0]
        local.respond = lambda *_: (204, b"")
        done = service.json("redeliver", "grouped", "app", "--group", group["id"], "--trial", "1", "--yes")
        local.wait_for(lambda: len(local.accepted) == 2)

    assert (group["count"], group["sample"]) == (2, ids[::-1])
    assert "attempts_used_up" in shown
    assert [each["id"] for each in listed] == ids[::-1]
    assert (stopped.returncode, "stopped: 2 selected, 1 redelivered" in stopped.stdout) == (1, True)
    assert "The trial failed (attempts_used_up, status 500):" in stopped.stderr
    assert (done["redelivery"]["state"], done["redelivery"]["tried"]) == ("done", 1)


def test_part_of_a_queue_is_replayed(service: Service) -> None:
    queue = queue_named(service, "replayed")
    with local_server() as local:
        service.succeed("listeners", "set", queue, "app", "--url", local.url)
        ids = [publish(service, queue, n) for n in range(3)]
        local.wait_for(lambda: len(local.received) == 3)
        arguments = ("replay", queue, "app", "--from-message", ids[1], "--pace", "100")
        preview = service.json(*arguments, "--dry-run")
        done = service.json(*arguments, "--yes")

    assert preview["dry_run"]["selected"] == 2
    assert (done["replay"]["state"], done["replay"]["counts"]["delivered"]) == ("done", 2)
    assert [each.id for each in local.received if "discue-replay" in each.headers] == ids[1:]


def test_preview_of_a_replay_with_a_filter_is_an_upper_limit(service: Service) -> None:
    queue = queue_named(service, "replay-filtered")
    service.succeed("listeners", "set", queue, "app", "--url", "http://127.0.0.1:9/")
    service.succeed("listeners", "disable", queue, "app")
    first, last = publish(service, queue, 1), publish(service, queue, 2)
    arguments = ("replay", queue, "app", "--from-message", first, "--dry-run")
    limit = (
        f"Up to 2 messages for the listener app, from {first} to {last}.\n"
        "Only messages that match the types and filters are sent.\n"
    )
    own = service.run(*arguments, "--filter", '{"key": "north"}')
    plain = service.run(*arguments)
    service.call("PUT", f"/queues/{queue}/listeners/app", {"filter": {"key": "north"}})
    of_listener = service.run(*arguments)

    assert own.stderr.startswith(limit)
    assert plain.stderr.startswith("2 messages for the listener app,")
    assert of_listener.stderr.startswith(limit)
    assert (
        f"The listener is disabled by a request. Messages wait until you enable it: discue listeners enable {queue} app"
        in own.stderr
    )


def test_interrupt_leaves_the_job_to_the_service(service: Service) -> None:
    queue = queue_named(service, "interrupted")
    with local_server() as local:
        service.succeed("listeners", "set", queue, "app", "--url", local.url)
        first = publish(service, queue)
        service.succeed("listeners", "disable", queue, "app")
        arguments = ("replay", queue, "app", "--from-message", first, "--yes")
        with running(service.folder, *arguments) as process:
            process.log.wait_for(r"Started \w+\. It continues after Ctrl-C\.\n")
            process.signal(signal.SIGINT)
            code = process.ended()
    (replay,) = service.call("GET", f"/queues/{queue}/listeners/app/replays")["replays"]

    assert code == 1
    assert process.log.text.startswith(
        f"1 message for the listener app: {first}.\n"
        f"The listener is disabled by a request. Messages wait until you enable it: discue listeners enable "
        f"{queue} app\nStarted "
    )
    assert f"discue replay {queue} app --follow {replay['id']}" in process.log.text
    assert "Traceback" not in process.log.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("redeliver", "q", "l"), "Select messages: with --all"),
        (("redeliver", "q", "l", "--all", "--since", "1h"), "Select messages: with --all"),
        (("replay", "q", "l"), "Say where it begins"),
        (("trigger", "q", "--set", "total"), "is not a change such as order.total=5"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, tuple) else "",
)
def test_wrong_usage_of_operations_is_explained(service: Service, arguments: tuple[str, ...], message: str) -> None:
    result = service.run(*arguments)

    assert result.returncode == 2
    assert message in result.stderr


def test_example_is_made_from_the_schema_and_changed(service: Service) -> None:
    service.call("PUT", "/queues/typed", {"json_schema": ORDER})
    shown = service.succeed("trigger", "typed", "--set", "lines.0.count=7", "--set", "state=sent", "--key", "k")
    (message,) = service.json("messages", "list", "typed")["messages"]

    assert message["id"] == shown.strip()
    assert (message["data"]["state"], message["data"]["lines"][0]["count"], message["key"]) == ("sent", 7, "k")


def test_example_is_the_last_message_where_there_is_no_schema(service: Service) -> None:
    queue = queue_named(service, "untyped")
    empty = service.run("trigger", queue)
    publish(service, queue, {"a": {"b": 1}}, key="north")
    shown = json.loads(service.succeed("trigger", queue, "--set", "a.b=2", "--set", "a.c=word", "--dry-run"))
    service.succeed("trigger", queue)
    last, first = service.json("messages", "list", queue)["messages"]

    assert (empty.returncode, "has neither a schema nor a message" in empty.stderr) == (1, True)
    assert shown == {"a": {"b": 2, "c": "word"}}
    assert (last["data"], last["key"]) == (first["data"], "north")
    assert "The data has no place a.b.c" in service.run("trigger", queue, "--set", "a.b.c=1").stderr


@pytest.mark.parametrize(
    "schema",
    [
        ORDER,
        {"type": "integer", "minimum": 3, "multipleOf": 2},
        {"type": "number", "maximum": -5},
        {"type": "string", "minLength": 30, "maxLength": 31},
        {"allOf": [{"type": "object", "properties": {"a": {"const": 5}}}, {"required": ["a"]}]},
        {"type": ["null", "array"], "items": {"type": "boolean"}},
        {"type": "string", "pattern": "^A-[0-9]$", "examples": ["A-1"]},
    ],
    ids=str,
)
def test_examples_are_valid(schema: dict[str, object]) -> None:
    assert jsonschema_rs.Draft202012Validator(schema).is_valid(example_of(schema))


def test_schema_without_an_example_says_why() -> None:
    with pytest.raises(NoExample, match="pattern"):
        example_of({"type": "string", "pattern": "^A-[0-9]$"})
    with pytest.raises(NoExample, match="refers to itself"):
        example_of({"$ref": "#"})


def test_attempts_are_shown_as_they_happen(service: Service) -> None:
    with local_server(lambda *_: (500, b"")) as local:
        (first,) = missed(service, "tailed", local.url, 1)
        with running(service.folder, "tail", "tailed", "--since", "1h", "--failed") as process:
            process.out.wait_for(rf"{first} app attempt 1  500  .*\n")
            second = publish(service, "tailed", 2)
            process.out.wait_for(f"{second} app attempt 1")
            process.signal(signal.SIGINT)
            assert process.ended() == 0
        shown = service.succeed("tail", "tailed", "--listener", "app", "--since", "1h", "--for", "0s", "--json")

    assert process.out.text.count(first) == 1
    assert [json.loads(line)["message_id"] for line in shown.splitlines()] == [first, second]
