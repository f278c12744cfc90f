import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import apsw
import pytest

from discue import __version__
from discue.cli import check
from discue.cli.check import Finding
from discue.cli.command import Invocation
from discue.cli.main import command_parser
from discue.config.settings import Settings
from discue.domain.clock import Clock
from discue.observability.logs import Log
from discue.store.migrations import newest
from tests.cli.commands import run, serving
from tests.support.clocks import StandingClock


def clock_findings(folder: Path, clock: Clock) -> Iterator[Finding]:
    settings = Settings(database=f"sqlite:///{folder}/discue.db")
    return check.clock_findings(Invocation(command_parser().parse_args(["check"]), settings, clock, Log()))


def test_check_finds_no_problem_before_the_first_start_and_creates_nothing(tmp_path: Path) -> None:
    result = run(tmp_path, "check")

    assert (result.returncode, result.stderr) == (0, "")
    assert (
        "database: sqlite:///discue.db does not exist; `discue serve` creates it, the organization "
        "local.discue.operator and its first API key, which it prints once\n"
    ) in result.stdout
    assert result.stdout.endswith("No problems.\n")
    assert list(tmp_path.iterdir()) == []


def test_check_does_not_print_the_password_of_the_proxy(tmp_path: Path) -> None:
    result = run(tmp_path, "check", "--egress-proxy=http://ada:hunter2@proxy.example:3128", "--no-proxy=10.0.0.0/8")

    assert result.returncode == 0
    assert "hunter2" not in result.stdout + result.stderr
    assert "YWRhOmh1bnRlcjI=" not in result.stdout + result.stderr


def test_check_names_the_database_of_dev(tmp_path: Path) -> None:
    (tmp_path / ".discue").mkdir()
    (tmp_path / ".discue" / "discue.db").touch()
    result = run(tmp_path, "check")

    assert (
        "database: .discue/discue.db is the database of `discue dev`: "
        "`discue check --database sqlite:///.discue/discue.db` checks it\n"
    ) in result.stdout
    assert "; it is empty; " in run(tmp_path, "check", "--database", "sqlite:///.discue/discue.db").stdout


@pytest.mark.usefixtures("every_engine")
def test_check_says_what_serve_does_with_an_empty_database(tmp_path: Path) -> None:
    (tmp_path / "discue.db").touch()
    result = run(tmp_path, "check", "--encryption=none", "--bootstrap-key", f"dsk_{'a' * 43}")

    problems = [line for line in result.stdout.splitlines() if line.startswith("PROBLEM")]
    # The PostgreSQL of tests runs without fsync and full_page_writes.
    assert [each for each in problems if not each.endswith("; turn it on")] == []
    assert (
        "; it is empty; `discue serve` creates its tables, the organization local.discue.operator and the key of "
        "bootstrap_key\n"
    ) in result.stdout
    assert "0001_schema" not in result.stdout


