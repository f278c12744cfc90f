"""A folder in memory, if there is room, for databases that need not survive the machine."""

import shutil
from functools import cache
from pathlib import Path

_MEMORY = Path("/dev/shm")  # noqa: S108 - what is made there gets a name of its own
_NEEDED_BYTES = 4 << 30


@cache
def folder_in_memory() -> Path | None:
    """For new folders; None is wherever temporary files are.

    What was written is there after its process was killed, in memory as on disk. But a disk takes its time for every
    commit and every new file: where others write to it, too, many times as long as the rest of a test.
    """
    try:
        free = shutil.disk_usage(_MEMORY).free
    except FileNotFoundError:
        return None
    return _MEMORY if free >= _NEEDED_BYTES else None
