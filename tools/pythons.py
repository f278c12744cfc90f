"""Run tests on other versions of Python: `python -m tools.pythons FOLDER VERSION … -- ARGUMENT …`.

Each version gets an environment with the pinned requirements in FOLDER, for this run and later ones. Interpreters come
from pyenv or PATH; on Debian, one that the machine lacks is unpacked from the packages of the next release. The version
of this environment is left out: `make test` runs everything on it. The summary names versions for which there is no
interpreter; they do not fail the run.
"""

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[1]
PART = (
    *(f"tests/{name}" for name in ("domain", "config", "crypto", "observability", "store", "auth", "publishing")),
    *(f"tests/{name}" for name in ("control", "api", "simulation", "sending", "dispatch", "server", "end_to_end")),
)
"""The tests that run on the first and the last version."""
BETWEEN = PART[-4:]
"""The tests that run on the other versions: those that use sockets, processes and the event loop."""
ON_SQLITE = ("-k", "not postgres")
"""PostgreSQL is left out: it works the same with every version of Python."""

OWN_VERSION = ".".join(platform.python_version_tuple()[:2])

_DEBIAN = ROOT / "tools" / "debian_python.sh"
_INSTALL = ("-m", "pip", "--disable-pip-version-check", "--quiet", "--python")


class Result(msgspec.Struct, frozen=True):
    """The result of the tests on one version."""

    version: str
    outcome: str
    failed: bool = False


def interpreter(version: str, folder: Path) -> Path | None:
    """Return an interpreter of a version such as 3.13: the newest of pyenv, else the one in PATH, else Debian's."""
    name = f"python{version}"
    of_pyenv = sorted(
        Path.home().glob(f".pyenv/versions/{version}.*/bin/{name}"),
        key=lambda python: [int(number) for number in re.findall(r"\d+", python.parts[-3])],
    )
    in_path = shutil.which(name)
    for found in (*reversed(of_pyenv), *([Path(in_path)] if in_path else []), folder / "debian" / "usr" / "bin" / name):
        if version_of(found).startswith(f"{version}."):
            return found
    return None


def version_of(python: Path) -> str:
    """Return the full version of an interpreter, such as 3.13.7; "" if the program is none."""
    if not python.exists():
        return ""
    # A shim of pyenv exists for versions that are not installed, and fails.
    printed = subprocess.run([python, "--version"], capture_output=True, text=True, check=False).stdout
    return printed.removeprefix("Python ").strip()


def prepared(version: str, folder: Path) -> Path | None:
    """Return the interpreter of an environment with the pinned requirements; None without an interpreter."""
    found = interpreter(version, folder)
    if found is None and subprocess.run([_DEBIAN, version, folder / "debian"], check=False).returncode == 0:
        found = interpreter(version, folder)
    if found is None:
        return None
    environment = folder / version
    python, mark = environment / "bin" / "python", environment / ".installed"
    requirements = ROOT / "requirements" / "dev.txt"
    if not mark.exists() or mark.stat().st_mtime < requirements.stat().st_mtime:
        subprocess.run([found, "-m", "venv", "--clear", "--without-pip", environment], check=True)
        _install(python, "--require-hashes", "-r", requirements)
        _install(python, "--no-deps", "--no-build-isolation", "-e", ROOT, "-e", ROOT / "clients" / "python")
        mark.touch()
    return python


def _install(python: Path, *what: str | Path) -> None:
    subprocess.run([sys.executable, *_INSTALL, python, "install", *what], check=True)


def run(version: str, python: Path, part: Sequence[str], arguments: Sequence[str]) -> Result:
    """Run the tests of some folders."""
    cache = python.parents[1] / "cache"
    command: list[str | Path] = [python, "-m", "pytest", "-q", "-o", f"cache_dir={cache}", *part, *ON_SQLITE]
    code = subprocess.run([*command, "-n", "2", "--dist", "loadgroup", *arguments], cwd=ROOT, check=False).returncode
    outcome = f"{version_of(python)} {'failed' if code else 'passed'}"
    return Result(version, outcome, failed=code != 0)


def results(versions: Sequence[str], folder: Path, arguments: Sequence[str]) -> list[Result]:
    """Run the tests on each version, in order: those of `PART` on the first and the last, else those of `BETWEEN`."""
    found = []
    for version in versions:
        if version == OWN_VERSION:
            found.append(Result(version, "left out: `make test` runs on it"))
        elif python := prepared(version, folder):
            found.append(run(version, python, PART if version in (versions[0], versions[-1]) else BETWEEN, arguments))
        else:
            found.append(Result(version, "MISSING: neither in PATH nor of pyenv nor in Debian's packages"))
    return found


def summary(found: Sequence[Result]) -> int:
    """Print the result of each version, and return the exit code."""
    print("\nPython:", *(f"{each.version}: {each.outcome}" for each in found), sep="\n  ")
    return int(any(each.failed for each in found))


def main(arguments: list[str]) -> int:
    """Run the tests with the arguments after `--`."""
    folder, *versions = arguments[: arguments.index("--")]
    return summary(results(versions, Path(folder).resolve(), arguments[arguments.index("--") + 1 :]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
