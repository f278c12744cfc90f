"""`discue serve` as a real process, on a given database."""

import json
import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.forked import Command, Forked

KEY = "dsk_" + "c" * 60
"""A key of the operator's organization."""

_REPOSITORY = Path(__file__).parents[2]
_PATIENCE_SECONDS = 30.0


class ServedProcess(NamedTuple):
    """A running service. Loopback only, and listeners may be on this machine."""

    url: str
    pid: int

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def cpu_seconds(self) -> float:
        """Processor time that the process has used so far."""
        user, system = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextmanager
def served_process(
    database: str, program: Command = ("-m", "discue"), /, **settings: object
) -> Iterator[ServedProcess]:
    """Start one process with these settings, and kill it at the end. `program` is what understands `serve`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DISCUE_")}
    given = {
        "database": database,
        "port": 0,
        "bootstrap_key": KEY,
        "allow_private_targets": "true",
        "log_format": "json",
        # SQLite makes a key of its own.
        **({} if database.startswith("sqlite") else {"encryption": "none"}),
        **settings,
    }
    environment = inherited | {f"DISCUE_{name.upper()}": str(value) for name, value in given.items()}
    process = Forked((*program, "serve"), folder=_REPOSITORY, environment=environment)
    listening = _Listening(process)
    try:
        yield ServedProcess(listening.url(), process.pid)
    finally:
        process.kill()
        process.wait(_PATIENCE_SECONDS)
        process.stdout.close()
        listening.end()


class _Listening:
    """Reads what a process says, so that it never waits for us, and finds where it serves."""

    def __init__(self, process: Forked) -> None:
        self._process = process
        self._said: deque[str] = deque(maxlen=100)
        self._url = ""
        self._known = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """When the process has."""
        self._thread.join()

    def url(self) -> str:
        assert self._known.wait(_PATIENCE_SECONDS), "".join(self._said)
        assert self._url, "".join(self._said)
        return self._url

    def _listen(self) -> None:
        with self._process.stderr as lines:
            for line in lines:
                self._said.append(line)
                if not self._url and '"server_started"' in line:
                    self._url = str(json.loads(line)["url"]).rstrip("/")
                    self._known.set()
        self._known.set()
