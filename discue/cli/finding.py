"""Results of `discue check`."""

from typing import NamedTuple


class Finding(NamedTuple):
    """A result of a check. `subject` is a setting or a part of the machine."""

    subject: str
    detail: str
    is_problem: bool
