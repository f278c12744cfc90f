"""The names in a list of events: who caused each, and where its resource is, as far as the caller may read them."""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from discue.control.context import ControlContext
from discue.domain.scopes import Principal
from discue.store import api_keys, listeners, users
from discue.store.engine import Transaction
from discue.store.events import UsageEvent


class EventNames(msgspec.Struct, frozen=True):
    """Names for the ids in events. Ids of deleted resources are absent."""

    users: Mapping[str, str]
    """The names of users, or their emails, by their ids."""
    keys: Mapping[str, str]
    """The aliases of API keys by their ids."""
    queues: Mapping[str, str]
    """The ids of the queues that listeners are in, by the ids of the listeners."""


async def names_of(control: ControlContext, principal: Principal, events: Sequence[UsageEvent]) -> EventNames:
    """Return the names for a page of events, with at most one statement for each kind."""
    authors = _readable(principal, "users", {each.user for each in events})
    clients = _readable(principal, "api_keys", {each.client for each in events})
    changed = _readable(principal, "listeners", {each.ref for each in events if each.subject == "listener"})

    async def work(tx: Transaction) -> EventNames:
        own = principal.organization
        return EventNames(
            await users.names_of(tx, own, authors),
            await api_keys.aliases_of(tx, own, clients),
            await listeners.queues_of(tx, own, changed),
        )

    return await control.store.read(work)


def _readable(principal: Principal, resource: str, public_ids: Collection[str]) -> list[str]:
    return sorted(each for each in public_ids if each and principal.may(resource, "read", each))
