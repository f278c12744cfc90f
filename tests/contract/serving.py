"""Services that the suite runs against without a given URL: `discue serve`, as real processes."""

import json
import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.forked import Forked
from tests.support.postgres.fixtures import new_database, shared_cluster

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
    """Serve one of SETTINGS on an empty database."""
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
    """Start one process and yield its URL."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DISCUE_")}
    given = {
        "DISCUE_DATABASE": database,
        "DISCUE_PORT": "0",
        "DISCUE_BOOTSTRAP_KEY": KEY,
        "DISCUE_ALLOW_PRIVATE_TARGETS": "true",
        "DISCUE_LOG_FORMAT": "json",
    }
    process = Forked(("-m", "discue", "serve"), folder=_REPOSITORY, environment={**inherited, **given})
    listening = _Listening(process)
    try:
        yield listening.url()
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
