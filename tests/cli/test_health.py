import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.commands import environment, run, serving
from tests.cli.user.local_server import local_server
from tests.support.ports import free_port


@contextmanager
def answering(response: bytes) -> Iterator[str]:
    """A server of one response, that is then silent until the client closes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(response)
                if response:
                    connection.shutdown(socket.SHUT_WR)
                connection.recv(65_536)

        answered = threading.Thread(target=answer)
        answered.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        answered.join()


@pytest.mark.parametrize("flags", [(), ("--live",)])
def test_health_of_a_server_that_serves_is_0_and_prints_nothing(tmp_path: Path, flags: tuple[str, ...]) -> None:
    with serving(tmp_path) as server:
        result = run(tmp_path, "health", server.url, *flags)

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_health_without_a_url_asks_the_address_of_the_settings(tmp_path: Path) -> None:
    with serving(tmp_path, "--tls-self-signed") as server:
        port = server.url.rpartition(":")[2]
        (tmp_path / "discue.toml").write_text(f"host = '0.0.0.0'\nport = {port}\ntls_self_signed = true\n")

        # An empty variable is none: the file decides about the port.
        assert run(tmp_path, "health", "--config", "discue.toml", DISCUE_PORT="").returncode == 0
        in_the_clear = run(tmp_path, "health", DISCUE_PORT=port)
        assert in_the_clear.returncode == 1


def test_health_without_a_server_is_1_and_says_why(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"

    result = run(tmp_path, "health", url)

    assert (result.returncode, result.stderr) == (1, f"discue: {url} does not respond: Connection refused.\n")


def test_health_of_a_server_that_drains_is_1_with_its_reason(tmp_path: Path) -> None:
    body = b'{"title": "Service Unavailable", "detail": "The service is draining."}'
    with answering(b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\r\n" + body) as url:
        result = run(tmp_path, "health", url)

    assert (result.returncode, result.stderr) == (1, f"discue: {url} is not ready: The service is draining.\n")


@pytest.mark.parametrize(
    "response", [b"HTTP/1.1 200 OK\r\n\r\nhello", b"220 mail\r\n", b'HTTP/1.1 200 OK\r\n\r\n["x"]']
)
def test_health_of_another_program_is_1(tmp_path: Path, response: bytes) -> None:
    with answering(response) as url:
        result = run(tmp_path, "health", url)

    assert (result.returncode, result.stderr) == (1, f"discue: Something other than discue responds at {url}.\n")


def test_health_of_a_port_without_tls_says_so(tmp_path: Path) -> None:
    with local_server() as local:
        url = local.url.replace("http:", "https:")
        result = run(tmp_path, "health", url)

    problem = "the server does not speak TLS at this port: the URL needs http:// or another port"
    assert (result.returncode, result.stderr) == (1, f"discue: {url} does not respond: {problem}.\n")


def test_health_gives_up_on_a_silent_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discue.cli.health._TIMEOUT_SECONDS", 0.05)
    with answering(b"") as url:
        result = run(tmp_path, "health", url)

    assert (result.returncode, result.stderr) == (1, f"discue: {url} does not respond: no response within 3 seconds.\n")


@pytest.mark.parametrize("url", ["127.0.0.1:3000", "ftp://host", "http://", "http://host:x", "http://[::1"])
def test_health_refuses_an_invalid_url(tmp_path: Path, url: str) -> None:
    result = run(tmp_path, "health", url)

    assert result.returncode == 2
    assert f"{url!r} is not a URL" in result.stderr


def test_health_names_invalid_settings(tmp_path: Path) -> None:
    result = run(tmp_path, "health", DISCUE_PORT="many")

    assert result.returncode == 1
    assert "DISCUE_PORT: invalid value 'many'" in result.stderr


def test_health_imports_little(tmp_path: Path) -> None:
    """`make bench` measures how long it takes: 150 ms at most."""
    heavy = ["asyncio", "discue.config.settings", "discue_client", "http.client", "msgspec", "ssl"]
    program = (
        "import sys; from discue.cli.main import main; code = main(sys.argv[1:]); "
        f"assert not sys.modules.keys() & {set(heavy)}, sys.modules.keys() & {set(heavy)}; sys.exit(code)"
    )
    with serving(tmp_path) as server:
        subprocess.run([sys.executable, "-c", program, "health", server.url], env=environment(), check=True)
