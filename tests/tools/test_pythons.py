"""Other versions of Python: which interpreter is found, and what is said of those that cannot be had."""

import os
import sys
from pathlib import Path

import pytest

from tools import pythons
from tools.pythons import Result


def program(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def in_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder at the front of PATH; nothing is fetched."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(pythons, "_DEBIAN", "false")
    return tmp_path


def test_interpreter_in_path_is_found_by_the_version_that_it_says(in_path: Path) -> None:
    found = program(in_path, "python3.99", "echo Python 3.99.1")

    assert pythons.interpreter("3.99", in_path) == found


@pytest.mark.parametrize("script", ["exit 127", "echo Python 3.9.99"], ids=["a shim that fails", "another version"])
def test_program_that_is_not_this_version_is_passed_over(in_path: Path, script: str) -> None:
    program(in_path, "python3.99", script)

    assert pythons.interpreter("3.99", in_path) is None


def test_missing_version_is_named_and_fails_nothing(in_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = pythons.results(["3.99", own], in_path, ())

    assert found == [
        Result("3.99", "MISSING: neither in PATH nor of pyenv nor in Debian's packages"),
        Result(own, "left out: `make test` runs on it"),
    ]
    assert pythons.summary(found) == 0
    assert "\n  3.99: MISSING" in capsys.readouterr().out


def test_version_that_fails_its_tests_fails_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert pythons.summary([Result("3.99", "3.99.1 failed", failed=True)]) == 1
    assert "3.99.1 failed" in capsys.readouterr().out


def test_versions_between_the_first_and_the_last_run_a_part(in_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = []
    monkeypatch.setattr(pythons, "prepared", lambda version, folder: folder / version)
    monkeypatch.setattr(pythons, "run", lambda version, python, part, arguments: parts.append((version, part)))

    pythons.results(["3.96", "3.97", "3.98", "3.99"], in_path, ())

    assert parts == [
        ("3.96", pythons.PART),
        ("3.97", pythons.BETWEEN),
        ("3.98", pythons.BETWEEN),
        ("3.99", pythons.PART),
    ]
