"""Forms that create and change a listener."""

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from discue.control import listeners, queues
from discue.control.listener_fields import (
    BURST,
    LEASE_SECONDS,
    MAX_IN_FLIGHT,
    TIMEOUT_SECONDS,
    ListenerFields,
    OptionFields,
    RateFields,
)
from discue.control.listeners import ListenerDetails
from discue.crypto.endpoint_credentials import SECRET_FIELDS, TYPES, AuthenticationFields, fields_of_type
from discue.dashboard.fields import (
    DATA_FORM_BYTES,
    RETRY,
    Edit,
    decimal_of,
    indented,
    number_of,
    plain,
    retry_of,
    retry_texts,
    touched,
    value_of,
)
from discue.dashboard.pages.listeners import defaults, details_of, frame, path_of
from discue.dashboard.visit import Page, Redirect, Visit, form_route
from discue.domain.errors import invalid, missing_field
from discue.domain.headers import MAX_HEADERS
from discue.domain.model import Authentication, Listener
from discue.domain.rate import RateLimit

AUTHENTICATION: Final = "authentication/"
"""The beginning of the names of the fields of the credentials."""

SECRETS: Final[Mapping[str, str]] = {f"{AUTHENTICATION}{name}": "" for name in SECRET_FIELDS.values()}
"""The fields that are never shown, and empty at first."""

NEW: Final[Mapping[str, str]] = {
    "alias": "",
    "description": "",
    "customer": "",
    "mode": "push",
    "notify_url": "",
    "liveness_url": "",
    "types": "",
    "filter": "",
    "format": "plain",
    "trace": "propagate",
    "headers": "",
    "timeout": "",
    "max_in_flight": "",
    "lease_seconds": "",
    "rate_limit/per_second": "",
    "rate_limit/burst": "",
    **retry_texts(None),
    **{f"{AUTHENTICATION}{name}": "" for name in Authentication.__struct_fields__},
    **SECRETS,
}
"""The texts of an empty form."""

_NUMBERS: Final = {"timeout": TIMEOUT_SECONDS, "max_in_flight": MAX_IN_FLIGHT, "lease_seconds": LEASE_SECONDS}
_OPTIONS: Final = {"timeout": "timeout_seconds"}
"""Options that have another name in the form, which is that of the API."""
_RATE: Final = frozenset({"rate_limit/per_second", "rate_limit/burst"})


def texts_of(listener: Listener) -> dict[str, str]:
    """Return the settings of a listener that can be changed: those that its mode supports."""
    options = listener.options
    texts = {
        "alias": listener.alias,
        "description": options.description,
        "customer": listener.customer,
        "types": " ".join(options.types or ()),
        "filter": "" if options.filter is None else indented(options.filter),
        "trace": options.trace,
        "max_in_flight": str(options.max_in_flight or ""),
        **retry_texts(options.retry),
    }
    if listener.mode == "pull":
        return {**texts, "lease_seconds": str(options.lease_seconds or "")}
    shown = Authentication("basic") if options.authentication is None else options.authentication
    return {
        **texts,
        "notify_url": listener.notify_url,
        "liveness_url": listener.liveness_url,
        "format": options.format,
        "timeout": str(options.timeout_seconds or ""),
        "headers": "\n".join(f"{name}: {value}" for name, value in options.headers),
        **_rate_texts(options.rate_limit),
        **{f"{AUTHENTICATION}{name}": value for name, value in msgspec.structs.asdict(shown).items()},
        f"{AUTHENTICATION}type": "" if options.authentication is None else shown.type,
    }


def fields_of(changes: Mapping[str, str], texts: Mapping[str, str]) -> ListenerFields:
    """Return the fields of a listener that were typed: `changes`. Others are left as they are.

    `texts` has all fields of the form, for values that several fields make up. Raises BadRequest and Unprocessable.
    """
    given = {name: plain(text) for name, text in changes.items()}
    authentication: AuthenticationFields | UnsetType | None = UNSET
    if any(name.startswith(AUTHENTICATION) for name in changes):
        authentication = _authentication(changes, texts)
    return ListenerFields(
        given.get("alias") or None,
        mode=given.get("mode"),
        notify_url=given.get("notify_url"),
        liveness_url=given["liveness_url"] or None if "liveness_url" in given else UNSET,
        options=_options(given, texts),
        authentication=authentication,
        customer=given["customer"] or None if "customer" in given else UNSET,
    )


