"""`publish`, `queues`, `listeners`, `messages` and `api`, on a real service."""

import io
import json
import re
import sys
from types import SimpleNamespace
from typing import Any, get_type_hints

import pytest

from discue.cli.user.listeners import SENTENCES, transform_for_slack
from discue.domain.system_events import EVENTS, ResourceName, SystemEvent, type_of
from discue.domain.transforms import check_transform, evaluated
from tests.cli.commands import receiving
from tests.cli.user.local_server import local_server
from tests.cli.user.service import Service
from tests.support.ports import free_port


def test_message_is_published_as_it_was_written(service: Service) -> None:
    service.succeed("queues", "set", "exact")
    message = service.succeed("publish", "exact", '{"total": 12345678901234567890.10}', "--key", "k").strip()
    (found,) = service.call("GET", "/queues/exact/messages?data=true")["messages"]

    assert (found["id"], found["key"]) == (message, "k")
    raw = service.request("GET", f"{service.url}/queues/exact/messages/{message}", service.key)
    assert "12345678901234567890.10" in raw.text


def test_publish_takes_text_files_and_fields(service: Service) -> None:
    service.succeed("queues", "set", "forms")
    (service.folder / "order.json").write_text('{"order": 1}')
    (service.folder / "image.png").write_bytes(b"\x89PNG")
    service.succeed("publish", "forms", "@order.json")
    service.succeed("publish", "forms", "plain", "--text", "--alias", "named", "--header", "X-A: b")
    service.succeed("publish", "forms", "--file", "image.png", "--content-type", "image/png", "--delay", "1h")
    waiting, text, order = service.call("GET", "/queues/forms/messages?data=true")["messages"]

    assert (order["data"], text["data"], text["alias"]) == ({"order": 1}, "plain", "named")
    assert text["headers"] == {"x-a": "b"}
    assert (waiting["data_base64"], waiting["content_type"]) == ("iVBORw==", "image/png")
    delayed = service.json("messages", "get", "forms", waiting["id"])["message"]
    # The service takes both times from its clock, one after the other.
    assert 3_595_000 < delayed["deliver_at"] - delayed["created_at"] <= 3_600_000


def test_null_in_the_data_of_a_message_is_shown(service: Service) -> None:
    service.succeed("queues", "set", "nulls")
    data = {"paid_at": None, "items": [{"note": None}, None]}
    message = service.succeed("publish", "nulls", json.dumps(data)).strip()

    found = service.json("messages", "get", "nulls", message)["message"]
    assert (found["data"], "key" in found) == (data, False)


@pytest.mark.parametrize(
    "arguments",
    [("hello", "--text"), ("--text", "hello"), ("--key", "a", "hello", "--text"), ("--text", "--key", "a", "hello")],
    ids=" ".join,
)
def test_data_may_come_before_and_after_flags(service: Service, arguments: tuple[str, ...]) -> None:
    service.succeed("queues", "set", "positions")
    message = service.succeed("publish", "positions", *arguments).strip()

    assert service.json("messages", "get", "positions", message)["message"]["data"] == "hello"


def test_more_data_than_one_argument_is_wrong_usage(service: Service) -> None:
    result = service.run("publish", "positions", "--text", "hello", "world")

    assert result.returncode == 2
    assert "unrecognized arguments: world" in result.stderr


def test_repeated_idempotency_key_publishes_once(service: Service) -> None:
    service.succeed("queues", "set", "once")
    ids = {service.succeed("publish", "once", "1", "--idempotency-key", "k-1") for _ in range(2)}

    assert len(ids) == 1
    assert len(service.json("messages", "list", "once")["messages"]) == 1


def test_each_line_is_a_message(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.succeed("queues", "set", "lines")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b'1\n\n{"a": 2}\r\n"3"\n')))
    ids = service.succeed("publish", "lines", "--lines").split()
    listed = service.json("messages", "list", "lines")["messages"]

    assert [each["data"] for each in reversed(listed)] == [1, {"a": 2}, "3"]
    assert [each["id"] for each in reversed(listed)] == ids


