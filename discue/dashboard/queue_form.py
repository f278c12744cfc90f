"""The form of a queue: its settings as texts, and the change that typed texts ask for."""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import UNSET, UnsetType

from discue.control.context import ControlContext
from discue.control.queues import (
    LARGEST_MESSAGE_BYTES,
    LONGEST_RETENTION_SECONDS,
    ClearedSchema,
    QueueFields,
    check_schema,
)
from discue.dashboard.fields import indented, number_of, value_of
from discue.dashboard.retry_form import RETRY, retry_of, retry_texts
from discue.domain.errors import invalid
from discue.domain.model import Queue, SchemaLanguage
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
    given: dict[str, Any] = {}
    if "alias" in changes:
        given["alias"] = changes["alias"].strip() or None
    if "customer" in changes:
        given["customer"] = changes["customer"].strip()
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
