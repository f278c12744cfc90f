"""`topics`, `channels` and `schedules`, and publishing to topics, on a real service."""

import io
import json
import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cli.user.service import Service


def topic_with(service: Service, topic: str, queue: str, *options: str) -> None:
    """Create a topic with a channel into a new queue."""
    service.succeed("queues", "set", queue)
    service.succeed("topics", "set", topic)
    service.succeed("channels", "set", topic, f"to-{queue}", "--queue", queue, *options)


def only_message(service: Service, queue: str) -> dict[str, Any]:
    (listed,) = service.json("messages", "list", queue)["messages"]
    found: dict[str, Any] = service.json("messages", "get", queue, listed["id"])["message"]
    return found


def test_topic_and_its_channels_are_set_shown_and_deleted(service: Service) -> None:
    topic_with(service, "t-shown", "t-queue", "--pattern", "orders.*.paid", "--filter", '{"data": {"total": 5}}')
    queue = service.json("queues", "get", "t-queue")["queue"]["id"]
    channel = service.json("channels", "get", "t-shown", "to-t-queue")["channel"]

    assert (channel["queue_id"], channel["pattern"], channel["filter"]) == (
        queue,
        "orders.*.paid",
        {"data": {"total": 5}},
    )
    assert re.search(r"^channels +to-t-queue$", service.succeed("topics", "get", "t-shown"), re.MULTILINE)
    assert re.search(r"^t-shown +\w{21} +to-t-queue$", service.succeed("topics", "list"), re.MULTILINE)
    row = rf"^to-t-queue +\w{{21}} +{queue} +orders\.\*\.paid +{{"
    assert re.search(row, service.succeed("channels", "list", "t-shown"), re.MULTILINE)
    changed = service.json("channels", "set", "t-shown", "to-t-queue", "--filter", "null")["channel"]
    assert ("filter" in changed, changed["pattern"]) == (False, "orders.*.paid")
    assert service.succeed("channels", "delete", "t-shown", "to-t-queue") == "Channel to-t-queue is deleted.\n"
    assert service.json("channels", "list", "t-shown") == {"channels": []}
    service.succeed("topics", "delete", "t-shown")
    assert service.run("topics", "get", "t-shown").returncode == 1


def test_schedule_is_set_shown_and_deleted(service: Service) -> None:
    service.succeed("queues", "set", "s-queue")
    options = ("--cron", "0 9 * * mon-fri", "--time-zone", "Europe/Berlin", "--data", '{"report": "daily"}')
    times = ("--starts-at", "2030-01-01", "--ends-at", "2031-01-01T00:00Z")
    service.succeed("schedules", "set", "s-queue", "daily", *options, *times, "--key", "k", "--header", "X-A: b")
    made = service.json("schedules", "get", "s-queue", "daily")["schedule"]
    text = service.succeed("schedules", "get", "s-queue", "daily")

    assert (made["cron"], made["time_zone"], made["data"]) == ("0 9 * * mon-fri", "Europe/Berlin", {"report": "daily"})
    assert (made["starts_at"], made["ends_at"]) == (1_893_456_000_000, 1_924_992_000_000)
    assert (made["key"], made["headers"]) == ("k", {"x-a": "b"})
    assert re.search(r"^next runs +2030-01-01 08:00:00Z, 2030-01-02 08:00:00Z, ", text, re.MULTILINE)
    assert re.search(r'^data +\{"report":"daily"\}$', text, re.MULTILINE)
    row = r"^daily +\w{21} +enabled +0 9 \* \* mon-fri +Europe/Berlin +2030-01-01 08:00:00Z$"
    assert re.search(row, service.succeed("schedules", "list", "s-queue"), re.MULTILINE)
    disabled = service.json("schedules", "set", "s-queue", "daily", "--status", "disabled")["schedule"]
    assert (disabled["status"], disabled["cron"], disabled["next_runs"]) == ("disabled", "0 9 * * mon-fri", [])
    service.succeed("schedules", "delete", "s-queue", "daily")
    assert service.json("schedules", "list", "s-queue") == {"schedules": []}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("channels", "set", "wrong", "c"), 1, "--queue is missing"),
        (("channels", "set", "wrong", "c", "--queue", "nowhere"), 1, "--queue is not the id or alias of a queue"),
        (("channels", "set", "wrong", "bad name!", "--queue", "q"), 2, "is not an alias"),
        (("schedules", "set", "wrong", "s", "--data", "1"), 1, "--cron"),
        (("schedules", "set", "wrong", "s", "--data", "1", "--cron", "never"), 1, "--cron must"),
        (("schedules", "set", "wrong", "s", "--starts-at", "2h"), 2, "is not a time such as 2026-07-01T12:00Z"),
        (("topics", "get", "nowhere"), 1, 'Topic "nowhere" not found.'),
        (("publish", "wrong", "1", "--type", "a b"), 1, "--type must be words of visible ASCII characters"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, tuple) else "",
)
def test_error_names_the_argument(service: Service, arguments: tuple[str, ...], code: int, message: str) -> None:
    service.succeed("queues", "set", "wrong")
    service.succeed("topics", "set", "wrong")
    result = service.run(*arguments)

    assert result.returncode == code
    assert message in result.stderr


