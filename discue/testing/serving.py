"""The test kit without pytest."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from discue.testing.kit import Kit
from discue.testing.pool import ServerPool
from discue.testing.remote import RemoteServer


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
    server = RemoteServer(url, api_key)
    try:
        kit = Kit(server)
        try:
            yield kit
        finally:
            kit.close()
    finally:
        server.stop()
