"""The wheel, installed without the repository: what `pip install`, `pipx run` and `uvx` run."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import httptools
import pytest

from tests.cli.commands import PATIENCE_SECONDS, REPOSITORY, Output, request


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir"]
    subprocess.run([sys.executable, *build, folder, REPOSITORY], check=True, cwd=folder, timeout=4 * PATIENCE_SECONDS)
    (built,) = folder.glob("*.whl")
    return built


def installed(wheel: Path, folder: Path) -> Path:
    """Install the wheel into a new environment, with the dependencies of this one. Returns the `discue` command."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=PATIENCE_SECONDS)
    install = ["install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", folder, *install, wheel],
        check=True,
        cwd=folder,
        timeout=4 * PATIENCE_SECONDS,
    )
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    # Folders named in a .pth file are searched, but their own .pth files, which lead to the repository, are not read.
    dependencies = Path(httptools.__file__).parents[1]
    (folder / "lib" / version / "site-packages" / "dependencies.pth").write_text(f"{dependencies}\n")
    return folder / "bin" / "discue"


def test_installed_wheel_runs_dev_and_receives_a_message(wheel: Path, tmp_path: Path) -> None:
    command = installed(wheel, tmp_path / "environment")
    folder = tmp_path / "work"
    folder.mkdir()
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DISCUE_"))}
    where = subprocess.run(
        [command.with_name("python"), "-c", "import discue; print(discue.__file__)"],
        cwd=folder,
        env=environ,
        check=True,
        capture_output=True,
        text=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(tmp_path)

    process = subprocess.Popen(
        [command, "dev", "--port", "0"],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    out, log = Output(process.stdout), Output(process.stderr)
    try:
        url = out.wait_for(r"is ready at (http://\S+)")[1]
        key = out.wait_for(r"dsk_\w+")[0]
        out.wait_for('"orders"')
        assert request("POST", f"{url}/queues/demo/messages", key, {"data": {"from": "the wheel"}}).status_code == 200
        out.wait_for("signature verified ✓")
        assert request("GET", f"{url}/docs").status_code == 200
        assert request("GET", f"{url}/quickstart").text.startswith("# Quickstart")
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        process.kill()
        process.wait()
        out.to_the_end()
        assert log.to_the_end() == ""


def test_wheel_contains_only_the_program(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"discue"}
    assert not [name for name in names if re.search(r"\.(db|key|pyc)$|/\.", name)]
