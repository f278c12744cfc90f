"""The attempts to all listeners in a time range. The bars of the overview's chart link to this page."""

from collections.abc import Mapping, Sequence
from typing import Final

from discue.dashboard.listing import NO_ROWS, between, selection_of, shown
from discue.dashboard.visit import Page, PageRoute, Visit
from discue.domain.attempts import StoredAttempt
from discue.domain.errors import Forbidden
from discue.domain.ids import row_id_up_to
from discue.domain.model import JobListener
from discue.store import attempts
from discue.store.engine import Transaction
from discue.store.pagination import Listing
from discue.store.tables import by_index, rows_given

_FILTERS: Final = ("outcome", "status", "since", "until")
# A given row is the organization and the id of an attempt.
_LISTENERS: Final = f"""
    SELECT a.id, l.public_id, l.alias, q.public_id FROM ({{}}) AS given
    JOIN attempt a ON {by_index("a.organization", "given.column1")} AND a.id = given.column2
    JOIN listener l ON {by_index("l.organization", "given.column1")} AND l.id = a.listener AND l.deleted_at IS NULL
    JOIN queue q ON {by_index("q.organization", "given.column1")} AND q.id = l.queue"""


async def show(visit: Visit) -> Page:
    if not visit.principal.allows_all("listeners", "read"):
        raise Forbidden("This page shows the attempts to all listeners. You may see only some listeners.")
    organization, selection = visit.principal.organization, between(visit, selection_of(visit, "outcome", "status"))
    found: Listing[StoredAttempt] = NO_ROWS
    if not visit.wrong:
        found = await visit.control.store.search(lambda tx: attempts.of_organization(tx, organization, selection))
    values = {
        "list": shown(visit, found, [each.id for each in found.items], *_FILTERS),
        "listeners": await visit.control.store.read(lambda tx: listeners_of(tx, organization, found.items)),
        "filters": {name: visit.query.get(name, "").strip() for name in _FILTERS},
    }
    values["kept"] = visit.control.settings.attempt_retention_seconds * 1_000
    return Page("all_attempts.html", "Attempts", values)


async def listeners_of(tx: Transaction, organization: int, made: Sequence[StoredAttempt]) -> Mapping[str, JobListener]:
    """Read the listeners of attempts, by the ids of the attempts. Deleted listeners are absent."""
    ids = {row_id_up_to(each.id): each.id for each in made}
    rows = await rows_given(tx, _LISTENERS, (organization,), [(each,) for each in ids])
    return {ids[row_id]: JobListener(*listener) for row_id, *listener in rows}


ROUTES: Final = (PageRoute("/attempts", show, needs="listeners"),)
