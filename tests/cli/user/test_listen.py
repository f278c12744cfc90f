"""`discue listen`: requests, limits, output and ends."""

import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import httpx
import pytest

from discue.cli.user.listen import listener_name
from discue_client import Webhook
from tests.cli.commands import PATIENCE_SECONDS, REPOSITORY, Running, running
from tests.cli.user.local_server import Held, local_server
from tests.cli.user.service import Service
from tests.support.ports import free_port

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"


@contextmanager
def listening(service: Service, *arguments: str, **variables: str) -> Iterator[Running]:
    """`discue listen` in a process of its own, once it forwards."""
    with running(service.folder, "listen", *arguments, **variables) as process:
        process.log.wait_for(r"Forwarding .*\n")
        yield process


def queue_named(service: Service, name: str) -> str:
    service.call("PUT", f"/queues/{name}", {})
    return name


def publish(service: Service, queue: str, data: object = 1, **fields: object) -> str:
    message: str = service.call("POST", f"/queues/{queue}/messages", {"data": data, **fields})["message"]["id"]
    return message


def listeners_of(service: Service, queue: str) -> list[dict[str, object]]:
    listed: list[dict[str, object]] = service.call("GET", f"/queues/{queue}/listeners")["listeners"]
    return listed


def test_message_is_forwarded_as_the_service_would_send_it(service: Service) -> None:
    queue = queue_named(service, "signed")
    with local_server() as local:
        arguments = (local.url, "--queue", queue, "--secret", SECRET, "--count", "1", "--header", "X-Mine: yes")
        with listening(service, *arguments) as process:
            headers = {"x-shop": "north", "traceparent": TRACEPARENT}
            message = publish(service, queue, {"total": 1.10}, key="k", headers=headers)
            code = process.ended()
    (received,) = local.received
    event = Webhook(SECRET).unwrap(received.body, received.headers)

    assert code == 0
    assert (event.id, event.data, received.path) == (message, {"total": 1.1}, "/hook")
    assert received.headers["content-type"] == "application/json"
    assert (received.headers["discue-attempt"], received.headers["x-shop"]) == ("1", "north")
    assert received.headers["x-mine"] == "yes"
    assert received.headers["traceparent"][:36] == TRACEPARENT[:36]
    assert event.sequence == 1
    assert {"discue-queue", "discue-listener"} <= received.headers.keys()
    assert re.fullmatch(rf"\d\d:\d\d:\d\d {message} signed key k  204 No Content  \d+ ms  13 bytes\n", process.out.text)
    assert listeners_of(service, queue) == []


def test_output_is_that_of_the_page(service: Service) -> None:
    page = (REPOSITORY / "docs" / "listen.md").read_text()
    (shown,) = re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    queue = queue_named(service, "orders")
    responses = iter([(204, b""), (500, b"KeyError: 'total'\n")])
    with (
        local_server(lambda *_: next(responses)) as local,
        listening(service, local.url, "--queue", queue, "--count", "2") as process,
    ):
        for number in (1, 2):
            service.succeed("publish", queue, '{"order": 17}')
            process.out.wait_for_count("bytes", number)
        process.ended()
    first = process.log.text.splitlines()[0].replace(local.url, "http://localhost:8000/hook")
    changing = r"\d\d:\d\d:\d\d|\b\w{21}\b|\d+ ms"

    assert re.sub(changing, "", f"{first}\n{process.out.text}") == re.sub(changing, "", shown)


def test_refused_message_is_not_acknowledged_and_comes_again(service: Service) -> None:
    queue = queue_named(service, "refused")
    with local_server(lambda *_: (500, b"\nKeyError: 'order'\nmore")) as local:
        arguments = (local.url, "--queue", queue, "--count", "1", "--keep", "--output", "json")
        with listening(service, *arguments) as process:
            message = publish(service, queue)
            code = process.ended()
    (listener,) = listeners_of(service, queue)
    line = json.loads(process.out.text)

    assert code == 1
    assert (line["message_id"], line["accepted"], line["status"]) == (message, False, 500)
    assert line["reason"] == "KeyError: 'order'"
    assert listener["messages"]["acknowledged_count"] == 0  # type: ignore[index]
    assert listener["messages"]["pending_count"] == 1  # type: ignore[index]


