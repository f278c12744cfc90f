"""Forms that create, change and delete a queue."""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import UNSET, UnsetType

from discue.control import queues
from discue.control.context import ControlContext
from discue.control.queues import (
    LARGEST_MESSAGE_BYTES,
    LONGEST_RETENTION_SECONDS,
    ClearedSchema,
    QueueDetails,
    QueueFields,
    check_schema,
)
from discue.dashboard.fields import (
    DATA_FORM_BYTES,
    RETRY,
    Edit,
    indented,
    number_of,
    retry_of,
    retry_texts,
    touched,
    value_of,
)
from discue.dashboard.visit import Page, Redirect, Visit, form_route
from discue.domain.errors import invalid
from discue.domain.model import Queue, SchemaLanguage
from discue.domain.retry import effective_policy
from discue.domain.schemas import FIELDS, Schema

LANGUAGES: Final[Mapping[SchemaLanguage, str]] = {"json_schema": "JSON Schema", "rules": "Rules"}
"""Languages of schemas by name, as pages show them."""

NEW: Final[Mapping[str, str]] = {
    "alias": "",
    "customer": "",
    "retention": "",
    "max_message_bytes": "",
    "schema_language": "json_schema",
    "schema": "",
    "ordered": "",
    "on_missed": "pass",
    **retry_texts(None),
}
"""The texts of an empty form."""

_SCHEMA: Final = frozenset({"schema", "schema_language"})
_RETENTION: Final = range(LONGEST_RETENTION_SECONDS + 1)
_MESSAGE_BYTES: Final = range(1, LARGEST_MESSAGE_BYTES + 1)


def texts_of(queue: Queue) -> dict[str, str]:
    """Return the settings of a queue that can be changed. Of the queue of system events, these are fewer."""
    retention = queue.retention_seconds
    always = {"retention": "" if retention is None else str(retention), **retry_texts(queue.retry)}
    if queue.is_system:
        return always
    return {
        **always,
        "alias": queue.alias,
        "max_message_bytes": str(queue.max_message_bytes or ""),
        "schema_language": "json_schema" if queue.schema is None else queue.schema_language,
        "schema": "" if queue.schema is None else indented(queue.schema),
    }


async def fields_of(
    control: ControlContext, changes: Mapping[str, str], texts: Mapping[str, str], stored: Queue | None = None
) -> QueueFields:
    """Return the fields of a queue that were typed: `changes`. Others are left as they are.

    `texts` has all fields of the form, for values that several fields make up. Raises BadRequest and Unprocessable.
    """
    given: dict[str, Any] = {name: changes[name].strip() or None for name in ("alias", "customer") if name in changes}
    if "retention" in changes:
        given["retention_seconds"] = number_of(changes["retention"], "retention", _RETENTION)
    if "max_message_bytes" in changes:
        given["max_message_bytes"] = number_of(changes["max_message_bytes"], "max_message_bytes", _MESSAGE_BYTES)
    if changes.keys() & set(RETRY):
        given["retry"] = retry_of(texts)
    if changes.keys() & _SCHEMA:
        given["schema"] = await _schema(control, texts, stored)
    if "ordered" in changes:
        given["ordered"] = changes["ordered"] == "on"
    if "on_missed" in changes:
        given["on_missed"] = changes["on_missed"]
    return QueueFields(**given)


async def _schema(
    control: ControlContext, texts: Mapping[str, str], stored: Queue | None
) -> Schema | ClearedSchema | UnsetType:
    if not texts["schema"].strip():
        if stored is None or stored.schema is None:
            return UNSET
        return ClearedSchema(frozenset({stored.schema_language}))
    language = next((known for known in LANGUAGES if known == texts["schema_language"]), None)
    if language is None:
        raise invalid("/schema_language", f"must be one of {', '.join(LANGUAGES)}")
    return await check_schema(control, value_of(texts["schema"], "json", f"/{FIELDS[language]}"), language)


async def show_new(visit: Visit) -> Page:
    values = {"form": {**NEW, **visit.form}, "newer": {}, **_defaults(visit)}
    return Page("queue_new.html", "New queue", values)


async def create(visit: Visit) -> Redirect:
    fields = await fields_of(visit.control, touched(visit.form, NEW), {**NEW, **visit.form})
    made = await queues.create(visit.control, visit.principal, fields)
    return Redirect(f"/queues/{made.queue.public_id}", "queue_created")


async def show_edit(visit: Visit) -> Page:
    details = await _queue(visit)
    values = {"details": details, **_edit(visit, details).shown, **_defaults(visit)}
    return Page("queue_edit.html", f"Edit · {details.queue.alias}", values)


async def change(visit: Visit) -> Redirect:
    details = await _queue(visit)
    edit = _edit(visit, details)
    fields = await fields_of(visit.control, edit.changes, edit.values, details.queue)
    await queues.change(edit.control, visit.principal, visit.ids[0], fields)
    return Redirect(f"/queues/{visit.ids[0]}/settings", "saved")


async def show_delete(visit: Visit) -> Page:
    details = await _queue(visit)
    typed = visit.form.get("name", "")
    return Page("queue_delete.html", f"Delete · {details.queue.alias}", {"details": details, "typed": typed})


async def delete(visit: Visit) -> Redirect:
    """Delete the queue if its name was typed, so that a wrong click does not delete a log."""
    details = await _queue(visit)
    if visit.form.get("name", "").strip() != details.queue.alias:
        raise invalid("/name", f"must be the name of the queue: {details.queue.alias}")
    await queues.delete(visit.control, visit.principal, visit.ids[0])
    return Redirect("/queues", "queue_deleted")


def default_retention(visit: Visit) -> int:
    """Return the retention of queues without one of their own, in seconds."""
    own: int | None = visit.user.organization.settings.get("retention_seconds")
    return visit.control.settings.retention_seconds if own is None else own


def _defaults(visit: Visit) -> dict[str, object]:
    return {
        "retention": default_retention(visit),
        "max_bytes": visit.control.settings.max_message_bytes,
        "policy": effective_policy(visit.default_retry),
        "languages": LANGUAGES,
    }


def _edit(visit: Visit, details: QueueDetails) -> Edit:
    return Edit(visit, details.queue, texts_of(details.queue))


async def _queue(visit: Visit) -> QueueDetails:
    return await queues.get(visit.control, visit.principal, visit.ids[0])


_QUEUE: Final = "/queues/{id}"

ROUTES: Final = (
    form_route("/queues/new", show_new, create, "queues", form_bytes=DATA_FORM_BYTES),
    form_route(f"{_QUEUE}/edit", show_edit, change, "queues", form_bytes=DATA_FORM_BYTES),
    form_route(f"{_QUEUE}/delete", show_delete, delete, "queues"),
)
