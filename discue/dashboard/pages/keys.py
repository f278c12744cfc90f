"""API keys: their list, forms that create, change and delete one, and an example call for a new key."""

from shlex import quote as shell_quote
from typing import Final, get_args
from urllib.parse import quote

import msgspec

from discue.control import api_keys, listeners
from discue.control.api_keys import KeyFields
from discue.dashboard.fields import newest_queues, number_of
from discue.dashboard.listing import selection_of, shown
from discue.dashboard.pages.queues import example_of
from discue.dashboard.visit import Page, PageRoute, Redirect, Visit, form_route
from discue.domain.errors import invalid
from discue.domain.model import ApiKey
from discue.domain.scopes import PRESETS, PROTECTED, RESOURCES, Access, Scope, Scopes, preset_scopes
from discue.store.pagination import Selection

_GRANTED: Final = tuple(name for name in RESOURCES if name not in PROTECTED)
_LEVELS: Final = get_args(Access)
_CUSTOM: Final = "custom"
_PRESETS: Final = (
    ("publish", "publish messages"),
    ("consume", "consume: pull and settle messages"),
    ("read-only", "read only: read everything, change nothing"),
    ("everything", "everything that is not protected"),
    (_CUSTOM, "as chosen below"),
)
_DAYS: Final = range(1, 36_501)
_DAY_MS: Final = 86_400_000


async def show(visit: Visit) -> Page:
    found = await api_keys.page(visit.control, visit.principal, selection_of(visit, "alias"))
    page = shown(visit, found, [each.public_id for each in found.items], "alias")
    rows = [(each, _summary(each)) for each in found.items]
    return Page("keys.html", "Keys", {"list": page, "rows": rows})


def _summary(key: ApiKey) -> list[tuple[str, str]]:
    """Return what a key may write and what it may only read, in words."""
    scopes = api_keys.scopes_of(key.scopes)
    found = []
    for access in ("write", "read"):
        names = [
            name.replace("_", " ") + ("" if scope.on_all else f" ({len(scope.targets)})")
            for name, scope in scopes.items()
            if scope.access == access
        ]
        if names:
            found.append((access, "everything" if len(names) == len(RESOURCES) else ", ".join(names)))
    return found


async def show_new(visit: Visit) -> Page:
    offered = [
        (name, [level for level in _LEVELS if visit.principal.may(name, level)])
        for name in _GRANTED
        if visit.principal.may(name, "read")
    ]
    values = {"offered": offered, "presets": _PRESETS, "form": visit.form or {"preset": "publish"}}
    return Page("key_new.html", "New key", values)


async def create(visit: Visit) -> Page:
    """Create a key, and show its text: this is the only time."""
    scopes = _scopes(visit)
    days = number_of(visit.form.get("days", ""), "days", _DAYS)
    expires_at = 0 if days is None else visit.now + days * _DAY_MS
    fields = KeyFields(visit.form.get("alias", "").strip() or None, scopes=scopes, expires_at=expires_at)
    # Before the key is stored: if this failed afterwards, its text would never be shown.
    call = await call_of(visit, scopes)
    made = await api_keys.create(visit.control, visit.principal, fields)
    values = {
        "heading": f"{made.key.alias} is ready",
        "text": made.text,
        "link": "/keys",
        "back": "the keys",
        "expires_at": expires_at,
        "call": call,
    }
    return Page("key_text.html", "New key", values)


def _scopes(visit: Visit) -> dict[str, Scope]:
    """Return the scopes of the preset, or those that were chosen one by one. Raises Unprocessable."""
    preset = visit.form.get("preset", _CUSTOM)
    if preset in PRESETS:
        return preset_scopes(preset, visit.principal.scopes)
    if preset != _CUSTOM:
        raise invalid("/preset", f"must be one of {', '.join((*PRESETS, _CUSTOM))}")
    scopes = {}
    for name in _GRANTED:
        for level in _LEVELS:
            if visit.form.get(f"scope-{name}", "") == level:
                scopes[name] = Scope(level)
    if not scopes:
        raise invalid("/scopes", "must allow something")
    return scopes


async def show_key(visit: Visit) -> Page:
    key = await api_keys.get(visit.control, visit.principal, visit.ids[0])
    return Page("key.html", key.alias, {"key": key, "summary": _summary(key)})


async def change(visit: Visit) -> Redirect:
    action = visit.form.get("action", "")
    if action == "delete":
        await api_keys.delete(visit.control, visit.principal, visit.ids[0])
        return Redirect("/keys", "key_deleted")
    if action not in ("disable", "enable"):
        raise invalid("/action", "must be disable, enable or delete")
    await api_keys.change(
        visit.control, visit.principal, visit.ids[0], KeyFields(status="disabled" if action == "disable" else "enabled")
    )
    return Redirect(f"/keys/{visit.ids[0]}", "key_changed")


ROUTES: Final = (
    PageRoute("/keys", show, needs="api_keys"),
    form_route("/keys/new", show_new, create, "api_keys", grants_access=True),
    PageRoute("/keys/{id}", show_key, change, needs="api_keys", grants_access=True),
)


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
    path: str
    body: str = ""
    """JSON to publish; "" for a request that only reads."""
    hint: str = ""
    """A sentence that says which names to replace before the call is sent; "" if the call works as it is."""

    def command(self, url: str, key: str) -> str:
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