def _options(given: Mapping[str, str], texts: Mapping[str, str]) -> OptionFields:
    options: dict[str, Any] = {
        name: given[name] or None for name in ("description", "format", "trace") if name in given
    }
    for name, within in _NUMBERS.items():
        if name in given:
            options[_OPTIONS.get(name, name)] = number_of(given[name], name, within)
    if "types" in given:
        options["types"] = tuple(given["types"].split()) or None
    if "filter" in given:
        text = given["filter"]
        options["filter"] = value_of(text, "json", "/filter").decode() if text else None
    if "headers" in given:
        options["headers"] = _headers(given["headers"])
    if given.keys() & _RATE:
        options["rate_limit"] = _rate(texts)
    if given.keys() & set(RETRY):
        options["retry"] = retry_of(texts)
    return OptionFields(**options)


def _rate_texts(rate: RateLimit | None) -> dict[str, str]:
    if rate is None:
        return dict.fromkeys(_RATE, "")
    # Without a burst of its own, that of one second follows the rate when it is changed.
    burst = "" if rate.burst == math.ceil(rate.per_second) else str(rate.burst)
    return {"rate_limit/per_second": str(rate.per_second).removesuffix(".0"), "rate_limit/burst": burst}


def _rate(texts: Mapping[str, str]) -> RateFields | None:
    per_second = decimal_of(texts["rate_limit/per_second"], "rate_limit/per_second")
    burst = number_of(texts["rate_limit/burst"], "rate_limit/burst", BURST)
    if per_second is None:
        if burst is not None:
            raise missing_field("/rate_limit/per_second")
        return None
    return RateFields(per_second, burst)


def _headers(text: str) -> dict[str, str]:
    """Return headers from lines such as `x-shop: north`. Raises Unprocessable."""
    found: dict[str, str] = {}
    lines = [line for line in text.splitlines() if line.strip()]
    # Before any other rule: a page must not list the faults of as many headers as a form has room for.
    if len(lines) > MAX_HEADERS:
        raise invalid("/headers", f"must have at most {MAX_HEADERS} headers")
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise invalid("/headers", "must have a name, a colon and a value on each line")
        if name.strip() in found:
            raise invalid("/headers", f"has the name {name.strip()} twice")
        found[name.strip()] = value.strip()
    return found


def _authentication(changes: Mapping[str, str], texts: Mapping[str, str]) -> AuthenticationFields | None:
    """Return the credentials of the chosen type; None for none. Fields of other types are left out."""
    chosen = texts.get(f"{AUTHENTICATION}type", "")
    if not chosen and changes.keys().isdisjoint(SECRETS):
        return None
    kind = next((known for known in TYPES if known == chosen), None)
    if kind is None:
        return AuthenticationFields(chosen)
    given: dict[str, str | None] = {}
    for name in fields_of_type(kind):
        text = texts.get(f"{AUTHENTICATION}{name}", "")
        # Blanks may be a part of a secret.
        given[name] = (text if name == SECRET_FIELDS[kind] else plain(text)) or None
    return AuthenticationFields(kind, **given)


async def show_new(visit: Visit) -> Page:
    details = await queues.get(visit.control, visit.principal, visit.ids[0])
    values = {"queue": details.queue, "mode": "", "form": {**NEW, **visit.form}, "newer": {}}
    return Page("listener_new.html", details.queue.alias, {**values, **defaults(visit, details.queue.retry)})


async def create(visit: Visit) -> Page | Redirect:
    fields = fields_of(touched(visit.form, NEW), {**NEW, **visit.form})
    made = await listeners.create(visit.control, visit.principal, visit.ids[0], fields)
    listener = made.listener
    link = f"/queues/{visit.ids[0]}/listeners/{listener.public_id}"
    if listener.mode == "pull":
        return Redirect(link, "listener_created")
    values = {"heading": f"{listener.alias} is ready", "text": made.secret, "link": link, "back": listener.alias}
    return Page("secret.html", "Signing secret", values)


async def show_edit(visit: Visit) -> Page:
    details = await details_of(visit)
    listener = details.listener
    values = {**frame(visit, details), **_edit(visit, details).shown, "mode": listener.mode}
    return Page("listener_edit.html", f"Edit · {listener.alias}", {**values, **defaults(visit, listener.queue_retry)})


async def change(visit: Visit) -> Redirect:
    edit = _edit(visit, await details_of(visit))
    fields = fields_of({**edit.changes, **touched(visit.form, SECRETS)}, edit.values)
    await listeners.change(edit.control, visit.principal, *visit.ids, fields=fields)
    return Redirect(f"{path_of(visit)}/settings", "saved")


def _edit(visit: Visit, details: ListenerDetails) -> Edit:
    return Edit(visit, details.listener, texts_of(details.listener))


_LISTENERS: Final = "/queues/{id}/listeners"

ROUTES: Final = (
    form_route(f"{_LISTENERS}/new", show_new, create, "queues", writes="listeners", form_bytes=DATA_FORM_BYTES),
    form_route(f"{_LISTENERS}/{{id}}/edit", show_edit, change, "listeners", form_bytes=DATA_FORM_BYTES),
)
