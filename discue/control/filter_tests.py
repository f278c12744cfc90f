"""Trying a filter: would a listener get a message, and what does each condition say?"""

import msgspec

from discue.control import listeners, messages
from discue.control.context import ControlContext
from discue.domain.filters.filters import ConditionResult, Filter
from discue.domain.filters.reading import read_filter
from discue.domain.model import Entry
from discue.domain.scopes import Principal
from discue.store.message_log import entry_like


class FilterTest(msgspec.Struct, frozen=True):
    """A filter, None for the listener's own, and what to try it on: a message that is made up, or the id of one."""

    filter: str | None
    message: Entry | str


class FilterTestResult(msgspec.Struct, frozen=True):
    """Whether the message is let through, and for each condition whether it holds on its own."""

    matches: bool
    answers: tuple[ConditionResult, ...] = ()


async def try_filter(
    control: ControlContext, principal: Principal, path: tuple[str, str], trial: FilterTest
) -> FilterTestResult:
    """Of the listener at `path`. A stored message must be one that the caller may read.

    Raises Unprocessable for a filter that is none.
    """
    details = await listeners.get(control, principal, *path)
    chosen = None if trial.filter is None else read_filter(trial.filter.encode(), "/filter")
    entry = trial.message
    if isinstance(entry, str):
        entry = entry_like((await messages.get(control, principal, path[0], entry)).message)
    text = details.listener.options.filter
    if chosen is None and text is not None:
        chosen = read_filter(text.encode(), "/filter")
    if chosen is None:
        return FilterTestResult(matches=True)
    found = Filter(chosen)
    return FilterTestResult(found.takes(entry), tuple(found.answers(entry)))
