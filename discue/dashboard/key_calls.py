"""A call that a new key may make, as a command for curl."""

from shlex import quote as shell_quote
from typing import Final
from urllib.parse import quote

import msgspec

from discue.control import listeners
from discue.dashboard.example_data import example_of
from discue.dashboard.fields import newest_queues
from discue.dashboard.visit import Visit
from discue.domain.scopes import Scopes
from discue.store.pagination import Selection

_LISTS: Final = {
    "queues": "/queues",
    "messages": "/messages",
    "listeners": "/listeners",
    "topics": "/topics",
    "domains": "/domains",
    "events": "/events",
    "stats": "/stats/messages",
}
"""The paths of lists, by the resource that a key must be able to read."""
_QUEUE: Final = "QUEUE"
_LISTENER: Final = "LISTENER"
_SEARCHED: Final = 50


class KeyCall(msgspec.Struct, frozen=True):
    """A request that a key may send."""

    path: str
    body: str = ""
    """JSON to publish; "" for a request that only reads."""
    hint: str = ""
    """A sentence that says which names to replace before the call is sent; "" if the call works as it is."""

    def command(self, url: str, key: str) -> str:
        """Return the command that sends the request."""
        lines = [f"curl {shell_quote(url + self.path)}", f"-H {shell_quote(f'X-API-KEY: {key}')}"]
        if self.body:
            lines += ["-H 'Content-Type: application/json'", f"-d {shell_quote(self.body)}"]
        return " \\\n  ".join(lines)


async def call_of(visit: Visit, scopes: Scopes) -> KeyCall:
    """Return a call that a key with these scopes may make: it publishes, pulls, or lists something."""
    messages, listening = scopes.get("messages"), scopes.get("listeners")
    if messages is not None and messages.access == "write":
        return await _publish(visit)
    if messages is not None and listening is not None and listening.access == "write":
        return await _pull(visit)
    # Any key may read the root of the API.
    return KeyCall(next((path for name, path in _LISTS.items() if name in scopes), "/"))


async def _publish(visit: Visit) -> KeyCall:
    """Return a call that publishes an example to the newest queue, or one with a hint if there is no example."""
    if visit.principal.may("queues", "read"):
        newest = await newest_queues(visit, among=2)
        if newest and (data := await example_of(visit, newest[0])):
            return KeyCall(f"/queues/{quote(newest[0].alias, safe='')}/messages", f'{{"data": {data}}}')
    hint = f"Replace {_QUEUE} with the name of a queue, and the example with data that the queue accepts."
    return KeyCall(f"/queues/{_QUEUE}/messages", '{"data": {"hello": "world"}}', hint)


async def _pull(visit: Visit) -> KeyCall:
    """Return a call that pulls from the newest listener in pull mode among the newest ones."""
    if visit.principal.may("listeners", "read"):
        newest = Selection(per_page=_SEARCHED)
        page = await listeners.page(visit.control, visit.principal, newest, with_missed=False)
        for each in page.items:
            found = each.listener
            if found.mode == "pull":
                place = f"/queues/{quote(found.queue_alias, safe='')}/listeners/{quote(found.alias, safe='')}"
                return KeyCall(f"{place}/messages?max=10")
    hint = f"Replace {_QUEUE} and {_LISTENER} with the names of a queue and of its listener in pull mode."
    return KeyCall(f"/queues/{_QUEUE}/listeners/{_LISTENER}/messages?max=10", hint=hint)
