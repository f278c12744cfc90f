"""Room on the disk of a SQLite database: a start waits for it, because it writes before it serves."""

import asyncio
import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from discue.observability.logs import Log

ROOM_BYTES: Final = 1 << 20
"""Enough for a new database with its journal. A migration of a large one needs more."""

_RETRY_SECONDS: Final = 1.0
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def lacks_room(database: Path) -> str:
    """Return which limit keeps a file of that size from being written next to the database, or "".

    Writes a temporary file. Other errors are ignored here: opening the database reports them.
    """
    try:
        # Unbuffered: closing a buffered file would try, and fail, to write once more.
        with tempfile.TemporaryFile(dir=database.parent, buffering=0) as file:
            written = 0
            while written < ROOM_BYTES:
                written += file.write(bytes(ROOM_BYTES - written))
    except OSError as error:
        return os.strerror(error.errno) if error.errno in _FULL else ""
    return ""


async def wait_for_room(database: Path, log: Log, stop: asyncio.Event) -> bool:
    """Wait until there is room. Returns False if the process was asked to stop instead."""
    has_waited = False
    while reason := lacks_room(database):
        log.warning("disk_full", database=str(database), reason=reason, detail="Free 1 MiB: the start waits for it.")
        has_waited = True
        with suppress(TimeoutError):
            async with asyncio.timeout(_RETRY_SECONDS):
                await stop.wait()
        if stop.is_set():
            return False
    if has_waited:
        log.info("disk_has_room", database=str(database))
    return True
