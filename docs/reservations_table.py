"""The table of reservations in docs/architecture/event-loop-limits.md: what each route reserves before it reads."""

from collections.abc import Iterator
from typing import Final

from discue.dashboard.pages import ROUTES as PAGES
from discue.dashboard.portal.pages import ROUTES as PORTAL_PAGES
from discue.domain import reservations
from discue.domain.reservations import PageBound, Publishes, ReadBound, Reads
from discue.product import ROUTES

_KINDS: Final = (ReadBound, PageBound, Publishes)
_NAMED: Final = 6
"""The largest number of routes in a cell. A reservation with more routes shows their number."""


def reservations_table() -> str:
    """Return a row for each bound that a route declares. Raises LookupError for a bound without a name."""
    # Compared by identity: bounds with different names may be equal.
    names = {id(value): name for name, value in vars(reservations).items() if isinstance(value, _KINDS)}
    routes = dict[str, list[str]]()
    for reads, route in _routes():
        if id(reads) not in names:
            raise LookupError(f"{route} reads {reads}: name it in discue/domain/reservations.py.")
        routes.setdefault(names[id(reads)], []).append(route)
    head = "| reservation | waits for a turn | memory, bytes | routes |\n| --- | --- | --- | --- |\n"
    declared = ((name, getattr(reservations, name)) for name in names.values() if name in routes)
    return head + "".join(
        f"| `{name}` | {_waits(reads)} | {_memory(reads)} | {_shown(routes[name])} |\n" for name, reads in declared
    )


def _routes() -> Iterator[tuple[Reads, str]]:
    for route in ROUTES:
        yield route.reads, f"`{'/'.join(route.methods)} {route.path}`"
    for root, pages in (("/dashboard", PAGES), ("/portal", PORTAL_PAGES)):
        for page in pages:
            yield reservations.HTML_PAGE, f"`{root}{page.path}`"


def _waits(reads: Reads) -> str:
    if isinstance(reads, Publishes):
        return "for a large body"
    return "yes" if isinstance(reads, PageBound) or reads.rows else "no"


def _memory(reads: Reads) -> str:
    if isinstance(reads, Publishes):
        return "in the queue of commits"
    if isinstance(reads, PageBound):
        data = f", and {reads.data_bytes:,} with data" if reads.data_bytes else ""
        return f"{reads.row_bytes:,} for each row of the page{data}"
    return f"{reads.bytes:,}{', then the size of the data and of its JSON' if reads is reservations.MESSAGE else ''}"


def _shown(routes: list[str]) -> str:
    return ", ".join(routes) if len(routes) <= _NAMED else f"{len(routes)} routes"
