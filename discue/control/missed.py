"""The messages that listeners have missed."""

import msgspec

from discue.control.context import ControlContext
from discue.control.listeners import ListenerDetails, ListenerPath, own_with_facts, recipient_of
from discue.domain.errors import Forbidden
from discue.domain.scopes import Principal
from discue.store import attempts, missed
from discue.store.engine import Transaction
from discue.store.missed_messages import MissedMessage
from discue.store.pagination import FIRST_PAGE, Listing, Selection


async def page(
    control: ControlContext,
    principal: Principal,
    at: ListenerPath | ListenerDetails,
    selection: Selection = FIRST_PAGE,
) -> Listing[MissedMessage]:
    async def work(tx: Transaction) -> Listing[MissedMessage]:
        listener, facts = await own_with_facts(tx, principal, "read", at)
        found = await missed.page_of_listener(tx, recipient_of(listener, facts), selection)
        return await _with_failures(tx, principal.organization, found)

    return await control.store.search(work)


async def positions(
    control: ControlContext, principal: Principal, details: ListenerDetails, selection: Selection
) -> Listing[MissedMessage]:
    """Return the messages that a listener has missed like `page`, in fewer statements.

    The page continues at positions, as in the list of all listeners.
    """

    async def work(tx: Transaction) -> Listing[MissedMessage]:
        of = recipient_of(*await own_with_facts(tx, principal, "read", details))
        return await _with_failures(tx, principal.organization, await missed.page_of_one(tx, of, selection))

    return await control.store.search(work)


async def page_of_all(
    control: ControlContext, principal: Principal, selection: Selection = FIRST_PAGE
) -> Listing[MissedMessage]:
    """Return the messages that any listener of the organization has missed, as far as the caller may read it."""
    targets = principal.targets_of("listeners", "read")
    if principal.customer is not None:
        raise Forbidden("A customer sees the missed messages of one listener at a time.")

    async def work(tx: Transaction) -> Listing[MissedMessage]:
        found = await missed.page(tx, principal.organization, selection, targets)
        return await _with_failures(tx, principal.organization, found)

    return await control.store.search(work)


async def _with_failures(tx: Transaction, organization: int, found: Listing[MissedMessage]) -> Listing[MissedMessage]:
    """Add the last failed attempt of each message that was sent."""
    tried = [each.delivery for each in found.items if each.attempts]
    failures = await attempts.last_failures_of_deliveries(tx, organization, tried)
    return found.with_items(
        msgspec.structs.replace(each, last_failure=failures.get(each.delivery)) for each in found.items
    )
