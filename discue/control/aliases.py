"""Names in paths: which resources the steps of a path name, by id or by alias."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from discue.control.context import ControlContext
from discue.domain.ids import is_public_id
from discue.domain.scopes import Principal
from discue.domain.suggestions import suggestion
from discue.store import aliases
from discue.store.aliases import ANY_ORGANIZATION, NamedKind
from discue.store.engine import Transaction

UNKNOWN = ""
"""The id of what an unknown alias names. It is no target of a scope."""


_NEIGHBOURS: Final = 25


class PathStep(NamedTuple):
    """A step of a path that names a resource. `kind` is None for resources that only ids name."""

    text: str
    kind: NamedKind | None


async def ids_of(control: ControlContext, principal: Principal, steps: Sequence[PathStep]) -> tuple[str, ...]:
    """Return the ids of what the steps name: of the caller's organization, UNKNOWN for aliases that name nothing.

    A step with the form of an id is returned as it is, also if it names nothing.
    """

    async def work(tx: Transaction) -> tuple[str, ...]:
        ids: list[str] = []
        for step in steps:
            is_id = step.kind is None or is_public_id(step.text)
            ids.append(step.text if is_id else await _by_alias(tx, principal, step, ids))
        return tuple(ids)

    return await control.store.read(work)


async def ids_of_lookalikes(
    control: ControlContext, principal: Principal, steps: Sequence[PathStep]
) -> tuple[str, ...]:
    """Like `ids_of`, also for aliases with the form of an id. An id wins over an equal alias."""

    async def work(tx: Transaction) -> tuple[str, ...]:
        ids: list[str] = []
        for step in steps:
            found = step.text
            if step.kind is not None and not await aliases.has_id(tx, step.kind, _scope(principal, step), step.text):
                found = await _by_alias(tx, principal, step, ids) or found
            ids.append(found)
        return tuple(ids)

    return await control.store.read(work)


async def similar_alias(control: ControlContext, principal: Principal, step: PathStep, parent: str) -> str:
    """Return "; did you mean ALIAS?" for an alias that names nothing; "" if none is similar, as far as is looked.

    Looks at some aliases before and after it in their order, however many there are, and only for a caller who may
    list them all. `parent` is the public id of the queue that a listener is in.
    """
    kind = step.kind
    if kind not in ("queue", "listener", "topic") or not principal.allows_all(f"{kind}s", "read"):
        return ""
    found = await control.store.read(
        lambda tx: aliases.neighbours(tx, kind, principal.organization, step.text, parent=parent, most=_NEIGHBOURS)
    )
    return suggestion(step.text, found)


async def _by_alias(tx: Transaction, principal: Principal, step: PathStep, before: Sequence[str]) -> str:
    if step.kind is None or UNKNOWN in before:
        return UNKNOWN
    parent = before[-1] if before else ""
    found = await aliases.find(tx, step.kind, _scope(principal, step), step.text, parent=parent)
    return UNKNOWN if found is None else found.public_id


def _scope(principal: Principal, step: PathStep) -> int:
    is_everywhere = step.kind == "organization" and principal.is_operator
    return ANY_ORGANIZATION if is_everywhere else principal.organization