def test_check_finds_no_problem_while_a_server_runs(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        assert server.url
        result = run(tmp_path, "check")

    assert result.returncode == 0
    assert f"schema version {newest()}" in result.stdout


def test_every_problem_is_listed(tmp_path: Path) -> None:
    (tmp_path / "discue.db").write_text("Dear diary, " * 100)
    tomorrow = time.time() + 86_400
    os.utime(tmp_path / "discue.db", (tomorrow, tomorrow))
    result = run(tmp_path, "check", "--tls-cert=missing.pem", "--tls-key=missing.pem")

    assert result.returncode == 1
    problems = [line.split()[1] for line in result.stdout.splitlines() if line.startswith("PROBLEM")]
    assert problems == ["database:", "clock:", "tls_cert:"]
    assert result.stdout.endswith("3 problems.\n")


def test_invalid_settings_exit_with_2_as_in_other_commands(tmp_path: Path) -> None:
    result = run(tmp_path, "check", "--host=0.0.0.0", "--port=x")

    assert result.returncode == run(tmp_path, "serve", "--host=0.0.0.0", "--port=x").returncode == 2
    assert "--host" in result.stderr
    assert "--port" in result.stderr


def test_unknown_variable_is_found(tmp_path: Path) -> None:
    result = run(tmp_path, "check", DISCUE_PROT="3001")

    assert result.returncode == 2
    assert "DISCUE_PROT: unknown setting; did you mean DISCUE_PORT?" in result.stderr


def port_finding(folder: Path, port: int, *arguments: str) -> str:
    result = run(folder, "check", f"--port={port}", *arguments)
    (line,) = [line for line in result.stdout.splitlines() if line[8:].startswith("port: ")]
    assert result.returncode == line.startswith("PROBLEM")
    return line


def test_check_tries_the_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        # Its backlog takes the connection, and nothing ever answers.
        taken = port_finding(tmp_path, port)
    free = port_finding(tmp_path, port)

    assert taken.startswith(f"PROBLEM port: cannot listen on 127.0.0.1:{port} (Address already in use).")
    assert free == f"ok      port: 127.0.0.1:{port} is free"


@pytest.mark.parametrize("flags", [(), ("--tls-self-signed",)])
def test_check_recognizes_a_running_server_by_its_port(tmp_path: Path, flags: tuple[str, ...]) -> None:
    with serving(tmp_path, *flags) as server:
        port = urlsplit(server.url).port or 0
        line = port_finding(tmp_path, port, *flags)

    assert line.startswith(f"ok      port: discue {__version__} listens on 127.0.0.1:{port}")


@pytest.mark.parametrize("folder_name", ["missing", "file"])
@pytest.mark.parametrize("command", ["check", "serve", "dev"])
def test_missing_folder_is_found(tmp_path: Path, command: str, folder_name: str) -> None:
    (tmp_path / "file").touch()
    result = run(tmp_path, command, f"--database=sqlite:///{folder_name}/discue.db")

    assert result.returncode == 1
    refusal = f"The folder {folder_name} of the database does not exist. Create it, or name another one."
    assert refusal in result.stdout + result.stderr


def test_database_of_a_newer_version_is_found(tmp_path: Path) -> None:
    run(tmp_path, "init")
    newer = apsw.Connection(str(tmp_path / "discue.db"))
    newer.execute("UPDATE meta SET value = '99' WHERE key IN ('schema_version', 'compatible_from')")
    newer.close()
    result = run(tmp_path, "check")

    assert result.returncode == 1
    assert "Install a newer discue" in result.stdout


def test_clock_at_the_epoch_is_found(tmp_path: Path) -> None:
    (finding,) = clock_findings(tmp_path, StandingClock(0))

    assert finding.is_problem
    assert "1970-01-01" in finding.detail


def test_clock_behind_the_database_is_found(tmp_path: Path) -> None:
    (tmp_path / "discue.db").touch()
    changed = round((tmp_path / "discue.db").stat().st_mtime * 1_000)

    (behind,) = clock_findings(tmp_path, StandingClock(changed - 90_000))
    (fine,) = clock_findings(tmp_path, StandingClock(changed - 30_000))
    assert behind.is_problem
    assert "90 s before" in behind.detail
    assert not fine.is_problem


@pytest.mark.parametrize(("free", "word"), [(1 << 29, "PROBLEM"), (1 << 31, "ok")])
def test_almost_full_disk_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, word: str) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    result = run(tmp_path, "check")

    (line,) = [line for line in result.stdout.splitlines() if "disk: " in line]
    assert line == f"{word:8}disk: {free >> 20} MiB free for the database"
    assert result.returncode == (word == "PROBLEM")


_PROVIDER = """
[[provider]]
name = "one"
issuer = "https://id.example.com"
client_id = "x"
default_role = "viewer"
"""


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("[[provider]]\nname = 'one'", "PROBLEM identity_providers: "),
        (
            _PROVIDER,
            "ok      identity_providers: users can sign in with one",
        ),
        (
            f"{_PROVIDER}\nclient_secret = 's'",
            "PROBLEM identity_providers: other users can read the secrets in providers.toml",
        ),
    ],
)
def test_file_with_identity_providers_is_checked(tmp_path: Path, text: str, finding: str) -> None:
    (tmp_path / "providers.toml").write_text(text)
    (tmp_path / "providers.toml").chmod(0o644)
    assert finding in run(tmp_path, "check", "--identity-providers", "providers.toml").stdout