def test_message_comes_again_after_the_time_that_the_local_server_asks_for(service: Service) -> None:
    queue = queue_named(service, "later")
    busy = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n"
    with local_server(raw=busy) as local:
        arguments = (local.url, "--queue", queue, "--count", "1", "--keep")
        with listening(service, *arguments) as process:
            message = publish(service, queue)
            code = process.ended()
    (delivery,) = service.call("GET", f"/queues/{queue}/messages/{message}/deliveries")["deliveries"]
    (listener,) = listeners_of(service, queue)

    assert code == 1
    due = re.fullmatch(r"Can be pulled at (.+), or soon after\.", delivery["waits_for"])
    assert due is not None
    assert 3_500 < datetime.fromisoformat(due[1]).timestamp() - time.time() < 3_700
    assert delivery["attempts"] == 0
    assert listener["messages"]["pending_count"] == 1  # type: ignore[index]


@pytest.mark.parametrize("since", [(), ("--since", "1h")], ids=["new message", "message of the past"])
def test_local_server_that_is_gone_ends_the_command(service: Service, since: tuple[str, ...]) -> None:
    queue = queue_named(service, "gone-since" if since else "gone")
    before = [publish(service, queue) for _ in range(2 * bool(since))]
    held = Held(410)
    with (
        local_server(held) as local,
        listening(service, local.url, "--queue", queue, *since, "--concurrency", "1") as process,
    ):
        messages = [*before, publish(service, queue), publish(service, queue)]
        held.release()
        code = process.ended()

    assert code == 1
    assert [each.id for each in local.received] == messages[:1]
    assert f"Stopped for 410 Gone: the service would now disable the listener of {queue}" in process.log.text
    assert f"{queue}: 2 messages were waiting. `--since 1h` forwards" in process.log.text
    assert listeners_of(service, queue) == []


def test_messages_wait_while_the_local_server_is_away(service: Service) -> None:
    queue, port = queue_named(service, "away"), free_port()
    with listening(service, f"http://127.0.0.1:{port}/", "--queue", queue, "--count", "3") as process:
        messages = [publish(service, queue) for _ in range(3)]
        process.log.wait_for(r"is away \(The connection was refused\)\. Messages wait; none is lost\.")
        with local_server(port=port) as local:
            code = process.ended()

    assert code == 0
    assert sorted(local.accepted) == sorted(messages)
    # Waiting used up no attempt, and was said once.
    assert {each.headers["discue-attempt"] for each in local.received} == {"1"}
    assert process.log.text.count("is away") == process.log.text.count("is back") == 1


def test_queues_are_filtered_and_begin_in_the_past(service: Service) -> None:
    first, second = queue_named(service, "past-1"), queue_named(service, "past-2")
    earlier = [publish(service, first, {"n": n}) for n in (1, 2, 3)]
    publish(service, second, {"n": 1})
    number = '{"data": {"n": {"$gte": 2}}}'
    with local_server() as local:
        arguments = ("--queue", first, "--queue", second, "--filter", number, "--since", "1h", "--count", "3")
        with listening(service, local.url, *arguments) as process:
            publish(service, second, {"n": 0})
            later = publish(service, second, {"n": 9})
            code = process.ended()

    assert code == 0
    assert sorted(local.accepted) == sorted([*earlier[1:], later])
    assert [each for each in local.accepted if each in earlier] == earlier[1:]


def test_types_choose_messages_of_the_past_and_new_ones(service: Service) -> None:
    queue = queue_named(service, "typed-events")
    types = ("order.paid", "order.sent", "invoice.paid", None)
    sent = [{"data": n, **({"type": each} if each else {})} for n, each in enumerate(types)]
    service.call("POST", f"/queues/{queue}/messages/batch", {"messages": sent})
    with local_server() as local:
        arguments = ("--queue", queue, "--types", "order.sent invoice.*", "--since", "1h", "--count", "4")
        with listening(service, local.url, *arguments) as process:
            process.log.wait_for(r"of the types order\.sent invoice\.\*")
            service.call("POST", f"/queues/{queue}/messages/batch", {"messages": sent})
            code = process.ended()

    assert code == 0
    assert sorted(int(each.body) for each in local.received) == [1, 1, 2, 2]


