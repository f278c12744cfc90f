"""The connection between a worker process and its parent."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from discue.dispatch.ownership import Predecessors

SERVES: Final = b"serves"
BEATS: Final = b"beats"


@dataclass(frozen=True, slots=True)
class WorkerPipe:
    """A worker's connection to its parent."""

    number: int
    """Number of the worker, from 1."""
    predecessors: Predecessors
    """Earlier workers that are known to have ended."""
    parent_pipe: int
    """Descriptor that becomes readable when the parent drains or ends."""
    reports: int
    """Descriptor for reports to the parent."""
    folder: Path
    """A folder of the installation's workers on this machine, for sockets."""
    beat_seconds: float = 0.0
    """Time between two calls of `report_beat`; 0: the parent expects none."""

    def report_session_id(self, session_id: int) -> None:
        """Report the session id. Call this before anything is stored under it, so that the parent knows what died."""
        self._write(b"%d" % session_id)

    def report_serving(self) -> None:
        """Report that the worker serves requests."""
        self._write(SERVES)

    def report_beat(self) -> None:
        """Report that the event loop of the worker runs."""
        self._write(BEATS)

    def _write(self, word: bytes) -> None:
        # A broken pipe means that the parent has ended: `parent_pipe` says so, too.
        with suppress(BrokenPipeError):
            os.write(self.reports, word + b"\n")
