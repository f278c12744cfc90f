"""The page about deployment, followed on this machine: in a folder instead of `/`, and without systemd."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from tests.cli.commands import PATIENCE_SECONDS, REPOSITORY, Output, request
from tests.support.notify_socket import notify_socket
from tests.support.ports import free_port
from tests.support.proxies import CADDY, NGINX, caddy, nginx

PAGE = (REPOSITORY / "docs" / "deploy.md").read_text()
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
USER = "10001"

pytestmark = pytest.mark.skipif("CI" not in os.environ and os.geteuid() != 0, reason="needs root")


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


class Machine:
    """A bare server: a folder that stands for `/`, with a journal of the service."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.port, self.metrics_port = free_port(), free_port()
        self._stack = stack
        self._journal: Output | None = None
        self._errors: Output | None = None
        self.printed = ""
        for each in (
            "opt",
            "etc/systemd/system",
            "etc/prometheus",
            "etc/caddy",
            "var/lib/discue",
            "var/backups",
            "run",
        ):
            (folder / each).mkdir(parents=True)
        # `StateDirectory` of the unit.
        os.chown(folder / "var/lib/discue", int(USER), int(USER))

    def here(self, text: str) -> str:
        """Return the text for this machine instead of the page's."""
        for each in ("opt", "etc", "var"):
            text = text.replace(f"/{each}/", f"{self.folder}/{each}/")
        return text.replace("--owner=discue", f"--owner={USER}").replace("9464", str(self.metrics_port))

    def follow(self, kind: str, block: str) -> None:
        named = re.match(r"# (/\S+)", block)
        if named is not None:
            Path(self.here(named[1])).write_text(self.here(block))
        elif kind == "sh":
            for line in block.splitlines():
                self._run(line)

    def _run(self, line: str) -> None:
        program, *arguments = line.split()
        match program, arguments:
            case ("apt-get" | "useradd", _) | ("systemctl", ["reload" | "restart", *_]):
                return
            case "systemctl", ["enable", "--now", "discue"]:
                self._start()
            case "journalctl", _:
                assert self._journal is not None
                self.printed = self._journal.wait_for(r"dsk_\w+")[0]
            case "promtool", _ if shutil.which("promtool") is None:
                return
            case _:
                self._call(self.here(line))

    def _call(self, command: str) -> None:
        done = subprocess.run(
            ["bash", "-c", command], cwd=REPOSITORY, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"

    @property
    def environment(self) -> dict[str, str]:
        # The port of the page may be another program's here. The system's Python comes first: the service's user could
        # not run one in the home of root.
        return {"PATH": f"/usr/bin:{os.environ['PATH']}", "HOME": str(self.folder), "DISCUE_PORT": str(self.port)}

    def _start(self) -> None:
        """Do what systemd does with the unit."""
        unit = (self.folder / "etc/systemd/system/discue.service").read_text()
        (command,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
        manager = self._stack.enter_context(notify_socket(self.folder / "run", 30))
        os.chown(self.folder / "run/notify", int(USER), int(USER))
        service = subprocess.Popen(
            ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs", *command.split()],
            cwd=self.folder / "var/lib/discue",
            env={**self.environment, **manager.variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert service.stdout is not None
        assert service.stderr is not None
        self._journal, self._errors = Output(service.stdout), Output(service.stderr)
        self._stack.callback(self._stop, service)
        # Shows the log if the service ends.
        self._errors.wait_for("server_started")
        manager.wait_for("READY=1")

    def wait_for_log(self, pattern: str) -> None:
        assert self._errors is not None
        self._errors.wait_for(pattern)

    def _stop(self, service: "subprocess.Popen[str]") -> None:
        assert self._journal is not None
        assert self._errors is not None
        service.terminate()
        code = service.wait(PATIENCE_SECONDS)
        self._journal.to_the_end()
        assert code == 0, self._errors.to_the_end()


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """The server when all steps of the page have been taken."""
    # Not in a folder of pytest: the service's user could not enter it.
    with tempfile.TemporaryDirectory(prefix="discue-server-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        followed = Machine(folder, stack)
        for kind, block in BLOCK.findall(section("From a bare server to production")):
            if "--restore" in block:
                followed.wait_for_log("backup_made")
            followed.follow(kind, block)
        yield followed


def test_page_leads_to_a_service_with_a_key_metrics_and_backups(machine: Machine) -> None:
    url = f"http://127.0.0.1:{machine.port}/v1"

    assert request("PUT", f"{url}/queues/orders", machine.printed, {}).status_code in (200, 201)
    metrics = request("GET", f"http://127.0.0.1:{machine.metrics_port}/metrics")
    assert "discue_backlog_age_seconds" in metrics.text
    assert list((machine.folder / "var/backups/discue").iterdir())


def test_later_commands_of_the_page_work_while_the_service_runs(machine: Machine) -> None:
    later = PAGE.partition("\n## Sizing\n")[2]
    commands = dict.fromkeys(re.findall(r"/opt/discue/bin/discue (?!copy)[^`\n]*--config [^`\n]*", later))
    assert [each.split()[1] for each in commands] == ["check", "unlock", "rotate-key", "rotate-key", "rotate-key"]

    for command in commands:
        machine.follow("sh", command)

    # Run by root: the service still reads the file.
    assert (machine.folder / "var/lib/discue/discue.db.key").stat().st_uid == int(USER)
    url = f"http://127.0.0.1:{machine.port}/v1/queues/orders"
    assert request("PUT", url, machine.printed, {}).status_code in (200, 201)
    listener = {"alias": "billing", "notify_url": "https://example.com/"}
    assert request("PUT", f"{url}/listeners", machine.printed, listener).status_code in (200, 201)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("certificate")
    issued = trustme.CA().issue_cert("discue.example.com", "127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    return folder / "cert.pem", folder / "key.pem"


def assert_serves(machine: Machine, port: int) -> None:
    url = f"https://127.0.0.1:{port}/v1"
    assert request("PUT", f"{url}/queues/proxied", machine.printed, {}).status_code in (200, 201)
    body = {"data": "x" * 100_000}
    assert request("POST", f"{url}/queues/proxied/messages", machine.printed, body).status_code == 200


@pytest.mark.skipif(CADDY is None, reason="caddy is not installed")
def test_caddy_of_the_page_serves_the_service(machine: Machine, certificate: tuple[Path, Path], tmp_path: Path) -> None:
    port = free_port()
    text = (machine.folder / "etc/caddy/Caddyfile").read_text().replace("127.0.0.1:3000", f"127.0.0.1:{machine.port}")
    own = f"https://127.0.0.1:{port} {{\n\ttls {certificate[0]} {certificate[1]}"

    with caddy(tmp_path, text.replace("discue.example.com {", own), port):
        assert_serves(machine, port)


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_nginx_of_the_page_serves_the_service(machine: Machine, certificate: tuple[Path, Path], tmp_path: Path) -> None:
    port = free_port()
    (server,) = (block for kind, block in BLOCK.findall(PAGE) if kind == "nginx" and "upstream" in block)
    replaced = {
        "127.0.0.1:3000": f"127.0.0.1:{machine.port}",
        "listen 443": f"listen 127.0.0.1:{port}",
        "/etc/discue/tls/fullchain.pem": str(certificate[0]),
        "/etc/discue/tls/key.pem": str(certificate[1]),
    }
    for text, own in replaced.items():
        assert text in server
        server = server.replace(text, own)

    with nginx(tmp_path, server, port):
        assert_serves(machine, port)
