"""Finds resources by id or alias: the resources of a path, and the resources that a caller may read."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Literal, NamedTuple, get_args

import msgspec

from discue.control.context import ControlContext, reading
from discue.domain.ids import is_public_id
from discue.domain.messages import StoredMessage
from discue.domain.model import Listener, Queue
from discue.domain.scopes import Principal
from discue.domain.suggestions import suggestion
from discue.store import aliases, listeners, messages, queues
from discue.store.aliases import ANY_ORGANIZATION, OFFERED_KINDS, NamedKind, NamedMatch, OfferedKind
from discue.store.engine import Transaction
from discue.store.pagination import Selection

SHOWN: Final = 10
"""The largest number of results of each kind."""

OFFERED: Final = 5
"""The largest number of names that are offered in place of one that nothing has."""

_RESOURCES: Final[Mapping[OfferedKind, str]] = {
    "queue": "queues",
    "listener": "listeners",
    "topic": "topics",
    "schedule": "messages",
    "user": "users",
}
"""The resource whose scope reads each kind."""
_OTHERS: Final[tuple[OfferedKind, ...]] = ("topic", "schedule", "user")
"""The kinds that `find` does not look for."""

Kind = Literal["queues", "listeners", "messages"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


class Found(msgspec.Struct, frozen=True):
    """The results of a search, the newest first."""

    queues: tuple[Queue, ...] = ()
    listeners: tuple[Listener, ...] = ()
    messages: tuple[StoredMessage, ...] = ()


async def find(control: ControlContext, principal: Principal, text: str, kinds: Collection[Kind] = KINDS) -> Found:
    """Return the queues, listeners and messages with this id or alias that the caller may read."""

    async def work(tx: Transaction) -> Found:
        return await (_by_id if is_public_id(text) else _by_name)(tx, principal.organization, text, kinds)

    found = await control.store.search(work)
    return Found(
        tuple(each for each in found.queues if principal.may("queues", "read", each.public_id)),
        tuple(
            each for each in found.listeners if principal.may("listeners", "read", each.public_id, each.queue_public_id)
        ),
        tuple(each for each in found.messages if principal.may("messages", "read", each.id, each.queue_public_id)),
    )


async def beginning_with(
    control: ControlContext,
    principal: Principal,
    beginning: str,
    kinds: Sequence[OfferedKind] = OFFERED_KINDS,
) -> Sequence[NamedMatch]:
    """Return at most `OFFERED` resources whose names begin with a text, as far as the caller may read them."""
    own = principal.organization
    found = await control.store.search(lambda tx: aliases.beginning_with(tx, kinds, own, beginning, most=OFFERED))
    return sorted(_readable(principal, found), key=lambda each: each.alias)[:OFFERED]


async def others_with_id(control: ControlContext, principal: Principal, public_id: str) -> Sequence[NamedMatch]:
    """Return the topic, the schedule and the user with an id, as far as the caller may read them."""
    own = principal.organization
    return _readable(principal, await control.store.search(lambda tx: aliases.with_id(tx, _OTHERS, own, public_id)))


def _readable(principal: Principal, found: Sequence[NamedMatch]) -> list[NamedMatch]:
    return [each for each in found if principal.may(_RESOURCES[each.kind], "read", each.public_id, each.queue)]


async def _by_id(tx: Transaction, organization: int, public_id: str, kinds: Collection[Kind]) -> Found:
    queue = await queues.get(tx, organization, public_id) if "queues" in kinds else None
    listener = await listeners.get(tx, organization, public_id) if "listeners" in kinds else None
    copies = await messages.copies_of(tx, organization, public_id, SHOWN) if "messages" in kinds else ()
    return Found((queue,) if queue else (), (listener,) if listener else (), tuple(copies))


async def _by_name(tx: Transaction, organization: int, name: str, kinds: Collection[Kind]) -> Found:
    named = Selection(alias=name, per_page=SHOWN)
    return Found(
        (await queues.page(tx, organization, named)).items if "queues" in kinds else (),
        (await listeners.page(tx, organization, named)).items if "listeners" in kinds else (),
        (await messages.page(tx, organization, named)).items if "messages" in kinds else (),
    )


UNKNOWN = ""
"""The id of what an unknown alias names. It is no target of a scope."""

_NEIGHBOURS: Final = 25


class PathStep(NamedTuple):
    """A step of a path that names a resource. `kind` is None for resources that only ids name."""

    text: str
    kind: NamedKind | None


@reading
async def ids_of(
    tx: Transaction, principal: Principal, steps: Sequence[PathStep], *, lookalikes: bool = False
) -> tuple[str, ...]:
    """Return the ids of the resources that the steps name in the caller's organization. UNKNOWN for unknown aliases.

    A step that looks like an id is returned unchanged, even if no resource has it. With `lookalikes`, aliases that look
    like ids are found as well. An id takes precedence over an equal alias.
    """
    ids: list[str] = []
    for step in steps:
        found = step.text
        if step.kind is not None and not is_public_id(found):
            found = await _by_alias(tx, principal, step, ids)
        elif (
            lookalikes
            and step.kind is not None
            and not await aliases.has_id(tx, step.kind, _scope(principal, step), found)
        ):
            found = await _by_alias(tx, principal, step, ids) or found
        ids.append(found)
    return tuple(ids)


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
