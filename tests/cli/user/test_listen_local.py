"""Local servers that fail in the middle of a request of `discue listen`."""

import json
import signal
from pathlib import Path

import pytest

from tests.cli.user.local_server import Held, LocalServer, local_server
from tests.cli.user.service import Service
from tests.cli.user.test_listen import listeners_of, listening, publish, queue_named
from tests.support.authority import authority_file, server_context


def forwarded(service: Service, queue: str, local: LocalServer, *options: str) -> tuple[int, dict[str, object]]:
    """Forward a message, and return the exit code and what is printed about the request."""
    arguments = (local.url, "--queue", queue, "--count", "1", "--keep", "--output", "json", *options)
    with listening(service, *arguments) as process:
        publish(service, queue)
        code = process.ended()
    line: dict[str, object] = json.loads(process.out.text)
    return code, line


def assert_kept(service: Service, queue: str) -> None:
    (listener,) = listeners_of(service, queue)
    messages = listener["messages"]
    assert isinstance(messages, dict)
    assert (messages["acknowledged_count"], messages["pending_count"]) == (0, 1)


@pytest.mark.parametrize(
    ("raw", "error", "reason"),
    [
        (b"", "reset", "The connection was closed before the response."),
        (b"SSH-2.0-OpenSSH\r\n", "protocol", "The response is not valid HTTP."),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
            "reset",
            "The connection was closed in the middle of the response.",
        ),
    ],
    ids=["closed", "garbage", "half"],
)
def test_broken_response_is_named_and_the_message_kept(service: Service, raw: bytes, error: str, reason: str) -> None:
    queue = queue_named(service, f"broken-{len(raw)}")
    with local_server(raw=raw) as local:
        code, line = forwarded(service, queue, local)

    assert (code, line["accepted"], line["error"]) == (1, False, error)
    assert line["reason"] == reason
    assert_kept(service, queue)


def test_slow_local_server_is_left_after_the_timeout(service: Service) -> None:
    queue, held = queue_named(service, "slow"), Held()
    with local_server(held) as local:
        code, line = forwarded(service, queue, local, "--timeout", "0.2s")
        held.release()

    assert (code, line["error"], line["status"]) == (1, "timeout", 0)
    assert line["reason"] == "No complete response within 200 ms."
    assert_kept(service, queue)


def test_certificate_of_the_local_server_must_be_trusted_or_given(service: Service, tmp_path: Path) -> None:
    queue = queue_named(service, "tls")
    with local_server(tls=server_context("127.0.0.1")) as local:
        code, line = forwarded(service, queue, local)
        assert (code, line["error"]) == (1, "tls")
        assert "certificate" in str(line["reason"])
        assert_kept(service, queue)
        trusted = forwarded(service, queue, local, "--cacert", str(authority_file(tmp_path)))
        unchecked = forwarded(service, queue, local, "--insecure")

    assert (trusted[0], trusted[1]["status"], unchecked[0], unchecked[1]["status"]) == (0, 204, 0, 204)


def test_interrupt_waits_for_the_response_of_the_local_server(service: Service) -> None:
    queue, held = queue_named(service, "interrupted"), Held()
    with local_server(held) as local, listening(service, local.url, "--queue", queue, "--keep") as process:
        message = publish(service, queue)
        local.wait_for(lambda: local.arrived == [message])
        process.signal(signal.SIGINT)
        held.release()
        code = process.ended()
    (listener,) = listeners_of(service, queue)

    assert code == 0
    assert f"{message} {queue}  204 No Content" in process.out.text
    assert listener["messages"]["acknowledged_count"] == 1  # type: ignore[index]


@pytest.mark.torture
def test_held_request_does_not_delay_the_end(service: Service) -> None:
    queue, held = queue_named(service, "debugger"), Held()
    arguments = ("--queue", queue, "--keep", "--timeout", "1h")
    with local_server(held) as local, listening(service, local.url, *arguments) as process:
        message = publish(service, queue)
        local.wait_for(lambda: local.arrived == [message])
        process.signal(signal.SIGINT)
        code = process.ended()
        held.release()

    assert code == 0
    assert_kept(service, queue)