def test_line_that_is_refused_is_named(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.call("PUT", "/queues/numbers", {"json_schema": {"type": "integer"}})
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b'1\n"two"\n3\n')))
    result = service.run("publish", "numbers", "--lines")
    listed = service.json("messages", "list", "numbers")["messages"]

    assert result.returncode == 1
    assert "Line 2 is not confirmed. The lines before it are published, and later ones may be.\n" in result.stderr
    assert sorted(each["data"] for each in listed) == [1, 3]
    assert result.stdout.split() == [each["id"] for each in listed if each["data"] == 1]


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (b"1\n{\n3\n", (), "Line 2 (use --text for text) is not JSON: Input data was truncated."),
        (b"1\n\xff\n3\n", ("--text",), "Line 2 is not UTF-8. Publish bytes with --file and --content-type."),
    ],
)
def test_line_that_is_not_data_is_named(
    service: Service, monkeypatch: pytest.MonkeyPatch, content: bytes, arguments: tuple[str, ...], message: str
) -> None:
    queue = f"broken-lines{''.join(arguments)}"
    service.succeed("queues", "set", queue)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    result = service.run("publish", queue, "--lines", *arguments)

    assert result.returncode == 2
    assert f"{message} The lines before it are published.\n" in result.stderr
    assert len(service.json("messages", "list", queue)["messages"]) == 1


def test_exceeded_quota_is_named_with_one_way_out(service: Service) -> None:
    made = service.call("POST", "/organizations", {"alias": "com.example.few", "quotas": {"queues": 0}})
    key = made["api_key"]["key"]
    result = service.run("queues", "set", "one", DISCUE_API_KEY=key)

    assert result.returncode == 1
    way_out = "Delete some, or ask the operator to raise `quota_queues`."
    assert f"Quota exceeded: 0 of 0 queues are in use. {way_out} [request " in result.stderr
    assert result.stderr.endswith("]\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("publish", "q", "{"), "The data (use --text for text) is not JSON"),
        (("publish", "q"), "Give the data, or --file, or --lines."),
        (("publish", "q", "--file", "x"), "--file needs --content-type"),
        (("publish", "..", "1"), "is neither an alias nor an id"),
        (("publish", "q", "1", "--delay", "soon"), "is not a duration such as 30s"),
        (("messages", "list", "q", "--since", "yesterday"), "neither a duration such as 2h nor a time"),
        (("api", "GET", "/queues?alias=a b"), "a space is %20"),
        (("queues", "lst"), "did you mean list?"),
        (
            ("queues", "set", "bad name!"),
            "is not an alias: it must be 1 to 64 characters of A-Z, a-z, 0-9, dot, underscore",
        ),
        (
            ("listeners", "set", "q", "ü", "--pull"),
            "is not an alias: it must be 1 to 64 characters of A-Z, a-z, 0-9, dot",
        ),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, tuple) else "",
)
def test_wrong_usage_names_the_argument_and_its_form(
    service: Service, arguments: tuple[str, ...], message: str
) -> None:
    result = service.run(*arguments)

    assert result.returncode == 2
    assert message in result.stderr


def test_error_of_the_service_is_one_line(service: Service) -> None:
    result = service.run("publish", "nowhere", "1")

    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert 'discue: POST /queues/nowhere/messages: 404 not_found: Queue "nowhere" not found.' in result.stderr
    assert "`discue queues list` lists the queues." in result.stderr


def test_key_without_the_scope_exits_with_4(service: Service) -> None:
    key = service.call("POST", "/api_keys", {"scopes": {"queues": {"access": "read"}}})["api_key"]["key"]
    result = service.run("queues", "set", "forbidden", DISCUE_API_KEY=key)

    assert result.returncode == 4
    assert "403 scope_missing" in result.stderr
    assert key not in result.stderr


def test_queue_is_set_shown_and_deleted(service: Service) -> None:
    schema = json.dumps({"type": "object"})
    options = ("--ordered", "--retention", "2d", "--json-schema", schema, "--max-message-bytes", "1000")
    service.succeed("queues", "set", "q-shown", *options)
    queue = service.json("queues", "get", "q-shown")["queue"]
    text = service.succeed("queues", "get", "q-shown")

    assert (queue["ordered"], queue["retention"], queue["json_schema"]) == (True, 172_800, {"type": "object"})
    assert queue["max_message_bytes"] == 1_000
    assert re.search(r"^largest message +1,000 bytes$", text, re.MULTILINE)
    assert "q-shown" in text
    assert queue["id"] in service.succeed("queues", "list")
    service.succeed("queues", "delete", "q-shown")
    assert service.run("queues", "get", "q-shown").returncode == 1


