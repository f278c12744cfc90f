"""What `discue check` finds."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from discue.cli.invocation import Invocation
from discue.store.migrations import DatabaseInspection


class Finding(NamedTuple):
    """What one look brought. `subject` is a setting, or a part of the machine."""

    subject: str
    detail: str
    is_problem: bool


Check = Callable[[Invocation], Iterator[Finding]]


def schema_state(found: DatabaseInspection) -> str:
    """Which version of the schema a database has, and what comes next."""
    state = f"its schema has version {found.version}"
    return f"{state}, and the next start applies {', '.join(found.pending)}" if found.pending else state
