"""The image without a container engine: its root file system is built by the script that the Dockerfile calls, from the
files that the Dockerfile copies, and runs with the Dockerfile's environment and command."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path

import pytest

from tests.cli.commands import PATIENCE_SECONDS, REPOSITORY, Output, request
from tests.image.bill_of_materials import versions
from tests.support.ports import free_port

DOCKERFILE = REPOSITORY / "deploy" / "Dockerfile"
RUN_ROOT = Path(__file__).with_name("run_root.sh")
PYTHON = shutil.which(os.environ.get("IMAGE_PYTHON", sys.executable)) or sys.executable
MOST_BYTES = 100_000_000
USER = 10_001

pytestmark = pytest.mark.skipif(
    "CI" not in os.environ and (os.geteuid() != 0 or not shutil.which("unshare")), reason="needs root and unshare"
)


def instruction(name: str) -> str:
    """Return the arguments of an instruction of the last stage."""
    last = DOCKERFILE.read_text().rpartition("\nFROM ")[2].replace("\\\n", " ")
    (found,) = re.findall(rf"^{name} (.*)$", last, re.MULTILINE)
    return str(found)


ENVIRONMENT = dict(each.split("=", 1) for each in shlex.split(instruction("ENV")))
COMMAND = json.loads(instruction("ENTRYPOINT")) + json.loads(instruction("CMD"))
HEALTH = json.loads(instruction("HEALTHCHECK").partition(" CMD ")[2])


def copy_context(to: Path) -> None:
    """Copy what the build gets: the files that `Dockerfile.dockerignore` lets through."""
    lines = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().splitlines()
    for kept in (line[1:] for line in lines if line.startswith("!")):
        source = REPOSITORY / kept
        (to / kept).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, to / kept, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", "*.db*"))
        else:
            shutil.copy2(source, to / kept)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("image")
    copy_context(folder / "source")
    (folder / "root").mkdir()
    subprocess.run([folder / "source" / "deploy/image/build_root.sh", folder / "root", PYTHON], check=True)
    # The user of the container goes through it.
    for above in (folder, *folder.parents[:2]):
        above.chmod(0o755)
    yield folder / "root"
    shutil.rmtree(folder)


def started(root: Path, data: Path, *command: str, **variables: str) -> "subprocess.Popen[str]":
    os.chown(data, USER, USER)
    return subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", RUN_ROOT, root, data, *command],
        env={**ENVIRONMENT, "PATH": f"{ENVIRONMENT['PATH']}:{os.environ['PATH']}", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(root: Path, data: Path, *command: str, **variables: str) -> tuple[int, str]:
    process = started(root, data, *command, **variables)
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, errors


@contextmanager
def serving(root: Path, data: Path, **variables: str) -> Iterator[tuple["subprocess.Popen[str]", Output, Output]]:
    process = started(root, data, *COMMAND, **variables)
    assert process.stdout is not None
    assert process.stderr is not None
    out, log = Output(process.stdout), Output(process.stderr)
    try:
        yield process, out, log
    finally:
        process.kill()
        process.wait()
        out.to_the_end()
        log.to_the_end()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_image_serves_without_privileges_on_a_read_only_root(root: Path, tmp_path: Path, workers: str) -> None:
    port = str(free_port())
    given = {"DISCUE_PORT": port, "DISCUE_INSECURE": "true", "DISCUE_WORKERS": workers}
    with serving(root, tmp_path, **given) as (process, out, log):
        log.wait_for("workers_started" if workers == "2" else "server_started")
        url, key = f"http://127.0.0.1:{port}/v1", out.wait_for(r"dsk_\w+")[0]
        assert request("PUT", f"{url}/queues/orders", key, {}).status_code in (200, 201)
        assert request("POST", f"{url}/queues/orders/messages", key, {"data": 1}).status_code == 200
        assert finished(root, tmp_path, *HEALTH, **given) == (0, "")
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0

    assert {each.stat().st_uid for each in tmp_path.iterdir()} == {USER}
    code, errors = finished(root, tmp_path, *HEALTH, **given)
    assert (code, "does not respond" in errors) == (1, True)


def test_image_refuses_cleartext_unless_it_is_allowed(root: Path, tmp_path: Path) -> None:
    code, errors = finished(root, tmp_path, *COMMAND)

    assert code == 2
    assert "cleartext is allowed on loopback only" in errors


def test_image_has_no_shell_no_privileges_and_nothing_that_its_user_can_write(root: Path) -> None:
    files = [each for each in root.rglob("*") if not each.is_symlink()]

    assert not {"sh", "bash", "pip", "ldd", "busybox"} & {each.name for each in files}
    assert not [each for each in files if each.stat().st_mode & 0o6000]
    writable = {
        str(each.relative_to(root)) for each in files if each.stat().st_mode & 0o002 or each.stat().st_uid == USER
    }
    assert writable == {"backup", "data", "tmp"}


def test_image_contains_the_packages_of_the_bill_of_materials(root: Path) -> None:
    (packages,) = root.glob("**/site-packages")
    contained = {
        each.metadata["Name"].replace("_", "-").lower(): each.version for each in distributions(path=[str(packages)])
    }

    assert contained == versions()


def test_image_takes_100_mb_at_most(root: Path, tmp_path: Path) -> None:
    size = sum(each.stat().st_size for each in root.rglob("*") if each.is_file() and not each.is_symlink())
    with tarfile.open(tmp_path / "layer.tar.gz", "w:gz", compresslevel=6) as layer:
        layer.add(root, "/")
    compressed = (tmp_path / "layer.tar.gz").stat().st_size
    sys.stdout.write(f"image: {size / 1e6:.1f} MB, compressed {compressed / 1e6:.1f} MB, {PYTHON}\n")

    assert size <= MOST_BYTES
