"""What a developer starts with: a key that stays the same, a queue, and a listener at the built-in inbox."""

import os
from pathlib import Path
from typing import NamedTuple

from discue.auth.control_plane_cache import KeyRejected
from discue.control import admin_keys, listeners, queues
from discue.control.bootstrap import ensure_operator
from discue.control.context import ControlContext
from discue.control.listeners import ListenerFields
from discue.control.queues import QueueDetails, QueueFields
from discue.domain import api_key
from discue.domain.scopes import Principal
from discue.store.pagination import Selection

QUEUE_ALIAS = "demo"
LISTENER_ALIAS = "inbox"

_PER_PAGE = 100


class Targets(NamedTuple):
    """Where the demo listener's requests go."""

    notify_url: str
    liveness_url: str


def kept_key(control: ControlContext, path: Path) -> str:
    """The key in the file; a new one is written there first if it holds none. Only its owner can read it."""
    if path.exists():
        text = path.read_text(encoding="ascii", errors="replace").strip()
        if api_key.parse(text) is not None:
            return text
    text = api_key.compose(control.public_ids.next(), api_key.new_secret(control.random_text))
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text + "\n")
    fresh.replace(path)
    return text


async def developer(control: ControlContext, key: str) -> Principal:
    """Whom the key stands for: the first organization, which is made if there is none, with every scope."""
    organization, _ = await ensure_operator(control, control.settings.organization, key)
    try:
        return (await control.cache.authenticate(key)).principal
    except KeyRejected:
        # The database was there before the key, or the key was disabled or deleted.
        await admin_keys.restore(control, organization, key)
    return (await control.cache.authenticate(key)).principal


async def ensure_demo(control: ControlContext, principal: Principal, targets: Targets) -> str:
    """The id of the demo queue; it and its listener are made if they are missing, the listener's URLs kept true."""
    details = await _demo_queue(control, principal)
    queue = details.queue.public_id
    fields = ListenerFields(notify_url=targets.notify_url, liveness_url=targets.liveness_url)
    for listener in details.listeners:
        if listener.alias == LISTENER_ALIAS:
            await _point(control, principal, (queue, listener.public_id), fields)
            return queue
    fields = ListenerFields(LISTENER_ALIAS, notify_url=targets.notify_url, liveness_url=targets.liveness_url)
    await listeners.create(control, principal, queue, fields)
    return queue


async def _demo_queue(control: ControlContext, principal: Principal) -> QueueDetails:
    selection = Selection(per_page=_PER_PAGE)
    while True:
        listing = await queues.page(control, principal, selection)
        for details in listing.items:
            if details.queue.alias == QUEUE_ALIAS:
                return details
        if not listing.has_next:
            return await queues.create(control, principal, QueueFields(QUEUE_ALIAS))
        selection = Selection(per_page=_PER_PAGE, after=listing.items[-1].queue.public_id)


async def _point(control: ControlContext, principal: Principal, path: tuple[str, str], fields: ListenerFields) -> None:
    """The port may be another one than last time."""
    listener = (await listeners.get(control, principal, *path)).listener
    if (listener.notify_url, listener.liveness_url) != (fields.notify_url, fields.liveness_url):
        await listeners.change(control, principal, *path, fields)
