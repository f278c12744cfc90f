"""The command line: commands that are run to their end, and servers that are started, waited for and signalled."""

import io
import logging
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO

import httpx
import pytest

from discue.cli.main import main
from discue.observability.logs import ROOT
from discue.server.signals import SIGNAL_SECONDS
from tests.support.forked import Forked

COMMAND = ("-m", "discue")
DISCUE = (sys.executable, *COMMAND)
REPOSITORY = Path(__file__).parents[2]
PATIENCE_SECONDS = 30.0


def environment(*arguments: str, **variables: str) -> dict[str, str]:
    """Return this process's environment without other settings, and with the program on the path."""
    ours = {"PYTHONPATH": str(REPOSITORY), "NO_PROXY": "*"}
    return {**os.environ, **ours, **_clear_text(arguments, variables), **variables}


def _clear_text(arguments: Sequence[str], variables: Mapping[str, str]) -> dict[str, str]:
    """Return the setting that lets a command start on PostgreSQL without an encryption key, if it needs that."""
    needs_key = "serve" in arguments or "init" in arguments
    given = {**os.environ, **variables}
    is_postgres = any(each.startswith("postgresql:") for each in (*arguments, given.get("DISCUE_DATABASE", "")))
    decides = any("encryption" in each.lower() for each in (*arguments, *given))
    return {"DISCUE_ENCRYPTION": "none"} if needs_key and is_postgres and not decides else {}


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder to its end: in this process, unless the command prepares its process to serve."""
    if arguments and arguments[0] in {"serve", "dev", "demo"}:
        return run_forked(folder, *COMMAND, *arguments, **variables)
    out, log = io.StringIO(), io.StringIO()
    with (
        redirect_stdout(out),
        redirect_stderr(log),
        chdir(folder),
        kept_logging(),
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in {**_clear_text(arguments, variables), **variables}.items():
            patch.setenv(name, value)
        try:
            code = main(arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), log.getvalue())


def run_forked(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a forked process to its end, without the time of its imports."""
    process = Forked(command, folder=folder, environment=environment(*command, **variables))
    try:
        out, log = Output(process.stdout), Output(process.stderr)
        code = process.wait(PATIENCE_SECONDS)
    finally:
        process.kill()
    return subprocess.CompletedProcess(command, code, out.to_the_end(), log.to_the_end())


@contextmanager
def kept_logging() -> Iterator[None]:
    """Undo what a command configures for its process."""
    root, ours = logging.getLogger(), logging.getLogger(ROOT)
    handlers, levels = list(root.handlers), (root.level, ours.level)
    threads, processes, multiprocessing = logging.logThreads, logging.logProcesses, logging.logMultiprocessing
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(levels[0])
        ours.setLevel(levels[1])
        logging.logThreads, logging.logProcesses, logging.logMultiprocessing = threads, processes, multiprocessing


class Output:
    """The text that a process has written to a stream; can wait for more."""

    def __init__(self, stream: IO[str]) -> None:
        self.text = ""
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, args=(stream,))
        self._reader.start()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Return the first match in what was written, waiting for it for up to half a minute."""
        while (found := re.search(pattern, self.text)) is None:
            line = self._lines.get(timeout=PATIENCE_SECONDS)
            assert line is not None, f"ended without {pattern!r}:\n{self.text}"
            self.text += line
        return found

    def wait_for_count(self, text: str, count: int) -> None:
        """Wait until the text was written `count` times."""
        while self.text.count(text) < count:
            line = self._lines.get(timeout=PATIENCE_SECONDS)
            assert line is not None, f"ended with {text!r} fewer than {count} times:\n{self.text}"
            self.text += line

    def to_the_end(self) -> str:
        """Return the whole text, after the process has ended."""
        while (line := self._lines.get(timeout=PATIENCE_SECONDS)) is not None:
            self.text += line
        self._lines.put(None)
        self._reader.join()
        return self.text

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self._lines.put(line)
        self._lines.put(None)


class Running:
    """A server of the command line, in a folder."""

    def __init__(self, folder: Path, *arguments: str, command: Sequence[str] = COMMAND, **variables: str) -> None:
        self.process = Forked([*command, *arguments], folder=folder, environment=environment(*arguments, **variables))
        self.out, self.log = Output(self.process.stdout), Output(self.process.stderr)

    @property
    def url(self) -> str:
        """The URL that it serves at, once it does."""
        return self.log.wait_for(r" server_started .*\burl=(\S+)")[1]

    @property
    def key(self) -> str:
        """The API key that the first start prints."""
        return self.out.wait_for(r"dsk_\w+")[0]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for the end; returns the exit code, negative for the signal that killed the process."""
        code = self.process.wait(PATIENCE_SECONDS)
        self.out.to_the_end()
        self.log.to_the_end()
        return code

    def stop_immediately(self) -> int:
        """Send SIGTERM to a process that drains, when it no longer counts as one with the first signal."""
        with pytest.raises(subprocess.TimeoutExpired):
            self.process.wait(1.1 * SIGNAL_SECONDS)
        return self.stop()

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.ended()


@contextmanager
def running(folder: Path, *arguments: str, command: Sequence[str] = COMMAND, **variables: str) -> Iterator[Running]:
    """A server that is gone afterwards, whatever happens."""
    server = Running(folder, *arguments, command=command, **variables)
    try:
        yield server
    finally:
        server.process.kill()
        server.ended()


@contextmanager
def serving(folder: Path, *arguments: str, **variables: str) -> Iterator[Running]:
    """`discue serve` on a free port."""
    with running(folder, "serve", "--port", "0", *arguments, **variables) as server:
        yield server


def request(method: str, url: str, key: str = "", body: object = None) -> httpx.Response:
    headers = {"X-API-KEY": key} if key else {}
    # Nothing here is TLS, and reading the trusted certificates takes longer than the request.
    with httpx.Client(trust_env=False, verify=False, timeout=PATIENCE_SECONDS) as client:  # noqa: S501
        return client.request(method, url, headers=headers, json=body)


def queue_with(url: str, key: str, listener_url: str) -> str:
    """Create a queue with a listener. Returns the URL of the queue."""
    made = request("POST", f"{url}/queues", key, {}).json()["queue"]["id"]
    listener = {"notify_url": listener_url, "liveness_url": listener_url}
    assert request("POST", f"{url}/queues/{made}/listeners", key, listener).status_code == 200
    return f"{url}/queues/{made}"


class Receipts:
    """A listener that acknowledges everything."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.came = threading.Condition()
        receipts = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                with receipts.came:
                    receipts.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
                    receipts.came.notify_all()
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def wait_for(self, count: int) -> None:
        with self.came:
            assert self.came.wait_for(lambda: len(self.requests) >= count, PATIENCE_SECONDS)


@contextmanager
def receiving() -> Iterator[Receipts]:
    receipts = Receipts()
    thread = threading.Thread(target=receipts.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receipts
    finally:
        receipts.server.shutdown()
        thread.join()
        receipts.server.server_close()
