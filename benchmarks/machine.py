"""The machine that the numbers come from: what they depend on, and nothing that names it."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import apsw

from tests.support.postgres.programs import find_programs


def description(folder: Path) -> dict[str, str]:
    """`folder` is where the database is."""
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{_memory_gib():.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "filesystem": _filesystem(folder.resolve()),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "PostgreSQL": _postgres(folder),
        "SQLite": f"{apsw.sqlite_lib_version()} (apsw {apsw.apsw_version()})",
        "server": f"granian {version('granian')}, uvloop {version('uvloop')}",
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _postgres(folder: Path) -> str:
    programs = find_programs()
    if programs is None:
        return "none"
    return programs.run("postgres", "--version", folder=folder).partition(") ")[2].strip()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _filesystem(folder: Path) -> str:
    """The type of the filesystem with the longest mount point above the folder."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    above = [(len(point), kind) for point, kind in mounts if folder.is_relative_to(point)]
    return max(above)[1] if above else "unknown"