def test_queue_of_a_customer_is_set_once_and_listed_with_its_listeners(service: Service) -> None:
    for _ in range(2):
        service.succeed("queues", "set", "customers/acme", "--customer", "acme")
    service.succeed("queues", "set", "q-shared")
    service.succeed("listeners", "set", "customers/acme", "app", "--pull")
    service.succeed("listeners", "set", "q-shared", "app", "--pull")
    refused = service.run("queues", "set", "customers/acme", "--customer", "globex")

    assert re.search("^customer +acme$", service.succeed("queues", "get", "customers/acme"), re.MULTILINE)
    assert re.search("^customer +acme$", service.succeed("listeners", "get", "customers/acme", "app"), re.MULTILINE)
    for kind in ("queues", "listeners"):
        [found] = service.json(kind, "list", "--customer", "acme")[kind]
        assert found["customer"] == "acme"
    assert (refused.returncode, "create another queue for that customer" in refused.stderr) == (1, True)


def test_listener_is_set_tested_disabled_and_deleted(service: Service) -> None:
    service.succeed("queues", "set", "heard")
    with receiving() as receipts:
        made = service.succeed("listeners", "set", "heard", "app", "--url", receipts.url, "--filter", "null")
        tested = service.succeed("listeners", "test", "heard", "app", "--data", '{"a": 1}')
        receipts.wait_for(1)
    disabled = service.json("listeners", "disable", "heard", "app")["listener"]["status"]
    enabled = service.json("listeners", "enable", "heard", "app")["listener"]["status"]

    assert "whsec_" in made
    assert receipts.requests[0][0]["discue-test"] == "true"
    assert tested.startswith("acknowledged, status 2")
    assert (disabled, enabled) == ("disabled", "enabled")
    assert re.search(r"^heard +app +enabled ", service.succeed("listeners", "list", "heard"), re.MULTILINE)
    assert re.search(r"^heard +app +enabled ", service.succeed("listeners", "list"), re.MULTILINE)
    failed = service.run("listeners", "test", "heard", "app")
    assert (failed.returncode, failed.stdout.startswith("failed: ")) == (1, True)
    service.succeed("listeners", "delete", "heard", "app")
    assert service.json("listeners", "list", "heard") == {"listeners": []}


def test_slack_receives_system_events_and_messages_of_a_queue(service: Service) -> None:
    with local_server() as slack:
        service.succeed("listeners", "set", "alerts", "--slack", slack.url)
        service.succeed("queues", "set", "to-slack")
        service.succeed("listeners", "set", "to-slack", "alerts", "--slack", slack.url)
        service.succeed("publish", "to-slack", '{"order": 17}', "--type", "order.paid")
        slack.wait_for(lambda: len(slack.received) == 1)
        service.call("PUT", "/queues/to-slack/listeners/alerts", {"status": "disabled"})
        slack.wait_for(lambda: len(slack.received) == 2)
    first, second = (json.loads(each.body) for each in slack.received)
    assert first == {"text": 'order.paid: {"order":17}'}
    assert second == {"text": "The listener alerts of the queue to-slack was disabled: request."}
    own = ("listeners", "set", "to-slack", "alerts", "--transform", "{text: type}")
    assert service.json(*own)["listener"]["transform"] == "{text: type}"
    assert "transform" not in service.json("listeners", "set", "to-slack", "alerts", "--transform", "")["listener"]
    unnamed = service.run("listeners", "set", "alerts", "--url", slack.url)
    assert (unnamed.returncode, "such as system/events for system events." in unnamed.stderr) == (2, True)
    for other in (("--url", slack.url), ("--pull",)):
        twice = service.run("listeners", "set", "alerts", "--slack", slack.url, *other)
        assert (twice.returncode, "leave out --url and --pull" in twice.stderr) == (2, True)
    wrong = service.run("listeners", "set", "alerts", "--slack", "hooks.slack.com")
    assert (wrong.returncode, ": --slack must be " in wrong.stderr) == (1, True)
    service.succeed("listeners", "delete", "system/events", "alerts")


