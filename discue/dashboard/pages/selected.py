"""Actions on the rows that were selected in a list. Each shows a preview, and says what could not be done."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from discue.control import listeners, redeliveries
from discue.control.listeners import ListenerFields
from discue.control.redeliveries import RedeliveryParams
from discue.dashboard.route import PageRoute
from discue.dashboard.visit import PER_PAGE, Page, Redirect, Visit
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
        """The names of its fields."""
        own = f"{PICK}{self.queue}.{self.listener}"
        return [f"{own}.{each}" for each in self.messages] or [own]


class SelectionOutcome(NamedTuple):
    """The result of the action on one listener."""

    selected: SelectedListener
    problem: str
    """The reason why it was not done; "" if it was."""


Do = Callable[[Visit, SelectedListener], Awaitable[object]]


class SelectionAction(NamedTuple):
    """An action on all rows of a selection."""

    name: str
    """The last step of the page's path."""
    heading: str
    done: str
    """The action in the past tense."""
    explanation: str
    do: Do
    back: str
    """The path of the list."""
    then: str
    """The path to go to when all is done."""
    notice: str
    of_messages: bool = False
    """Whether the rows are messages that listeners have missed, rather than listeners."""


async def _redeliver(visit: Visit, selected: SelectedListener) -> object:
    params = RedeliveryParams(messages=selected.messages)
    try:
        return await redeliveries.create(visit.control, visit.principal, (selected.queue, selected.listener), params)
    except Unprocessable as error:
        # The message of the API names a place in the request, which no page shows.
        detail = "A selected message was deleted, or this listener has not missed it."
        raise Unprocessable(detail, code=error.code) from None


async def _set_status(visit: Visit, selected: SelectedListener, *, is_enabled: bool) -> object:
    fields = ListenerFields(status="enabled" if is_enabled else "disabled")
    return await listeners.change(visit.control, visit.principal, selected.queue, selected.listener, fields=fields)


async def _show(visit: Visit, action: SelectionAction, outcomes: Sequence[SelectionOutcome] = ()) -> Page:
    selected = [each.selected for each in outcomes] or _selected(visit, action)
    names = await listeners.names(visit.control, visit.principal, {each.listener for each in selected})
    if selected and not names:
        raise NotFound("None of the selected listeners exists.")
    selected = [each for each in selected if each.listener in names]
    values = {
        "action": action,
        "selected": selected,
        "count": sum(len(each.messages) for each in selected) if action.of_messages else len(selected),
        "outcomes": outcomes,
        "names": names,
    }
    return Page("selected.html", action.heading, values)


async def _act(visit: Visit, action: SelectionAction) -> Page | Redirect:
    """Act on one listener after the other: a failure of one does not keep the others from it."""
    outcomes = []
    for each in _selected(visit, action):
        try:
            await action.do(visit, each)
        except DiscueError as error:
            outcomes.append(SelectionOutcome(each, error.detail))
        else:
            outcomes.append(SelectionOutcome(each, ""))
    if any(each.problem for each in outcomes):
        return await _show(visit, action, outcomes)
    return Redirect(action.then, action.notice if outcomes else "")


def _selected(visit: Visit, action: SelectionAction) -> list[SelectedListener]:
    """Return the listeners of the selected rows, in their order. Raises Unprocessable for a row that is none."""
    found: dict[tuple[str, str], list[str]] = {}
    names = [each for each in (visit.form or visit.query) if each.startswith(PICK)]
    if len(names) > PER_PAGE:
        raise Unprocessable(f"The selection has more than the {PER_PAGE} rows of a page.", code="too_many")
    for name in names:
        ids = name.removeprefix(PICK).split(".")
        if len(ids) != (3 if action.of_messages else 2) or not all(map(is_public_id, ids)):
            raise Unprocessable("The selection has a row that is not in the list.", code="invalid_value")
        found.setdefault((ids[0], ids[1]), []).extend(ids[2:])
    return [SelectedListener(*key, tuple(messages)) for key, messages in found.items()]


_ACTIONS: Final = (
    SelectionAction(
        "redeliver",
        "Redeliver the selection",
        "redelivered",
        "The messages are sent again. Attempts are counted from the first.",
        _redeliver,
        "/missed",
        "/jobs",
        "selection_redelivering",
        of_messages=True,
    ),
    SelectionAction(
        "disable",
        "Disable the selection",
        "disabled",
        "Nothing is sent to these listeners until they are enabled. Their messages wait for them.",
        partial(_set_status, is_enabled=False),
        "/listeners",
        "/listeners",
        "selection_disabled",
    ),
    SelectionAction(
        "enable",
        "Enable the selection",
        "enabled",
        "These listeners receive messages again, starting with those that have waited.",
        partial(_set_status, is_enabled=True),
        "/listeners",
        "/listeners",
        "selection_enabled",
    ),
)

ROUTES: Final = tuple(
    PageRoute(
        f"{action.back}/{action.name}",
        partial(_show, action=action),
        partial(_act, action=action),
        needs="listeners",
        is_form=True,
    )
    for action in _ACTIONS
)
