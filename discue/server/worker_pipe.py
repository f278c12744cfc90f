"""Where one of several workers stands: what it knows of its parent, and tells it."""

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from discue.config.settings import Settings
from discue.dispatch.cluster.ownership import Predecessors

SERVES: Final = b"serves"


def all_before(settings: Settings) -> Predecessors:
    """For whoever begins to serve a database. A file nobody else has (`alone_on`): whoever was there is gone."""
    return () if settings.database_path is None else "all"


@dataclass(frozen=True, slots=True)
class WorkerPipe:
    """One worker's. Its `leash` is a descriptor that becomes readable when the parent drains, or is gone."""

    number: int
    predecessors: Predecessors
    parent_pipe: int
    reports: int

    def report_session_id(self, session_id: int) -> None:
        """To be called before anything is written under it: then it is known who died when this process did."""
        self._tell(b"%d" % session_id)

    def report_serving(self) -> None:
        self._tell(SERVES)

    def _tell(self, word: bytes) -> None:
        # Without a parent there is nobody to tell, and the leash has ended.
        with suppress(BrokenPipeError):
            os.write(self.reports, word + b"\n")