@pytest.mark.parametrize("event", EVENTS, ids=type_of)
def test_slack_shows_a_sentence_for_each_system_event(event: type[SystemEvent]) -> None:
    sentence, transform = SENTENCES[type_of(event)], transform_for_slack("system/events")
    fields = get_type_hints(event)
    data: dict[str, Any] = {}
    for name, dot, part in re.findall(r"{(\w+)(\.?)(\w*)}", sentence):
        assert (part, fields[name] is ResourceName) == (("alias", True) if dot else ("", False))
        data[name] = {"alias": "of-it"} if dot else 17
    check_transform(transform)
    expected = re.sub(r"{\w+\.alias}", "of-it", sentence)
    expected = re.sub(r"{\w+}", "17", expected)
    assert evaluated(transform, {"type": type_of(event), "data": data}) == {"text": expected}
    assert evaluated(transform, {"type": "later", "data": {"at": 17}}) == {"text": 'later: {"at":17}'}


def test_slack_is_refused_in_the_queue_of_a_customer(service: Service) -> None:
    service.succeed("queues", "set", "of-acme", "--customer", "acme")
    refused = service.run("listeners", "set", "of-acme", "alerts", "--slack", "http://127.0.0.1:9/hook")
    assert (refused.returncode, "The queue of-acme belongs to the customer acme" in refused.stderr) == (2, True)
    assert service.json("listeners", "list", "of-acme")["listeners"] == []
    # A customer's own endpoint may post to Slack.
    service.succeed("listeners", "set", "of-acme", "app", "--url", "http://127.0.0.1:9/hook")


def test_types_of_a_listener_are_set_and_removed(service: Service) -> None:
    service.succeed("queues", "set", "of-types")
    shown = service.succeed("listeners", "set", "of-types", "app", "--pull", "--types", "order.* invoice.paid")
    kept = service.json("listeners", "set", "of-types", "app", "--filter", "null")["listener"]["types"]
    service.succeed("publish", "of-types", "1", "--type", "order.paid")
    service.succeed("publish", "of-types", "2")
    listed = service.succeed("messages", "list", "of-types")
    refused = service.run("listeners", "set", "of-types", "app", "--types", "order.* a..b")

    assert re.search(r"^types +order\.\* invoice\.paid$", shown, re.MULTILINE)
    assert kept == ["order.*", "invoice.paid"]
    assert re.search(r"^\w{21} +order\.paid +\S+ \S+ +pending +1$", listed, re.MULTILINE)
    assert re.search(r"^\w{21} +\d\S+ \S+ +pending +2$", listed, re.MULTILINE)
    assert (refused.returncode, "--types must be words of visible ASCII" in refused.stderr) == (1, True)
    assert "types" not in service.json("listeners", "set", "of-types", "app", "--types", "")["listener"]


@pytest.mark.parametrize("verb", ["disable", "enable"])
def test_listener_that_is_disabled_must_exist(service: Service, verb: str) -> None:
    service.succeed("queues", "set", "silent")
    result = service.run("listeners", verb, "silent", "nope")

    assert result.returncode == 1
    assert '404 not_found: Listener "nope" not found.' in result.stderr


def test_new_listener_needs_a_url_or_pull(service: Service) -> None:
    service.succeed("queues", "set", "urls")
    result = service.run("listeners", "set", "urls", "z")
    service.succeed("listeners", "set", "urls", "z", "--pull")

    assert (result.returncode, result.stderr) == (2, "discue: There is no listener z yet. Give --url or --pull.\n")
    assert service.json("listeners", "set", "urls", "z")["listener"]["mode"] == "pull"


def test_failed_test_request_says_why_no_response_is_shown(service: Service) -> None:
    service.succeed("queues", "set", "withheld")
    with local_server(lambda _, __: (500, b"secret of this network")) as local:
        service.succeed("listeners", "set", "withheld", "app", "--url", local.url)
        result = service.run("listeners", "test", "withheld", "app")

    assert result.returncode == 1
    assert result.stdout == (
        "failed, status 5xx. Details of requests to private addresses are not shown, unless the operator of the "
        "service sets show_private_responses.\n"
    )


