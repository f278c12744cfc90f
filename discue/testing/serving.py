"""Servers for test kits: one that tests share if they do not move its clock, or one in another process."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, Self

from discue.testing.kit import Kit
from discue.testing.remote import RemoteServer
from discue.testing.server import InProcessServer, ServerDied


class ServerPool:
    """Starts a server when a test needs one, and another one after a test that has moved its clock or ended it."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self.server: InProcessServer | None = None
        """The running server; None before the first test and after one that has used it up."""
        self._stopping: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.server is not None:
            self.server.stop()
        for thread in self._stopping:
            thread.join()

    @contextmanager
    def kit(self) -> Iterator[Kit]:
        """Yield a kit on a server whose clock is that of the machine."""
        server = self._running()
        kit = Kit(server)
        try:
            yield kit
        finally:
            try:
                kit.close(server_ends=server.timeline.is_moved)
            except ServerDied:
                # The test has ended it on purpose, or failed because of it. Its connections are still open.
                self.server = None
                server.stop()
            except BaseException:
                # It may still call what the test has left behind.
                self._retire(server)
                raise
            else:
                if server.timeline.is_moved:
                    self._retire(server)

    def _running(self) -> InProcessServer:
        if self.server is None:
            server = InProcessServer(**self._settings)
            server.start()
            self.server = server
        return self.server

    def _retire(self, server: InProcessServer) -> None:
        self.server = None
        # The next test need not wait.
        thread = threading.Thread(target=server.stop, name="discue-stop")
        thread.start()
        self._stopping.append(thread)


@contextmanager
def serve(**settings: Any) -> Iterator[Kit]:
    """Run discue in this process while the block runs. `settings` are those of `discue serve`, such as `port`.

    Raises an error that says why if it cannot start, for instance because the port is in use.
    """
    with ServerPool(**settings) as pool, pool.kit() as kit:
        yield kit


@contextmanager
def connect(url: str, api_key: str) -> Iterator[Kit]:
    """Use a server in another process, `discue dev --ephemeral`, with the URL and the key that it has printed."""
    with closing(RemoteServer(url, api_key)) as server, closing(Kit(server)) as kit:
        yield kit