def test_past_of_several_pages_comes_in_order(service: Service) -> None:
    queue = queue_named(service, "pages")
    messages = [{"data": number} for number in range(201)]
    service.call("POST", f"/queues/{queue}/messages/batch", {"messages": messages})
    with local_server() as local:
        code = service.run("listen", local.url, "--queue", queue, "--since", "1h", "--count", "201").returncode

    assert code == 0
    assert [int(each.body) for each in local.received] == list(range(201))
    assert [int(each.headers["discue-sequence"]) for each in local.received] == list(range(1, 202))


def test_data_of_the_past_is_forwarded_byte_for_byte(service: Service) -> None:
    queue = queue_named(service, "bytes")
    for body in (b'{"data": {"n": 12345678901234567890.10}}', b'{"data": "text"}', b'{"data_base64": "AAE="}'):
        headers = {"x-api-key": service.key, "content-type": "application/json"}
        assert httpx.post(f"{service.url}/queues/{queue}/messages", content=body, headers=headers).is_success
    with local_server() as local:
        code = service.run("listen", local.url, "--queue", queue, "--since", "1h", "--count", "3").returncode

    assert code == 0
    assert [(each.body, each.headers["content-type"]) for each in local.received] == [
        (b'{"n": 12345678901234567890.10}', "application/json"),
        (b"text", "text/plain; charset=utf-8"),
        (b"\x00\x01", "application/octet-stream"),
    ]


def test_secret_is_made_once_and_printed_on_request(service: Service) -> None:
    queue = queue_named(service, "secret")
    with local_server() as local:
        first = service.run("listen", local.url, "--queue", queue, "--for", "0.1s")
        second = service.run("listen", local.url, "--queue", queue, "--for", "0.1s")
    secret = service.succeed("listen", "--print-secret").strip()
    path = service.folder / "configuration" / "discue" / "listen-secret"

    assert f"export DISCUE_WEBHOOK_SECRET={secret}\n" in first.stderr
    assert secret not in second.stderr
    assert path.stat().st_mode & 0o777 == 0o600
    assert service.succeed("listen", "--print-secret", DISCUE_WEBHOOK_SECRET=SECRET).strip() == SECRET


def test_expected_number_of_messages_that_do_not_come_is_a_failure(service: Service) -> None:
    queue = queue_named(service, "too-few")
    with local_server() as local:
        result = service.run("listen", local.url, "--queue", queue, "--count", "2", "--for", "0.1s")

    assert result.returncode == 1
    assert "2 of 2 messages did not come in time." in result.stderr


def test_run_with_a_time_and_no_message_is_a_failure(service: Service) -> None:
    queue = queue_named(service, "none-in-time")
    with local_server() as local:
        nothing = service.run("listen", local.url, "--queue", queue, "--for", "0.1s")
        publish(service, queue, "one")
        one = service.run("listen", local.url, "--queue", queue, "--since", "1h", "--for", "1s")

    assert (nothing.returncode, one.returncode) == (1, 0)
    assert "No message came in time." in nothing.stderr
    assert "in time" not in one.stderr


@pytest.mark.parametrize("limits", [(), ("--count", "1")], ids=["time", "count and time"])
def test_message_that_waits_for_the_local_server_has_come(service: Service, limits: tuple[str, ...]) -> None:
    queue = queue_named(service, f"server-away-{len(limits)}")
    publish(service, queue, "one")
    with local_server() as local:
        address = local.url
    result = service.run("listen", address, "--queue", queue, "--since", "1h", "--for", "1s", *limits)

    assert result.returncode == 1
    assert "is away" in result.stderr
    assert "come in time." not in result.stderr
    assert "The local server did not respond to 1 message in time." in result.stderr


