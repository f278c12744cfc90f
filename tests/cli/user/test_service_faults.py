"""A service that fails, and Ctrl-C meanwhile: what commands print, and their exit codes."""

import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from discue.cli.user import command
from tests.cli.commands import PATIENCE_SECONDS, running
from tests.cli.user.service import Service
from tests.support.authority import server_context

COMMANDS = pytest.mark.parametrize(
    "arguments",
    [
        ("publish", "orders", "1"),
        ("queues", "list"),
        ("listen", "8000", "--queue", "orders"),
        ("tail", "orders"),
        ("trigger", "orders"),
        ("redeliver", "orders", "billing", "--all"),
        ("replay", "orders", "billing", "--follow", "0VcBYDfg01U6wYxizBART"),
        ("apply", "-f", "discue.yaml"),
    ],
    ids=lambda arguments: arguments[0],
)
"""Commands that talk to a service, each in its own way."""


@pytest.fixture(autouse=True)
def _file(service: Service) -> None:
    (service.folder / "discue.yaml").write_text("queues:\n  orders: {}\n")


@contextmanager
def responding(content: bytes, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server that sends these bytes on each connection. Yields its URL."""

    def respond() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with suppress(OSError), connection:
                    if tls is None:
                        connection.recv(65_536)
                        connection.sendall(content)
                    else:
                        tls.wrap_socket(connection, server_side=True)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=respond)
        thread.start()
        try:
            yield f"{'http' if tls is None else 'https'}://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def failed(service: Service, url: str, arguments: tuple[str, ...]) -> str:
    """Run a command that must find no service, and return the line that it prints."""
    result = service.run(*arguments, DISCUE_URL=url)
    assert (result.returncode, result.stderr.count("\n")) == (5, 1), result.stderr
    return result.stderr


@COMMANDS
def test_page_of_another_server_is_named(service: Service, arguments: tuple[str, ...]) -> None:
    page = b"HTTP/1.1 404 Not Found\r\ncontent-length: 15\r\nconnection: close\r\n\r\n<html>Hi</html>"
    with responding(page) as url:
        line = failed(service, url, arguments)

    assert "404 from something other than discue: <html>Hi</html>" in line
    assert "Check the URL: `discue whoami --offline` shows it and where it comes from." in line


@COMMANDS
def test_certificate_that_is_not_trusted_is_named_at_once(service: Service, arguments: tuple[str, ...]) -> None:
    with responding(b"", tls=server_context("127.0.0.1", is_trusted=False)) as url:
        line = failed(service, url, arguments)

    assert f"no response from {url}: its certificate is not valid: unable to get local issuer certificate. " in line
    assert line.endswith("Set SSL_CERT_FILE to a file with the issuers to trust.\n")


@COMMANDS
def test_port_without_tls_is_named_at_once(service: Service, arguments: tuple[str, ...]) -> None:
    with responding(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        line = failed(service, url.replace("http:", "https:"), arguments)

    assert ": it does not speak TLS at this port: use http:// or another port. " in line


def test_service_that_is_slow_is_named(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_DEADLINE_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        line = failed(service, f"http://127.0.0.1:{silent.getsockname()[1]}", ("queues", "list"))

    assert "within 0.05 s. Try again, or check the service: it may be overloaded." in line


@COMMANDS
def test_interrupt_ends_a_command_that_waits_for_the_service(service: Service, arguments: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(PATIENCE_SECONDS)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with running(service.folder, *arguments, DISCUE_URL=url) as process:
            connection, _ = silent.accept()
            with connection:
                process.signal(signal.SIGINT)
                code = process.ended()

    assert code == (0 if arguments[0] in {"listen", "tail"} else 1)
    assert ("It goes on without this command" in process.log.text) is ("--follow" in arguments)
    assert "Traceback" not in process.log.text