def test_message_is_published_to_a_topic(service: Service) -> None:
    topic_with(service, "shop", "shop-paid", "--pattern", "orders.*.paid")
    options = ("--type", "orders.eu.paid", "--key", "k", "--idempotency-key", "once")
    sent = [service.succeed("publish", "--topic", "shop", '{"order": 17}', *options) for _ in range(2)]
    ignored = service.run("publish", "shop", "1", "--topic", "--type", "orders.eu.sent")
    stored = only_message(service, "shop-paid")

    assert sent == [f"{stored['id']}\n"] * 2
    assert (stored["data"], stored["key"], stored["type"]) == ({"order": 17}, "k", "orders.eu.paid")
    assert ignored.returncode == 0
    assert ignored.stderr == "No channel of the topic shop accepts the message: it is not stored.\n"


def test_each_line_is_published_to_a_topic(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    topic_with(service, "lined", "lined-queue")
    service.call("PUT", "/queues/lined-queue", {"json_schema": {"type": "integer"}})
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b'1\n\n2\n"three"\n4\n')))
    result = service.run("publish", "--topic", "lined", "--lines")
    listed = service.json("messages", "list", "lined-queue")["messages"]

    assert result.returncode == 1
    assert result.stderr.startswith("Line 4 is not confirmed. The lines before it are published")
    assert [each["data"] for each in reversed(listed)] == [1, 2]
    assert result.stdout.split() == [each["id"] for each in reversed(listed)]


def test_name_of_a_topic_without_the_flag_is_explained(service: Service) -> None:
    topic_with(service, "only-a-topic", "its-queue")
    result = service.run("publish", "only-a-topic", "1")

    assert result.returncode == 1
    assert "404 not_found" in result.stderr
    assert "There is a topic only-a-topic: add --topic to publish to it." in result.stderr
    # The name of a queue and a topic is that of the queue.
    service.succeed("queues", "set", "only-a-topic")
    message = service.succeed("publish", "only-a-topic", "1").strip()
    assert service.json("messages", "list", "only-a-topic")["messages"][0]["id"] == message


def test_example_is_published_to_a_topic(service: Service) -> None:
    topic_with(service, "triggered", "triggered-queue", "--pattern", "orders.*.>")
    service.call("PUT", "/queues/triggered-queue", {"schema": {"order": {"type": "number", "min": 17}}})
    shown = json.loads(service.succeed("trigger", "--topic", "triggered", "--dry-run"))
    service.succeed("trigger", "--topic", "triggered", "--set", "order=18")
    other = service.run("trigger", "--topic", "triggered", "--type", "stock.low")
    stored = only_message(service, "triggered-queue")
    service.succeed("topics", "set", "no-channel")
    without = service.run("trigger", "--topic", "no-channel")

    assert shown == {"order": 17}
    assert (stored["data"], stored["type"]) == ({"order": 18}, "orders.example.example")
    assert "it is not stored" in other.stderr
    assert without.returncode == 1
    assert "Topic no-channel has no channel. Create one with `discue channels set no-channel NAME" in without.stderr
