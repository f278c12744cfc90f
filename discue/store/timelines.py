"""Deliveries of a message for its timeline: a page in order, and before it those that need attention.

No index has the listeners of a message by state, because cursors say who has received it. An index finds its delivery
rows and the missed ranges around it. Of the cursors that have not reached the message, only the first ones of the queue
are looked at.
"""

from typing import Final, NamedTuple

from discue.store.deliveries import (
    RECIPIENTS,
    MessageFacts,
    MessageRecipient,
    NamedDelivery,
    named_deliveries,
    named_page_of_message,
    recipients_key,
    within_of,
)
from discue.store.engine import Transaction
from discue.store.pagination import Listing, Selection

ATTENTION: Final = 5
"""The largest number of deliveries that are shown before the others."""
URGENCY: Final = ("missed", "retrying", "pending")
"""The states that need attention, the most urgent first."""
_LOOKED_AT: Final = 2_000
"""The largest number of rows of each kind that are looked at: a few milliseconds."""

# Adding 0 to the stream keeps the planner from the primary key, by which it would pass all rows of the organization.
_WITH_ROW: Final = f"""
    SELECT looked_at.listener FROM (
        SELECT e.listener, e.state, e.reason FROM delivery e
        WHERE e.organization = $1 AND e.queue = $3 AND e.seq = $2 AND e.stream + 0 = 0
        LIMIT {_LOOKED_AT}) AS looked_at
    WHERE {{}} LIMIT {ATTENTION}"""
_MISSED: Final = _WITH_ROW.format(
    "looked_at.state = 'missed' OR (looked_at.state = 'ended' AND looked_at.reason <> '')"
)
_FAILING: Final = _WITH_ROW.format("looked_at.state <> 'missed' AND looked_at.state <> 'ended'")
_IN_RANGES: Final = f"""
    SELECT looked_at.listener FROM (
        SELECT r.listener, r.seq_from FROM missed_range r
        WHERE r.organization = $1 AND r.queue = $3 AND r.seq_to >= $2
        ORDER BY r.seq_to LIMIT {_LOOKED_AT}) AS looked_at
    WHERE looked_at.seq_from <= $2 LIMIT {ATTENTION}"""
_WAITING: Final = f"""
    SELECT looked_at.listener FROM (
        SELECT c.listener, c.stream, c.position, c.start_seq FROM cursor c
        WHERE c.organization = $1 AND c.queue = $3 LIMIT {_LOOKED_AT}) AS looked_at
    WHERE looked_at.stream = 0 AND looked_at.position < $2 AND looked_at.start_seq < $4 LIMIT {ATTENTION}"""
# Materialized: else PostgreSQL may look for them once more for each listener of the queue.
_FIRST_PAGE: Final = f"""
    SELECT looked_at.*, 0 FROM (
        {RECIPIENTS} AND listener.id > $5 AND listener.id < $6 ORDER BY listener.id DESC LIMIT $7) AS looked_at
    UNION ALL
    SELECT looked_at.*, 1 FROM (
        WITH urgent (listener) AS MATERIALIZED (
            SELECT listener FROM ({_MISSED}) AS looked_at
            UNION ALL SELECT listener FROM ({_FAILING}) AS looked_at
            UNION ALL SELECT listener FROM ({_IN_RANGES}) AS looked_at
            UNION ALL SELECT listener FROM ({_WAITING}) AS looked_at)
        {RECIPIENTS} AND listener.id IN (SELECT listener FROM urgent)) AS looked_at"""


class TimelinePage(NamedTuple):
    """Deliveries of a message to some of its listeners."""

    attention: tuple[NamedDelivery, ...]
    """The deliveries that need attention, of all listeners, on the first of several pages: the page has the others."""
    page: Listing[NamedDelivery]


async def page_of_message(tx: Transaction, facts: MessageFacts, selection: Selection) -> TimelinePage:
    """Read a page of deliveries, with those that need attention: as many as the selection says.

    A customer, who has few listeners, gets the page only.
    """
    if selection.customer is not None or selection.after is not None or selection.before is not None:
        return TimelinePage((), await named_page_of_message(tx, facts, selection))
    message, size = facts.message, selection.per_page
    rows = await tx.rows(_FIRST_PAGE, *recipients_key(message), *within_of(message), size + 1)
    read = [(MessageRecipient.of(row[:-1]), row[-1]) for row in rows]
    in_order = sorted((each for each, is_candidate in read if not is_candidate), reverse=True)
    has_next = len(in_order) > size
    candidates = [each for each, is_candidate in read if is_candidate] if has_next else []
    by_listener = {each.listener: each for each in [*in_order, *candidates]}
    found = {each.listener: each for each in await named_deliveries(tx, facts, list(by_listener.values()))}
    urgent = [found[each.listener] for each in candidates if found[each.listener].delivery.state in URGENCY]
    urgent.sort(key=lambda each: (URGENCY.index(each.delivery.state), -each.listener))
    # At least one of the others is shown, after which the next page goes on.
    attention = tuple(urgent[: min(ATTENTION, size - 1)])
    first = {each.listener for each in attention}
    others = [each for each in in_order if each.listener not in first][: size - len(first)]
    after = others[-1].public_id if has_next else None
    page = Listing(tuple(found[each.listener] for each in others), has_next, has_previous=False, resumes_after=after)
    return TimelinePage(attention, page)
