"""Listeners that miss what is published."""

from time import sleep, time

from tests.contract.caller import Caller
from tests.contract.world import NOWHERE


def one_missed(owner: Caller) -> str:
    """The address of a listener that has missed a message: it expired before it was sent."""
    queue = f"/queues/{owner.create('/queues')['id']}"
    path = f"{queue}/listeners/{owner.create(f'{queue}/listeners', status='disabled', **NOWHERE)['id']}"
    soon = int(time() * 1_000) + 500
    owner.create(f"{queue}/messages", data="x", expires_at=soon)
    sleep(max(0.0, soon / 1_000 - time()) + 0.001)
    owner.change(path, status="enabled")
    owner.until(path, lambda shown: shown["messages"]["missed_count"] == 1)
    return path
