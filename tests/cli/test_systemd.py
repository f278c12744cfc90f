import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from discue.cli.systemd import unit
from discue.config.settings import Settings
from tests.cli.commands import DISCUE, request, run, running

ANALYZE = shutil.which("systemd-analyze")
# PR_SET_MDWE, which the kernel keeps for the programs that the process becomes.
DENYING = """
import ctypes, os, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):
    sys.exit("the kernel has no PR_SET_MDWE")
os.execv(sys.executable, [sys.executable, "-m", "discue", *sys.argv[1:]])
"""
CONFIG = """
host = "0.0.0.0"
port = 443
tls_cert = "/etc/discue/cert.pem"
tls_key = "/etc/discue/key.pem"
database = "sqlite:////srv/discue/discue.db"
backup_to = "/backup"
drain_timeout_seconds = 100
public_url = "https://discue.example.com"
"""


def test_unit_follows_the_settings(tmp_path: Path) -> None:
    (tmp_path / "discue.toml").write_text(CONFIG)

    result = run(tmp_path, "systemd", "--config", "discue.toml", "--user", "messages", DISCUE_PORT="")

    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert "User=messages" in lines
    assert "Documentation=https://discue.example.com/docs" in lines
    assert "TimeoutStopSec=140" in lines
    assert [line for line in lines if line.startswith("ReadWritePaths=")] == [
        "ReadWritePaths=/srv/discue",
        "ReadWritePaths=/backup",
    ]
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE" in lines
    # An own user namespace would take the capability away.
    assert "PrivateUsers=yes" not in lines
    (command,) = re.findall(r"^ExecStart=(.*)$", result.stdout, re.MULTILINE)
    assert command.endswith(f" serve --config {tmp_path}/discue.toml")


def test_unit_for_an_unprivileged_port_has_no_capability() -> None:
    lines = unit(Settings(), user="discue", config=None).splitlines()

    assert "CapabilityBoundingSet=" in lines
    assert not [line for line in lines if line.startswith(("AmbientCapabilities", "ReadWritePaths"))]


def test_unit_for_a_privileged_port_of_the_dashboard_has_the_capability() -> None:
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE" in unit(Settings(dashboard_port=443), user="discue", config=None)


@pytest.mark.parametrize("user", ["root", "a b", "", "x\ny", "-x"])
def test_user_that_cannot_run_the_service_is_refused(tmp_path: Path, user: str) -> None:
    result = run(tmp_path, "systemd", f"--user={user}")

    assert result.returncode == 2
    assert "needs no privileges" in result.stderr if user == "root" else "is not the name of a user" in result.stderr


def test_path_that_a_unit_would_read_otherwise_is_refused(tmp_path: Path) -> None:
    (tmp_path / "50%.toml").touch()

    result = run(tmp_path, "systemd", "--config", "50%.toml")

    assert result.returncode == 1
    assert "50%.toml: a unit needs paths without spaces, quotes, % and $. Move or link it." in result.stderr


def test_missing_file_of_settings_is_named(tmp_path: Path) -> None:
    result = run(tmp_path, "systemd", "--config", "none.toml")

    assert result.returncode == 2
    assert "cannot read none.toml: No such file or directory" in result.stderr


@pytest.mark.skipif(ANALYZE is None and "CI" not in os.environ, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("port", ["443", "3000"])
def test_systemd_accepts_the_unit_and_finds_little_exposure(tmp_path: Path, port: str) -> None:
    (tmp_path / "discue.toml").write_text(CONFIG.replace("443", port))
    # The program must exist, so by the interpreter of the tests.
    printed = subprocess.run(
        [*DISCUE, "systemd", "--config", "discue.toml"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    (tmp_path / "discue.service").write_text(printed)

    verified = analyze("verify", tmp_path / "discue.service")
    exposed = analyze("security", "--offline=yes", tmp_path / "discue.service")

    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    level = re.search(r"Overall exposure level for discue\.service: ([\d.]+)", exposed.stdout)
    assert level is not None, exposed.stderr
    assert float(level[1]) <= 2


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    assert ANALYZE is not None, "systemd-analyze is not installed"
    return subprocess.run([ANALYZE, *arguments], capture_output=True, text=True, check=False)


def test_service_runs_without_writable_code_as_the_unit_demands(tmp_path: Path) -> None:
    """`MemoryDenyWriteExecute`, which breaks programs that compile at run time."""
    with running(tmp_path, "serve", "--port", "0", command=("-c", DENYING)) as server:
        key = server.key
        made = request(
            "PUT", f"{server.url}/v1/queues/orders", key, {"json_schema": {"type": "object", "pattern": "^a"}}
        )
        assert made.status_code in (200, 201), made.text
        assert request("POST", f"{server.url}/v1/queues/orders/messages", key, {"data": {"a": 1}}).status_code == 200
        assert server.stop() == 0
