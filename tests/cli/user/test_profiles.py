"""The service and the key that commands use, and `login` and `whoami`."""

import getpass
import io
import json
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from discue.cli.user import profiles
from tests.cli.commands import run
from tests.cli.user.service import Service
from tests.support.ports import free_port


def log_in(service: Service, monkeypatch: pytest.MonkeyPatch, *arguments: str, key: str = "") -> str:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{key or service.key}\n"))
    return service.succeed("login", "--url", service.url, "--key-stdin", *arguments)


def without_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISCUE_URL")
    monkeypatch.delenv("DISCUE_API_KEY")


def test_stored_profile_is_private_and_used(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = log_in(service, monkeypatch)
    without_environment(monkeypatch)
    path = service.folder / "configuration" / "discue" / "profiles.json"

    assert service.key not in printed
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    shown = service.json("whoami")
    assert (shown["url"], shown["url_source"], shown["key"]) == (service.url, "profile default", service.key[:12] + "…")
    assert shown["scopes"]["queues"] == "write"


def test_named_profile_wins_over_the_environment(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(service, monkeypatch, "--profile", "test")
    monkeypatch.setenv("DISCUE_URL", "http://127.0.0.1:9")

    assert "profile test" in service.succeed("whoami", "--profile", "test")


def test_stored_key_is_not_sent_to_another_url(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(service, monkeypatch)
    monkeypatch.delenv("DISCUE_API_KEY")
    monkeypatch.setenv("DISCUE_URL", "https://elsewhere.example")
    result = service.run("whoami", "--offline")

    assert result.returncode == 4
    assert "the stored key belongs to" in result.stderr
    monkeypatch.setenv("DISCUE_URL", f"{service.url}/")
    assert service.succeed("whoami", "--offline")


def test_key_that_the_service_refuses_is_not_stored(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("dsk_wrong\n"))
    result = service.run("login", "--url", service.url, "--key-stdin")

    assert result.returncode == 4
    assert "401 key_unknown" in result.stderr
    assert result.stderr.endswith("Nothing is stored: correct the URL or the key, and try again.\n")
    assert not (service.folder / "configuration").exists()


def test_key_without_access_to_limits_can_log_in(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    key = service.call("POST", "/api_keys", {"scopes": {"messages": {"access": "write"}}})["api_key"]["key"]
    log_in(service, monkeypatch, key=key)
    without_environment(monkeypatch)

    assert set(service.json("whoami")) == {"url", "url_source", "key", "key_source"}


def test_removed_profile_is_gone(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(service, monkeypatch)
    service.succeed("login", "--remove")
    without_environment(monkeypatch)
    result = service.run("queues", "list")

    assert result.returncode == 4
    assert (
        "Run `discue login`, or set DISCUE_URL and DISCUE_API_KEY, or go to the folder that `discue dev`"
        in result.stderr
    )
    assert "There is no profile default." in service.run("login", "--remove").stderr


def test_unknown_profile_and_damaged_file_are_wrong_usage(service: Service) -> None:
    unknown = service.run("whoami", "--profile", "nowhere")
    path = service.folder / "configuration" / "discue" / "profiles.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"profiles": [')
    damaged = service.run("whoami", "--profile", "nowhere")

    assert (unknown.returncode, damaged.returncode) == (2, 2)
    assert "Stored: none. Run `discue login --profile nowhere` to store it." in unknown.stderr
    assert "Correct the file, or delete it and log in again." in damaged.stderr


def test_user_without_a_home_folder_is_told_what_to_set(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError

    without_environment(monkeypatch)
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    result = service.run("queues", "list")

    assert result.returncode == 2
    assert "Set XDG_CONFIG_HOME to a folder that can be used." in result.stderr


class _Refused(Exception):
    pass


def keyring_of(kept: dict[tuple[str, str], str], *, is_locked: bool = False) -> ModuleType:
    def keep(name: str, user: str, key: str) -> None:
        if is_locked:
            raise _Refused("locked")
        kept[name, user] = key

    module = ModuleType("keyring")
    found = {
        "set_password": keep,
        "get_password": lambda name, user: kept.get((name, user)),
        "delete_password": lambda name, user: kept.pop((name, user)),
        "errors": SimpleNamespace(KeyringError=_Refused),
    }
    module.__dict__.update(found)
    return module


def test_key_is_in_the_keyring_where_there_is_one(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[tuple[str, str], str] = {}
    monkeypatch.setitem(sys.modules, "keyring", keyring_of(kept))
    assert "its key is in the keyring" in log_in(service, monkeypatch)
    without_environment(monkeypatch)

    assert service.key not in profiles.profiles_path().read_text()
    assert service.json("whoami")["key_source"] == "keyring, profile default"
    service.succeed("login", "--remove")
    assert kept == {}


def test_key_is_in_the_file_if_the_keyring_refuses_it(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", keyring_of({}, is_locked=True))
    log_in(service, monkeypatch)

    assert json.loads(profiles.profiles_path().read_text())["profiles"]["default"]["api_key"] == service.key


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([], "Nothing was entered. Without a terminal, give --url."),
        ([""], "The URL of the service is empty."),
        (["http://127.0.0.1:3000"], "Nothing was entered. Without a terminal, give --key-stdin."),
        (["http://127.0.0.1:3000", " "], "The API key is empty."),
    ],
)
def test_login_with_nothing_entered_is_wrong_usage(
    service: Service, monkeypatch: pytest.MonkeyPatch, answers: list[str], message: str
) -> None:
    def answer(_: str) -> str:
        if not answers:
            raise EOFError
        return answers.pop(0)

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr(getpass, "getpass", answer)
    result = service.run("login")

    assert (result.returncode, result.stderr) == (2, f"discue: {message}\n")


def test_login_without_a_terminal_names_the_missing_flag(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())

    assert "--url is missing" in service.run("login").stderr
    assert "--key-stdin is missing" in service.run("login", "--url", service.url).stderr


def test_server_of_discue_dev_in_the_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DISCUE_URL", raising=False)
    monkeypatch.delenv("DISCUE_API_KEY", raising=False)
    (tmp_path / ".discue").mkdir()
    (tmp_path / ".discue" / "key").write_text("dsk_key\n")
    (tmp_path / ".discue" / "url").write_text("http://127.0.0.1:3000\n")

    shown = json.loads(run(tmp_path, "whoami", "--offline", "--json").stdout)
    assert (shown["url"], shown["key"]) == ("http://127.0.0.1:3000", "dsk_key…")
    assert shown["url_source"] == f"`discue dev` in {tmp_path}"


def test_profile_that_hides_discue_dev_is_named(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DISCUE_URL", raising=False)
    monkeypatch.delenv("DISCUE_API_KEY", raising=False)
    (tmp_path / "discue").mkdir()
    revoked = {"url": service.url, "api_key": f"{service.key[:-4]}0000"}
    (tmp_path / "discue" / "profiles.json").write_text(json.dumps({"profiles": {"default": revoked}}))
    (tmp_path / ".discue").mkdir()
    (tmp_path / ".discue" / "key").write_text("dsk_key\n")
    (tmp_path / ".discue" / "url").write_text("http://127.0.0.1:3000\n")
    hidden = f"The server of `discue dev` in {tmp_path} is not used: profile default wins over it."

    assert run(tmp_path, "whoami", "--offline").stderr == f"{hidden}\n"
    for command in (["queues", "list"], ["listen", "8000", "--all"]):
        refused = run(tmp_path, *command)
        assert refused.returncode == 4
        assert "The URL comes from profile default, and the key from profile default. " + hidden in refused.stderr


@pytest.mark.parametrize("url", ["http://127.0.0.1:3000", "http://example.com:3000", "http://127.0.0.1:3@example.com"])
def test_folder_of_somebody_else_gets_no_key_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DISCUE_URL", raising=False)
    monkeypatch.setenv("DISCUE_API_KEY", "dsk_mine")
    (tmp_path / ".discue").mkdir()
    (tmp_path / ".discue" / "key").write_text("dsk_key\n")
    (tmp_path / ".discue" / "url").write_text(f"{url}\n")

    refused = run(tmp_path, "whoami", "--offline", "--json")
    assert refused.returncode == 4
    assert "DISCUE_URL" in refused.stderr
    assert "dsk_mine" not in refused.stdout + refused.stderr


@pytest.mark.parametrize("url", ["http://example.com:3000", "http://127.0.0.1:3@example.com", "http://["])
def test_url_of_a_folder_is_used_only_if_it_is_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DISCUE_URL", raising=False)
    monkeypatch.delenv("DISCUE_API_KEY", raising=False)
    (tmp_path / ".discue").mkdir()
    (tmp_path / ".discue" / "key").write_text("dsk_key\n")
    (tmp_path / ".discue" / "url").write_text(f"{url}\n")
    assert run(tmp_path, "whoami", "--offline").returncode == 4


@contextmanager
def responding(content: bytes) -> Iterator[str]:
    """A server that responds to a request with these bytes. Yields its URL."""

    def respond() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(content)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=respond)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


def test_server_that_is_no_discue_is_named_with_a_way_out(service: Service) -> None:
    page = b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\nconnection: close\r\n\r\n<html>Hi</html>"
    with responding(page) as url:
        result = service.run("queues", "list", DISCUE_URL=url)

    assert result.returncode == 5
    assert "the response cannot be read" in result.stderr
    assert "Check the URL: `discue whoami --offline` shows it and where it comes from." in result.stderr
    assert result.stderr.count("\n") == 1


def test_service_without_tls_is_named_with_a_way_out(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discue.cli.user.command._DEADLINE_SECONDS", 0.01)
    result = service.run("queues", "list", DISCUE_URL=service.url.replace("http:", "https:"))

    assert result.returncode == 5
    assert "no response from https://" in result.stderr
    assert result.stderr.count("\n") == 1


def test_service_that_does_not_respond_is_named_with_a_way_out(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("discue.cli.user.command._DEADLINE_SECONDS", 1.0)
    result = service.run("queues", "list", DISCUE_URL=f"http://127.0.0.1:{free_port()}")

    assert result.returncode == 5
    assert "Connection refused. Check that the service runs" in result.stderr
    assert "Traceback" not in result.stderr
