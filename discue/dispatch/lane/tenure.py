"""What lanes must know of their worker's lease."""

from typing import Protocol


class WorkerLease(Protocol):
    """A worker's right to its cursors: `lease.Lease`."""

    @property
    def session_id(self) -> int:
        """Names this run of the worker in the rows of its cursors. Another one when it had to join afresh."""
        ...

    def is_held(self) -> bool:
        """Whether attempts may start now: nobody else can have taken the cursors over yet."""
        ...
