"""API keys: what each may do, when it was used last; and forms that create, change and delete one."""

from typing import Final, get_args

from discue.control import api_keys
from discue.control.api_keys import KeyFields
from discue.dashboard.fields import number_of
from discue.dashboard.key_calls import call_of
from discue.dashboard.listing import selection_of, shown
from discue.dashboard.route import PageRoute
from discue.dashboard.visit import Page, Redirect, Visit
from discue.domain.errors import invalid
from discue.domain.model import ApiKey
from discue.domain.reservations import HTML_PAGE
from discue.domain.scopes import PRESETS, PROTECTED, RESOURCES, Access, Scope, preset_scopes

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
    scopes = api_keys.scopes_of(key)
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
    """Disable, enable or delete a key."""
    action, path = visit.form.get("action", ""), "/keys"
    if action == "delete":
        await api_keys.delete(visit.control, visit.principal, visit.ids[0])
        return Redirect(path, "key_deleted")
    if action == "disable":
        await api_keys.change(visit.control, visit.principal, visit.ids[0], KeyFields(status="disabled"))
    elif action == "enable":
        await api_keys.change(visit.control, visit.principal, visit.ids[0], KeyFields(status="enabled"))
    else:
        raise invalid("/action", "must be disable, enable or delete")
    return Redirect(f"{path}/{visit.ids[0]}", "key_changed")


ROUTES: Final = (
    PageRoute("/keys", show, needs="api_keys", reads=HTML_PAGE),
    PageRoute("/keys/new", show_new, create, needs="api_keys", is_form=True, grants_access=True, reads=HTML_PAGE),
    PageRoute("/keys/{id}", show_key, change, needs="api_keys", grants_access=True, reads=HTML_PAGE),
)
