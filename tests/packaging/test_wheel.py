"""The wheels, installed without the repository: what `pip install`, `pipx run` and `uvx` run."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import httptools
import pytest

from tests.cli.commands import PATIENCE_SECONDS, REPOSITORY, Output
from tests.docs.quickstart import Block, blocks
from tests.support.ports import free_port

# Building the wheels takes seconds.
pytestmark = pytest.mark.torture

README = REPOSITORY / "README.md"
DOCS = REPOSITORY / "docs"
_END = "\x04the end"
_RETRY_AT = re.compile(r"Retry at \S+,")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the wheels of the service and of the Python client."""
    folder = tmp_path_factory.mktemp("wheels")
    build = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir"]
    sources = [REPOSITORY, REPOSITORY / "clients" / "python"]
    subprocess.run([sys.executable, *build, folder, *sources], check=True, cwd=folder, timeout=4 * PATIENCE_SECONDS)
    return folder


@pytest.fixture(scope="module")
def wheel(wheels: Path) -> Path:
    (built,) = wheels.glob("discue-*.whl")
    return built


class Terminals:
    """The terminals of somebody who follows the README, all in one directory, which has nothing but the wheels."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._listener_port = free_port()
        self._app_port = free_port()
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DISCUE_", "PIP_"))}
        self._environment = {
            **ours,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "NO_PROXY": "*",
            # The dependencies are those of this environment; the port is any free one.
            "PIP_NO_DEPS": "1",
            "PIP_NO_INDEX": "1",
            "DISCUE_PORT": "0",
            # Plugins of this environment, which take seconds to import.
            "PYTEST_ADDOPTS": "-p no:schemathesis -p no:hypothesispytest -p no:xdist -p no:django",
        }
        self._opened: list[tuple[subprocess.Popen[str], Output]] = []
        self._shell, self._shown = self._open("bash")
        self._command = ""
        self.printed = ""
        self._listening = ""

    def run(self, commands: str) -> None:
        """Run commands in the second terminal."""
        self._command = self._here(commands)
        assert self._shell.stdin is not None
        already = len(self._shown.text)
        self._shell.stdin.write(f"{self._command}\necho '{_END}'\n")
        self._shell.stdin.flush()
        self._shown.wait_for_count(_END, self._shown.text.count(_END) + 1)
        self.printed = self._shown.text[already:].partition(_END)[0]

    def start_dev(self, command: str) -> None:
        self._dev = self._open("bash", "-c", command)
        self._dev[1].wait_for("is ready at http://")

    def stop_dev(self) -> int:
        process, _ = self._dev
        process.send_signal(signal.SIGINT)
        return process.wait(PATIENCE_SECONDS)

    def start_listener(self, command: str = "") -> None:
        self._listening = self._here(command) or self._listening
        self._listener = self._open("bash", "-c", self._listening)
        self.see("listening")

    def start_app(self, command: str) -> None:
        self._app = self._open("bash", "-c", f"exec env {self._here(command)}")
        # A worker says so when it accepts requests.
        self._app[1].wait_for("Started worker-1")

    def see_app(self, text: str) -> None:
        """Wait until the application has printed a text."""
        self._app[1].wait_for(re.escape(text.strip()))

    def stop_app(self) -> None:
        process, output = self._app
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_SECONDS)
        output.to_the_end()

    def stop_listener(self) -> None:
        process, output = self._listener
        # Not SIGINT, which a Python without a handler ignores when the tests run in the background of a shell.
        process.terminate()
        process.wait(PATIENCE_SECONDS)
        output.to_the_end()

    def see(self, text: str) -> None:
        """Wait until the listener has printed a text."""
        self._listener[1].wait_for(re.escape(text.strip()))

    def see_eventually(self, text: str) -> None:
        """Repeat the last commands until they print a text."""
        began = time.monotonic()
        while _RETRY_AT.sub("", self.printed).split() != _RETRY_AT.sub("", text).split():
            assert time.monotonic() - began < PATIENCE_SECONDS, self.printed
            self.run(self._command)

    def stop(self) -> None:
        for process, output in self._opened:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
            output.to_the_end()

    def _open(self, *command: str) -> tuple[subprocess.Popen[str], Output]:
        process = subprocess.Popen(
            command,
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        self._opened.append((process, Output(process.stdout)))
        return self._opened[-1]

    def _here(self, text: str) -> str:
        # Commands find the server by `.discue/url`: port 3000 is not the one.
        text = text.replace("127.0.0.1:8000", f"127.0.0.1:{self._listener_port}")
        text = text.replace("127.0.0.1:8001", f"127.0.0.1:{self._app_port}")
        text = text.replace("--port 8001", f"--port {self._app_port}")
        return text.replace('"127.0.0.1", 8000', f'"127.0.0.1", {self._listener_port}')


def use_dependencies_of_this_environment(environment: Path) -> None:
    """Let an environment find the dependencies, but not this environment's own discue packages."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = environment / "lib" / version / "site-packages"
    found = environment / "dependencies"
    found.mkdir(exist_ok=True)
    for path in Path(httptools.__file__).parents[1].iterdir():
        # Otherwise pip would see that both wheels are installed.
        if not path.name.startswith("discue") and not (found / path.name).exists():
            (found / path.name).symlink_to(path)
    # Folders named in a .pth file are searched, but their own .pth files, which lead to the repository, are not read.
    (packages / "dependencies.pth").write_text(f"{found}\n")