def test_quiet_output_shows_refusals_only(service: Service) -> None:
    queue = queue_named(service, "quiet")
    publish(service, queue, "good")
    bad = publish(service, queue, "bad")
    with local_server(lambda _, body: (422, b"no") if body == b"bad" else (200, b"")) as local:
        arguments = ("--queue", queue, "--since", "1h", "--count", "2", "--output", "quiet")
        result = service.run("listen", local.url, *arguments)

    assert result.stdout == ""
    assert [line for line in result.stderr.splitlines() if " bytes" in line] == [
        line for line in result.stderr.splitlines() if bad in line
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_signal_removes_the_listener(service: Service, number: signal.Signals) -> None:
    queue, port = queue_named(service, f"signal-{number.name}"), free_port()
    with listening(service, f"http://127.0.0.1:{port}/", "--queue", queue) as process:
        publish(service, queue)
        process.log.wait_for("is away")
        process.signal(number)
        code = process.ended()

    assert code == 0
    assert listeners_of(service, queue) == []
    assert "1 message was waiting. `--since 1h` forwards" in process.log.text


def test_listener_of_a_lost_service_is_named(service: Service) -> None:
    folder = service.folder / "other"
    folder.mkdir()
    with running(folder, "serve", "--port", "0") as server:
        other = Service(server.url, server.key, folder, service.request)
        queue = queue_named(other, "orders")
        variables = {"DISCUE_URL": server.url, "DISCUE_API_KEY": server.key}
        with local_server() as local, listening(service, local.url, "--queue", queue, **variables) as process:
            server.process.kill()
            server.ended()
            process.log.wait_for("Messages cannot be fetched; trying again")
            process.signal(signal.SIGINT)
            code = process.ended()

    assert code == 1
    name = listener_name(local.url)
    assert f"The listener {name} of the queue orders is still there" in process.log.text
    assert f"`discue listeners delete orders {name}`" in process.log.text


def test_revoked_key_and_removed_listener_end_the_command(service: Service) -> None:
    queue = queue_named(service, "ended")
    made = service.call("POST", "/api_keys", {})["api_key"]
    with local_server() as local:
        with listening(service, local.url, "--queue", queue, DISCUE_API_KEY=made["key"]) as process:
            service.call("DELETE", f"/api_keys/{made['id']}")
            revoked = process.ended()
        assert "is still there" in process.log.text
        with listening(service, local.url, "--queue", queue) as other:
            (listener,) = listeners_of(service, queue)
            service.call("DELETE", f"/queues/{queue}/listeners/{listener['id']}")
            removed = other.ended()

    assert (revoked, removed) == (4, 1)
    assert "404 not_found" in other.log.text
    assert "Traceback" not in process.log.text + other.log.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("listen",), "The URL of the local server is missing"),
        (("listen", "8000"), "Name the queues with --queue"),
        (("listen", "8000"), "Name the queues with --queue, or take all of them with --all."),
        (("listen", "8000", "--all", "--queue", "q"), "Give either --queue or --all, not both."),
        (("listen", "https://example.com/", "--queue", "q"), "example.com is another machine. Add --allow-remote"),
        (("listen", "https://93.184.216.34/", "--queue", "q"), "is another machine"),
        (("listen", "ftp://localhost", "--queue", "q"), "must be an absolute http or https URL"),
        (("listen", "8000", "--queue", "q", "--secret", "whpk_x"), "--secret cannot sign"),
        (("listen", "8000", "--queue", "q", "--filter", "{"), "The filter is not JSON"),
        (("listen", "8000", "--queue", "q", "--cacert", "none.pem"), "Cannot use the certificates in none.pem"),
    ],
    ids=lambda given: " ".join(given[1:]) if isinstance(given, tuple) else "",
)
def test_wrong_usage_of_listen_is_explained(service: Service, arguments: tuple[str, ...], message: str) -> None:
    result = service.run(*arguments)

    assert result.returncode == 2
    assert message in result.stderr


def test_interrupt_ends_a_run_that_waits_for_the_service(service: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(PATIENCE_SECONDS)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with running(service.folder, "listen", "8000", "--queue", "q", DISCUE_URL=url) as process:
            connection, _ = silent.accept()
            with connection:
                process.signal(signal.SIGINT)
                assert process.ended() == 0
    assert process.log.text == ""


def test_missing_queue_is_named_with_the_way_to_create_it(service: Service) -> None:
    result = service.run("listen", "8000", "--queue", "nowhere")

    assert result.returncode == 1
    assert "Queue nowhere not found. Create it with `discue queues set nowhere`." in result.stderr