def test_listener_and_delivery_show_why_the_last_attempt_failed(service: Service) -> None:
    service.succeed("queues", "set", "broken")
    url = f"http://127.0.0.1:{free_port()}/"
    service.call("PUT", "/queues/broken/listeners/app", {"notify_url": url, "liveness_url": url})
    message = service.succeed("publish", "broken", "1").strip()
    while not (shown := service.json("listeners", "get", "broken", "app")).get("last_failed_attempt"):
        pass
    text = service.succeed("listeners", "get", "broken", "app")
    delivery = service.succeed("messages", "get", "broken", message)

    assert shown["last_failed_attempt"]["error"] == "connect"
    assert re.search(
        r"^last failure +\d{4}-\d\d-\d\d [0-9:]{8}Z: connect: The details are not shown,", text, re.MULTILINE
    )
    assert re.search(r"^app +retrying +1 +connect +Retry at ", delivery, re.MULTILINE)


def test_message_shows_its_deliveries_and_attempts(service: Service) -> None:
    service.succeed("queues", "set", "tracked")
    with receiving() as receipts:
        service.succeed("listeners", "set", "tracked", "app", "--url", receipts.url)
        message = service.succeed("publish", "tracked", '{"escape": "\\u001b[31m"}').strip()
        receipts.wait_for(1)
        shown = service.json("messages", "get", "tracked", message)
        while shown["message"]["deliveries"][0]["state"] != "acknowledged" or not shown["attempts"]:
            shown = service.json("messages", "get", "tracked", message)
        text = service.succeed("messages", "get", "tracked", message)

    assert "app" in text
    assert "\x1b" not in text
    assert service.json("messages", "missed", "--queue", "tracked") == {"missed": []}
    service.succeed("messages", "delete", "tracked", message)
    assert service.json("messages", "list", "tracked") == {"messages": []}


def test_message_that_every_filter_excludes_is_filtered(service: Service) -> None:
    service.succeed("queues", "set", "filtering")
    url = f"http://127.0.0.1:{free_port()}/"
    service.succeed("listeners", "set", "filtering", "paid", "--url", url, "--filter", '{"data": {"state": "paid"}}')
    message = service.succeed("publish", "filtering", '{"state": "open"}').strip()
    while service.json("messages", "get", "filtering", message)["message"]["deliveries"][0]["state"] != "filtered":
        pass
    excluded = service.succeed("messages", "get", "filtering", message)
    service.succeed("listeners", "set", "filtering", "all", "--pull")
    other = service.succeed("publish", "filtering", '{"state": "open"}').strip()
    waiting = service.succeed("messages", "get", "filtering", other)

    assert re.search(r"^state +filtered$", excluded, re.MULTILINE)
    assert re.search(r"^state +pending$", waiting, re.MULTILINE)


def test_list_tells_null_from_data_that_does_not_fit_the_page(service: Service) -> None:
    service.succeed("queues", "set", "large", "--max-message-bytes", "700000")
    for data in ('"' + "x" * 650_000 + '"', '"' + "y" * 650_000 + '"', "null"):
        service.succeed("publish", "large", data)
    null, second, first = service.succeed("messages", "list", "large").splitlines()[1:]

    assert null.endswith(" null")
    assert " yyy" in second
    assert first.endswith(" not listed: 650,000 bytes")


def test_missed_messages_name_their_queue_and_listener(service: Service) -> None:
    service.succeed("queues", "set", "lost")
    url = f"http://127.0.0.1:{free_port()}/"
    service.call("PUT", "/queues/lost/listeners/app", {"notify_url": url, "retry": {"attempts": 1}})
    message = service.succeed("publish", "lost", "1").strip()
    while not service.json("messages", "missed", "--queue", "lost")["missed"]:
        pass
    cause = "no connection"
    row = rf"^{message} +lost +app +\d.*Z +attempts_used_up +1 +{cause}$"

    assert re.search(row, service.succeed("messages", "missed"), re.MULTILINE)
    assert re.search(rf"^lost +app .* {cause}$", service.succeed("listeners", "list", "lost"), re.MULTILINE)


def test_api_sends_any_request(service: Service) -> None:
    made = json.loads(service.succeed("api", "put", "queues/raw", "--data", '{"ordered": true}'))["queue"]
    found = json.loads(service.succeed("api", "GET", f"/queues/{made['id']}"))

    assert found["queue"]["ordered"] is True
    assert service.run("api", "GET", "/nothing").returncode == 1
