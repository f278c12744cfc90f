"""Actions on the rows that were selected in a list. Each shows a preview, and says what could not be done.

The portal shows its own actions with the same functions.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from discue.control import listeners
from discue.control.jobs import REDELIVERIES, RedeliveryParams
from discue.control.listener_fields import ListenerFields
from discue.dashboard.visit import PER_PAGE, Page, Redirect, Visit, form_route
from discue.domain.errors import DiscueError, NotFound, Unprocessable
from discue.domain.ids import is_public_id

PICK: Final = "pick-"
"""The names of fields for rows begin with it; the ids of queue, listener and message follow, separated by dots."""


@dataclass(frozen=True, slots=True)
class SelectedListener:
    """A listener of the selection, with the selected messages that it has missed."""

    queue: str
    listener: str
    messages: tuple[str, ...]

    @property
    def picks(self) -> list[str]:
        own = f"{PICK}{self.queue}.{self.listener}"
        return [f"{own}.{each}" for each in self.messages] or [own]


Do = Callable[[Visit, SelectedListener], Awaitable[object]]
Names = Callable[[Visit, Collection[str]], Awaitable[Mapping[str, str]]]
"""Returns the names of listeners by their ids, without those that the user may not see."""


class SelectionAction(NamedTuple):
    name: str
    """The last step of the page's path, which also begins its heading."""
    done: str
    """The action in the past tense."""
    explanation: str
    do: Do
    back: str
    """The path of the list. In a path, `{id}` stands for an id of the page's own path."""
    then: str
    """The path to go to when all is done."""
    notice: str
    names: Names
    of_messages: bool = False
    """Whether the rows are messages that listeners have missed, rather than listeners."""


async def _redeliver(visit: Visit, selected: SelectedListener) -> object:
    path, params = (selected.queue, selected.listener), RedeliveryParams(messages=selected.messages)
    try:
        return await REDELIVERIES.create(visit.control, visit.principal, path, params)
    except Unprocessable as error:
        # The message of the API names a place in the request, which no page shows.
        detail = "A selected message was deleted, or was not missed."
        raise Unprocessable(detail, code=error.code) from None


async def _set_status(visit: Visit, selected: SelectedListener, *, is_enabled: bool) -> object:
    fields = ListenerFields(status="enabled" if is_enabled else "disabled")
    return await listeners.change(visit.control, visit.principal, selected.queue, selected.listener, fields=fields)


async def _names(visit: Visit, ids: Collection[str]) -> Mapping[str, str]:
    names = await listeners.names(visit.control, visit.principal, ids)
    if ids and not names:
        raise NotFound("None of the selected listeners exists.")
    return names


async def show(visit: Visit, action: SelectionAction) -> Page:
    selected = _selected(visit, action)
    names = await action.names(visit, {each.listener for each in selected})
    return _page(visit, action, [each for each in selected if each.listener in names], names)


async def act(visit: Visit, action: SelectionAction) -> Page | Redirect:
    """Act on one listener after the other: a failure of one does not keep the others from it."""
    selected, outcomes = _selected(visit, action), []
    names = await action.names(visit, {each.listener for each in selected})
    for each in selected:
        problem = ""
        try:
            await action.do(visit, each)
        except DiscueError as error:
            problem = error.detail
        outcomes.append((each, problem))
    if any(problem for _, problem in outcomes):
        return _page(visit, action, selected, names, outcomes=outcomes)
    return Redirect(_filled(visit, action.then), action.notice if outcomes else "")


def _page(
    visit: Visit,
    action: SelectionAction,
    selected: Sequence[SelectedListener],
    names: Mapping[str, str],
    *,
    outcomes: Sequence[tuple[SelectedListener, str]] = (),
) -> Page:
    """Show a preview, or the `outcomes`: for each listener the reason why it was not done; "" if it was."""
    values = {
        "action": action,
        "back": _filled(visit, action.back),
        "selected": selected,
        "count": sum(len(each.messages) for each in selected) if action.of_messages else len(selected),
        "outcomes": outcomes,
        "names": names,
    }
    return Page("selected.html", f"{action.name.capitalize()} the selection", values)


def _filled(visit: Visit, path: str) -> str:
    return path.replace("{id}", "{}").format(*visit.ids)


def _selected(visit: Visit, action: SelectionAction) -> list[SelectedListener]:
    """Return the listeners of the selected rows, in their order. Raises Unprocessable for a row that is none."""
    found: dict[tuple[str, str], list[str]] = {}
    names = [each for each in (visit.form or visit.query) if each.startswith(PICK)]
    if len(names) > PER_PAGE:
        raise Unprocessable(f"The selection has more than the {PER_PAGE} rows of a page.", code="too_many")
    for name in names:
        ids = name.removeprefix(PICK).split(".")
        is_row = len(ids) == (3 if action.of_messages else 2) and all(map(is_public_id, ids))
        # The list of one listener has no rows of others.
        if not is_row or tuple(ids[: len(visit.ids)]) != visit.ids:
            raise Unprocessable("The selection has a row that is not in the list.", code="invalid_value")
        found.setdefault((ids[0], ids[1]), []).extend(ids[2:])
    return [SelectedListener(*key, tuple(messages)) for key, messages in found.items()]


REDELIVER: Final = SelectionAction(
    "redeliver",
    "redelivered",
    "The messages are sent again. The attempt number starts again at 1.",
    _redeliver,
    "/missed",
    "/jobs",
    "selection_redelivering",
    _names,
    of_messages=True,
)

_ACTIONS: Final = (
    REDELIVER,
    SelectionAction(
        "disable",
        "disabled",
        "Nothing is sent to these listeners until they are enabled. Their messages wait for them.",
        partial(_set_status, is_enabled=False),
        "/listeners",
        "/listeners",
        "selection_disabled",
        _names,
    ),
    SelectionAction(
        "enable",
        "enabled",
        "These listeners receive messages again, first those that have waited.",
        partial(_set_status, is_enabled=True),
        "/listeners",
        "/listeners",
        "selection_enabled",
        _names,
    ),
)

ROUTES: Final = tuple(
    form_route(f"{action.back}/{action.name}", partial(show, action=action), partial(act, action=action), "listeners")
    for action in _ACTIONS
)