def test_session_of_the_readme_works_as_pasted_from_the_wheels(wheels: Path, tmp_path: Path) -> None:
    for built in wheels.iterdir():
        shutil.copy(built, tmp_path)
    page = blocks(README.read_text())
    assert [(block.kind, block.name) for block in page] == [
        ("install", ""),
        ("start", "dev"),
        ("run", ""),
        ("start", "listener"),
        ("run", ""),
        ("listener", "prints"),
        ("run", "alone"),
        ("run", ""),
        ("prints", "eventually"),
        ("listener", "again"),
        ("install", "client"),
        ("file", "app.py"),
        ("run", ""),
        ("start", "app"),
        ("run", ""),
        ("app", "prints"),
        ("run", ""),
        ("prints", ""),
        ("file", "test_app.py"),
        ("run", ""),
        ("run", ""),
    ]
    terminals, printed = Terminals(tmp_path), list[str]()
    try:
        for block in page:
            _play(block, terminals, tmp_path)
            printed.append(terminals.printed)
        assert re.search("^1 passed in ", printed[-2], re.MULTILINE), printed[-2]
        assert re.search('"customer":"acme".*"message":{"id":', printed[-1], re.DOTALL), printed[-1]
        terminals.run('curl -sSo docs.html "$URL/docs/quickstart"; curl -sS "$URL/docs/search?q=retries"')
        assert "<title>Quickstart" in (tmp_path / "docs.html").read_text()
        assert "docs/delivery#retries" in terminals.printed
        # Commands of users find the server of this directory, and the client in its own wheel.
        terminals.run("XDG_CONFIG_HOME=none venv/bin/discue queues list")
        assert "orders" in terminals.printed
        terminals.stop_app()
        assert terminals.stop_dev() == 0
    finally:
        terminals.stop()


def _play(block: Block, terminals: Terminals, folder: Path) -> None:
    match block.kind, block.name:
        case "install", client:
            terminals.run(block.text)
            # pip found the dependencies of the client, and FastAPI, in that folder.
            assert "ERROR" not in terminals.printed
            use_dependencies_of_this_environment(folder / "venv")
            package = "discue_client" if client else "discue"
            terminals.run(f"venv/bin/python -c 'import {package}; print({package}.__file__)'")
            assert Path(terminals.printed.strip()).is_relative_to(folder)
        case "file", name:
            (folder / name).write_text(block.text)
        case "start", "dev":
            terminals.start_dev(block.text)
        case "start", "app":
            terminals.start_app(block.text)
        case "start", _:
            terminals.start_listener(block.text)
        case "run", "alone":
            terminals.stop_listener()
            terminals.run(block.text)
        case "run", _:
            terminals.run(block.text)
            assert '"status":4' not in terminals.printed
        case "app", _:
            terminals.see_app(block.text)
        case "prints", _:
            terminals.see_eventually(block.text)
        case "listener", "again":
            terminals.start_listener()
            terminals.see(block.text)
        case "listener", _:
            terminals.see(block.text)
        case kind:
            raise AssertionError(f"the mark {kind} is not known")


