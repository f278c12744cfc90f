"""The listener that takes everything: a C program, compiled when a run begins."""

import http.client
import subprocess
from pathlib import Path

from benchmarks.child import Child
from benchmarks.failure import BenchmarkFailed

_SOURCE = Path(__file__).with_name("sink.c")
_ORIGINS_PER_BLOCK = 250
_MOST_ORIGINS = 250 * 250


class Sink:
    """Answers on one port of every loopback address."""

    def __init__(self, folder: Path, *cores: int) -> None:
        self.child = Child(cores, "sink", [str(_compiled(folder))])
        self.port = int(self.child.hear()["port"])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def count(self) -> int:
        """How many requests it has answered."""
        return int(self._ask("GET", "/count"))

    def go_down(self) -> None:
        """Answer everybody with 503 from now on."""
        self._ask("PUT", "/down")

    def come_up(self) -> None:
        """Answer with 200 again."""
        self._ask("PUT", "/up")

    def _ask(self, method: str, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path)
            return connection.getresponse().read()
        finally:
            connection.close()


def origin_host(index: int) -> str:
    """The loopback address that is origin number `index`."""
    if not 0 <= index < _MOST_ORIGINS:
        raise ValueError(f"there are {_MOST_ORIGINS} origins")
    return f"127.1.{index // _ORIGINS_PER_BLOCK}.{index % _ORIGINS_PER_BLOCK + 1}"


def _compiled(folder: Path) -> Path:
    program = folder / "sink"
    if program.exists():
        return program
    try:
        subprocess.run(["gcc", "-O2", "-o", str(program), str(_SOURCE)], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchmarkFailed("The sink cannot be compiled: gcc is needed.") from error
    return program
