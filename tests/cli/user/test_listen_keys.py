"""Keys of `discue listen`, at a terminal."""

import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from discue.cli.user.listen_screen import keys_in
from tests.cli.commands import DISCUE, PATIENCE_SECONDS, environment
from tests.cli.user.local_server import local_server
from tests.cli.user.service import Service
from tests.cli.user.test_listen import listeners_of, publish, queue_named

_READ = 65_536


class Terminal:
    """A terminal, and the command that runs in it."""

    def __init__(self, service: Service, *arguments: str, **variables: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [*DISCUE, *arguments],
            cwd=service.folder,
            env=environment(TERM="xterm", NO_COLOR="1", COLUMNS="200", **variables),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.shown = ""

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def see(self, text: str) -> None:
        """Wait until the text is shown, and forget what came before it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while text not in self.shown:
            ready, _, _ = select.select([self._ours], [], [], deadline - time.monotonic())
            assert ready, self.shown
            self.shown += os.read(self._ours, _READ).decode()
        self.shown = self.shown.partition(text)[2]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@contextmanager
def terminal(service: Service, *arguments: str, **variables: str) -> Iterator[Terminal]:
    opened = Terminal(service, *arguments, **variables)
    try:
        yield opened
    finally:
        opened.close()


def test_request_is_selected_shown_repeated_and_edited(service: Service) -> None:
    queue = queue_named(service, "keys")
    (service.folder / "change").write_text('#!/bin/sh\nsed -i s/17/18/ "$1"\n')
    (service.folder / "change").chmod(0o755)
    with (
        local_server(lambda _, body: (200, b"thanks") if b"order" in body else (500, b"what?")) as local,
        terminal(service, "listen", local.url, "--queue", queue, EDITOR="./change") as screen,
    ):
        screen.see("q quit")
        first = publish(service, queue, {"order": 17}, key="north")
        screen.see(f"{first} keys key north  200 OK")
        second = publish(service, queue, "other")
        screen.see(f"{second} keys  500 Internal Server Error")
        screen.see(f"{second} selected")
        screen.press("\x1b[A")
        screen.see("▸ ")
        screen.see(first)
        screen.press("\r")
        screen.see('"order": 17')
        screen.see("thanks")
        screen.press("r")
        screen.see(f"{first} keys again key north  200 OK")
        screen.press("e")
        screen.see("again")
        local.wait_for(lambda: len(local.received) == 4)
        screen.press("q")
        code = screen.process.wait(PATIENCE_SECONDS)

    assert code == 0
    assert [(each.id, each.body) for each in local.received] == [
        (first, b'{"order":17}'),
        (second, b"other"),
        (first, b'{"order":17}'),
        (first, b'{\n  "order": 18\n}'),
    ]
    assert listeners_of(service, queue) == []


def test_editor_that_cannot_be_run_is_named(service: Service) -> None:
    queue = queue_named(service, "no-editor")
    with local_server() as local, terminal(service, "listen", local.url, "--queue", queue, EDITOR="./none") as screen:
        screen.see("q quit")
        publish(service, queue)
        screen.see("204 No Content")
        screen.press("e")
        screen.see("The editor ./none cannot be run: No such file or directory. Set EDITOR.")
        screen.press("q")
        assert screen.process.wait(PATIENCE_SECONDS) == 0


def test_keys_that_arrive_together_all_count(service: Service) -> None:
    queue = queue_named(service, "together")
    with local_server() as local, terminal(service, "listen", local.url, "--queue", queue) as screen:
        screen.see("q quit")
        first = publish(service, queue, {"order": 17})
        screen.see(f"{first} selected")
        second = publish(service, queue, {"order": 18})
        screen.see(f"{second} selected")
        screen.press("k\r")
        screen.see(f"{first} selected")
        screen.see('"order": 17')
        screen.press("jq")
        assert screen.process.wait(PATIENCE_SECONDS) == 0


def test_sequences_are_one_key_each() -> None:
    assert keys_in(b"k\x1b[A\x1bOBj\r\x1b[1;5A\x1b") == [b"k", b"\x1b[A", b"\x1bOB", b"j", b"\r", b"\x1b[1;5A", b"\x1b"]