def test_wheel_contains_only_the_program_and_its_documentation(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"discue"}
    assert not [name for name in names if re.search(r"\.(db|key|pyc)$|/\.", name)]
    documentation = {name.removeprefix("discue/docs/") for name in names if name.startswith("discue/docs/")}
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert documentation == {*pages, "search-entries.jsonl"}


def test_description_of_the_wheel_has_no_link_to_a_file(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
    metadata = archive.read(name).decode()

    assert "# discue\n" in metadata
    assert "Content-Type: text/markdown" in metadata
    assert all(link.startswith("https://") for link in re.findall(r"\]\(([^)]*)\)", metadata))


def test_metadata_of_the_wheels_names_no_package_of_discue(wheels: Path) -> None:
    for built in wheels.glob("*.whl"):
        archive = zipfile.ZipFile(built)
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        required = re.findall(r"^Requires-Dist: ([\w-]+)", archive.read(name).decode(), re.MULTILINE)

        assert "msgspec" in required
        assert [each for each in required if each.lower().startswith("discue")] == []


def installed(folder: Path, *arguments: str | Path) -> Path:
    """Install into a fresh environment that finds the dependencies of this one. Returns its folder of programs."""
    environment = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True, timeout=4 * PATIENCE_SECONDS)
    use_dependencies_of_this_environment(environment)
    install = ["-m", "pip", "install", "--quiet", "--no-index", *arguments]
    subprocess.run([environment / "bin" / "python", *install], check=True, cwd=folder, timeout=4 * PATIENCE_SECONDS)
    return environment / "bin"


def discue(programs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DISCUE_"))}
    return subprocess.run(
        [programs / "discue", *arguments],
        cwd=programs,
        env={**ours, "DISCUE_URL": "http://127.0.0.1:9", "DISCUE_API_KEY": "dsk_none"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def test_service_installed_alone_needs_no_client(wheel: Path, tmp_path: Path) -> None:
    programs = installed(tmp_path, "--no-deps", wheel)

    assert discue(programs, "init").returncode == 0
    assert discue(programs, "check").returncode == 0
    refused = discue(programs, "publish", "orders", "{}")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("discue: `discue publish` needs the Python client, which is not installed.")
    assert refused.stderr.count("\n") == 1


def test_both_wheels_find_each_other(wheels: Path, tmp_path: Path) -> None:
    programs = installed(tmp_path, "--no-deps", *wheels.glob("*.whl"))

    assert "no response from http://127.0.0.1:9" in discue(programs, "publish", "orders", "{}").stderr


def test_clone_installs_with_dependencies_from_the_package_index(tmp_path: Path) -> None:
    """`pip install .`, with nothing but a clone and the index: this test needs one."""
    clone, environment = tmp_path / "clone", tmp_path / "venv"
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", f"file://{REPOSITORY}", clone], check=True)
    subprocess.run([sys.executable, "-m", "venv", environment], check=True, timeout=4 * PATIENCE_SECONDS)
    for places in (["."], [".", "./clients/python"]):
        report = tmp_path / "report.json"
        resolve = ["-m", "pip", "install", "--quiet", "--dry-run", "--report", str(report)]
        subprocess.run([environment / "bin" / "python", *resolve, *places], check=True, cwd=clone, timeout=300)
        found = {each["metadata"]["name"]: each for each in json.loads(report.read_text())["install"]}

        assert "granian" in found
        ours = {name: each["download_info"]["url"] for name, each in found.items() if name.startswith("discue")}
        assert len(ours) == len(places)
        assert all(url.startswith("file://") for url in ours.values())
