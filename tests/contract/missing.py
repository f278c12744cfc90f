"""Listeners that miss what is published."""

from time import time

from tests.contract.caller import Caller
from tests.contract.world import NOWHERE


def one_missed(owner: Caller) -> str:
    """The address of a listener that has missed a message: it expired before it was sent."""
    queue = f"/queues/{owner.create('/queues')['id']}"
    path = f"{queue}/listeners/{owner.create(f'{queue}/listeners', status='disabled', **NOWHERE)['id']}"
    soon = int(time() * 1_000) + 500
    owner.create(f"{queue}/messages", data="x", expires_at=soon)
    while time() * 1_000 <= soon:
        owner.shown(path)
    owner.change(path, status="enabled")
    owner.until(path, lambda shown: shown["messages"]["missed_count"] == 1)
    return path
