"""Effects: each message that a listener with an inbox acknowledged has one effect, however often it was received."""

from collections.abc import Iterator

from tests.faults.history import History


def once(history: History) -> Iterator[str]:
    acknowledged = {
        f"{each.name} {each.message}"
        for each in history.receipts
        if each.status == 200 and each.name.startswith("once-")
    }
    for key in sorted(acknowledged | history.effects.keys()):
        name, message = key.split(" ")
        count = history.effects.get(key, 0)
        if count > 1:
            yield f"{message} has had {count} effects at {name}"
        if count == 0 and key in acknowledged:
            yield f"{name} acknowledged {message}, which has had no effect"
