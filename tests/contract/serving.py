"""Services that the suite runs against without a given URL: `discue serve`, as real processes."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.cli.commands import serving
from tests.support.postgres.fixtures import new_database, shared_cluster

KEY = "dsk_" + "c" * 60
PROXY = "127.255.0.1"
"""The loopback address that the services trust as a proxy. Strangers use other addresses."""
SETTINGS = ("sqlite", "postgres", "three workers")


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
        options = (
            "--database",
            database,
            "--bootstrap-key",
            KEY,
            "--allow-private-targets",
            "--show-private-responses",
            "--tenant-organizations",
            "3",
            "--trusted-proxies",
            f"{PROXY}/32",
        )
        servers = [stack.enter_context(serving(folder, *options)) for _ in range(workers)]
        yield Installation(tuple(server.url.rstrip("/") for server in servers), KEY)
