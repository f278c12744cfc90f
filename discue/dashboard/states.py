"""The states of listeners, as pages show them."""

from typing import Final

from discue.control.listeners import ListenerDetails

STATE_WORDS: Final = {
    "disabled": "disabled",
    "failed": "inactive",
    "retrying": "retrying",
    "pending": "waiting",
    "missed": "has missed some",
    "acknowledged": "up to date",
}
"""The word for each state of a listener."""


def state_of(details: ListenerDetails) -> str:
    """Return the state of a listener: whether it receives, and whether messages wait for it or are retried."""
    if details.listener.status == "disabled":
        return "disabled"
    if details.condition.held_by:
        return "failed"
    # Of a listener in pull mode, the count includes messages that its consumers work on.
    if (details.listener.mode == "push" and details.counts.retrying) or details.condition.is_recovering:
        return "retrying"
    if details.counts.pending:
        return "pending"
    return "missed" if details.counts.missed else "acknowledged"
