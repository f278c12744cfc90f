"""The messages that listeners have missed: dead letters, of all queues."""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from discue.control import messages, search
from discue.control.search import Kind
from discue.dashboard.listing import NO_ROWS, between, noting_faults, selection_of, shown
from discue.dashboard.visit import Page, PageRoute, Visit
from discue.domain.errors import invalid
from discue.domain.ids import is_public_id
from discue.domain.model import MISSED_REASONS
from discue.domain.reservations import GROUPS
from discue.store.missed_groups import MissedGroup

_FILTERS: Final = ("listener", "queue", "reason", "group", "since", "until")


async def show(visit: Visit) -> Page:
    filters = {name: visit.query.get(name, "").strip() for name in _FILTERS}
    selection = between(visit, selection_of(visit, *_FILTERS))
    for name, given in (("listener", selection.listener), ("queue", selection.queue)):
        if given is not None:
            with noting_faults(visit):
                found_id = {name: await _id_of(visit, name, given)}
                # Links to other pages have the id, which need not be found again.
                visit.query = {**visit.query, **found_id}
                selection = replace(selection, **found_id)
    found = NO_ROWS
    if not visit.wrong:
        with noting_faults(visit):
            found = await messages.page_of_all_missed(visit.control, visit.principal, selection)
    causes: Sequence[MissedGroup] = ()
    if not any(filters.values()) and not {"after", "before"} & visit.query.keys():
        if visit.reservation is not None:
            await visit.reservation.enlarge(GROUPS)
        causes = (await messages.page_of_missed_groups(visit.control, visit.principal)).items
    # The positions in this list are not ids of messages: the same message may be missed by several listeners.
    page = shown(visit, found, [], *_FILTERS)
    values = {"list": page, "filters": filters, "reasons": MISSED_REASONS, "causes": causes}
    return Page("missed.html", "Missed", values, is_live=True)


async def _id_of(visit: Visit, name: str, given: str) -> str:
    """Return the id of the listener or the queue with an id or a name. Raises Unprocessable unless there is one."""
    if is_public_id(given):
        return given
    kind: Kind = "listeners" if name == "listener" else "queues"
    found = [*getattr(await search.find(visit.control, visit.principal, given, [kind]), kind)]
    if not found:
        raise invalid(f"/{name}", f"is not the name or id of a {name}")
    if len(found) > 1:
        raise invalid(f"/{name}", f"is the name of several {kind}: give the id of one")
    public_id: str = found[0].public_id
    return public_id


ROUTES: Final = (PageRoute("/missed", show, needs="listeners"),)
