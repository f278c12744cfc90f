"""Options by message id; messages whose response was lost are found by their bodies."""

from collections.abc import Iterator

from tests.faults.history import DeliveryOptions, History, Published


def options_by_id(history: History) -> dict[str, DeliveryOptions]:
    """Return the options of messages by their ids."""
    return {public_id: _options_at(published, place) for public_id, published, place in placed(history)}


def expiries(history: History) -> dict[str, float]:
    """Return the expiry times by message id, including publishes of unknown outcome."""
    known = {public_id: each.expires_at for public_id, each in options_by_id(history).items() if each.expires_at}
    for log in history.logs.values():
        known.update(log.expiries)
    return known


def due_times(history: History) -> dict[str, float]:
    """Return when delayed messages are due, by message id."""
    return {public_id: each.due_at for public_id, each in options_by_id(history).items() if each.due_at}


def placed(history: History) -> Iterator[tuple[str, Published, int]]:
    """Each id with its publish, and its place in it."""
    for published in history.publishes:
        for place, public_id in enumerate(published.ids):
            yield public_id, published, place
    undecided = {
        body: (published, place)
        for published in history.publishes
        if not published.answered
        for place, body in enumerate(published.bodies)
    }
    ids = {receipt.message: receipt.body for receipt in history.receipts if receipt.body in undecided}
    for public_id, body in ids.items():
        yield public_id, *undecided[body]


def _options_at(published: Published, place: int) -> DeliveryOptions:
    return published.options[place] if published.options else DeliveryOptions()
