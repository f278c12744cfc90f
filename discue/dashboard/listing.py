"""Lists on pages: which part of a list a query asks for, and the links to its neighbours."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from discue.control import search
from discue.dashboard.fields import instant_of
from discue.dashboard.visit import PER_PAGE, Visit
from discue.domain.errors import BadRequest, Fault, Unprocessable, invalid
from discue.domain.ids import is_public_id
from discue.domain.model import MISSED_REASONS
from discue.store.aliases import OfferedKind
from discue.store.missed_scan import POSITION_PATTERN
from discue.store.pagination import Listing, Selection

_TEXTS: Final = ("alias", "key", "reason", "state", "outcome", "status", "listener", "queue", "group")
_POSITION: Final = re.compile("[0-9A-Za-z]{1,64}")

STATES: Final = ("pending", "retrying", "missed", "acknowledged", "no_listeners")
_CHOICES: Final[Mapping[str, Sequence[str]]] = {
    "outcome": ("acknowledged", "failed"),
    "reason": MISSED_REASONS,
    "state": STATES,
}
_STATUS: Final = re.compile(r"[1-5][0-9]{2}|[1-5]xx|0")
STATUS_RULE: Final = "must be a status such as 503, a class such as 5xx, or 0 for no response"

NO_ROWS: Final = Listing[Any]((), has_next=False, has_previous=False)
"""The page of a list whose filters are wrong."""


@dataclass(frozen=True, slots=True)
class ShownList:
    items: Sequence[Any]
    newer: str
    """The query of the page with newer items; "" if there is none. The same for `older`."""
    older: str


def selection_of(visit: Visit, *names: str, per_page: int = PER_PAGE) -> Selection:
    """Return the part of a list that the query asks for. Filters other than `names` are ignored.

    A filter with a value that it cannot have is left out and noted in `visit.wrong`: the list is `NO_ROWS` then.
    """
    given = {name: value.strip() for name, value in visit.query.items() if value.strip()}
    chosen: dict[str, Any] = {}
    for name in _TEXTS:
        if name in names and name in given:
            with noting_faults(visit):
                chosen[name] = _checked(name, given[name])
    position = next((name for name in ("after", "before") if _POSITION.fullmatch(given.get(name, ""))), None)
    if position is not None:
        chosen[position] = given[position]
    return msgspec.structs.replace(Selection(per_page=per_page), is_linked=True, **chosen)


def between(visit: Visit, selection: Selection) -> Selection:
    """Return the selection limited to the time after `since` and before `until` of the query. Notes invalid times."""
    for name in ("since", "until"):
        if text := visit.query.get(name, "").strip():
            with noting_faults(visit):
                at = instant_of(text, f"/{name}")
                bound = {"created_after": at} if name == "since" else {"created_before": at}
                selection = msgspec.structs.replace(selection, **bound)
    return selection


@contextmanager
def noting_faults(visit: Visit) -> Iterator[None]:
    """Note what the block finds wrong with values of the query, so that the page is shown with the faults."""
    try:
        yield
    except (BadRequest, Unprocessable) as error:
        if not error.faults:
            raise
        # The field of a parameter has the same name.
        faults = tuple(Fault(re.sub(r"^\?", "/", fault.pointer), fault.detail) for fault in error.faults)
        visit.wrong.append(Unprocessable(error.detail, code=error.code, faults=faults))


def _checked(name: str, value: str) -> str:
    """Return the value of a filter. Raises Unprocessable for one that it cannot have."""
    choices = _CHOICES.get(name)
    if choices is not None and value not in choices:
        raise invalid(f"/{name}", f"must be one of {', '.join(choices)}")
    if name == "group" and re.fullmatch(POSITION_PATTERN, value) is None:
        raise invalid("/group", "must be the id of a group")
    if name == "status" and not is_status(value):
        raise invalid("/status", STATUS_RULE)
    return value


def is_status(text: str) -> bool:
    """Return whether a text is the status of an attempt, or stands for several of them."""
    return _STATUS.fullmatch(text) is not None


def shown(visit: Visit, found: Listing[Any], ids: Sequence[str], *names: str) -> ShownList:
    """Return a page with its links. `ids` are those of the items, in their order; filters of `names` are kept."""
    kept = {name: value for name, value in visit.query.items() if name in names and value.strip()}
    after = found.resumes_after or (ids[-1] if ids else None)
    before = found.resumes_before or (ids[0] if ids else None)
    return ShownList(
        found.items,
        _query(kept, "before", before) if found.has_previous else "",
        _query(kept, "after", after) if found.has_next else "",
    )


async def names_offered(visit: Visit, kind: OfferedKind, page: ShownList) -> Sequence[str]:
    """Return the names that begin with the one that a list is filtered by, if nothing has exactly that name."""
    text = visit.query.get("alias", "").strip()
    if page.items or not text:
        return ()
    found = await search.beginning_with(visit.control, visit.principal, text, [kind])
    return tuple(dict.fromkeys(each.alias for each in found))


def _query(kept: Mapping[str, str], name: str, position: str | None) -> str:
    return "" if position is None else "?" + urlencode({**kept, name: position})


def id_given(visit: Visit, name: str) -> str:
    """Return an id that a form names; "" without one. Raises Unprocessable for a text that is none."""
    given = visit.form.get(name, visit.query.get(name, "")).strip()
    if given and not is_public_id(given):
        raise invalid(f"/{name}", "must be an id")
    return given
