"""What the suite runs against when it is not told a URL: `discue serve`, as real processes."""

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.postgres.fixtures import new_database, shared_cluster

KEY = "dsk_" + "c" * 60
SETTINGS = ("sqlite", "postgres", "three workers")

_REPOSITORY = Path(__file__).parents[2]
_PATIENCE_SECONDS = 30.0


class Installation(NamedTuple):
    """A running service: the addresses of its workers, and the key of its operator."""

    urls: tuple[str, ...]
    key: str
    is_ours: bool = True


@contextmanager
def installation(setting: str, folder: Path) -> Iterator[Installation]:
    """One of SETTINGS, on an empty database."""
    with ExitStack() as stack:
        if setting == "sqlite":
            database = f"sqlite:///{folder}/discue.db"
        else:
            database = stack.enter_context(new_database(shared_cluster()))
        workers = 3 if setting == "three workers" else 1
        urls = [stack.enter_context(_served(database)) for _ in range(workers)]
        yield Installation(tuple(urls), KEY)


@contextmanager
def _served(database: str) -> Iterator[str]:
    """One process; the URL that it serves."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DISCUE_")}
    given = {
        "DISCUE_DATABASE": database,
        "DISCUE_PORT": "0",
        "DISCUE_BOOTSTRAP_KEY": KEY,
        "DISCUE_ALLOW_PRIVATE_TARGETS": "true",
        "DISCUE_LOG_FORMAT": "json",
    }
    command = [sys.executable, "-m", "discue.cli", "serve"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        command, cwd=_REPOSITORY, env={**inherited, **given}, stdin=quiet, stdout=quiet, stderr=subprocess.PIPE
    ) as process:
        try:
            yield _Listening(process).url()
        finally:
            process.kill()


class _Listening:
    """Reads what a process says, so that it never waits for us, and finds where it serves."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._said: deque[str] = deque(maxlen=100)
        self._url = ""
        self._known = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def url(self) -> str:
        assert self._known.wait(_PATIENCE_SECONDS), "".join(self._said)
        assert self._url, "".join(self._said)
        return self._url

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said.append(line.decode("utf-8", "replace"))
            if not self._url and b'"serving"' in line:
                self._url = str(json.loads(line)["url"]).rstrip("/")
                self._known.set()
        self._known.set()
