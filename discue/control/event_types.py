"""Event types: the catalogue that an organization offers its customers. It can require messages to follow it."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final, Literal, get_args

import msgspec
from msgspec import UNSET, UnsetType

from discue.control.context import ControlContext, Record, changed_settings, chosen, one_of, reading, require_found
from discue.domain.errors import Unprocessable, invalid, missing_field
from discue.domain.event_types import MAX_CATALOGUE_BYTES, MAX_TYPES, check_type
from discue.domain.json_text import MAX_BYTES, decode_strictly
from discue.domain.model import EventType
from discue.domain.schemas import compile_schema, parse_schema
from discue.domain.scopes import Access, Principal
from discue.store import event_types, feed
from discue.store.engine import Transaction
from discue.store.event_types import TypeName
from discue.store.pagination import FIRST_PAGE, Listing, Selection

MAX_DESCRIPTION: Final = 1_000
"""Maximum characters of a description."""

Status = Literal["enabled", "deprecated"]
STATUSES: Final[tuple[Status, ...]] = get_args(Status)


class EventTypeFields(msgspec.Struct, frozen=True):
    """The fields of an event type in a request. UNSET keeps the stored value, None removes it.

    Schema and example are JSON.
    """

    type: str | None = None
    """None keeps the stored type."""
    description: str | UnsetType | None = UNSET
    status: str | UnsetType | None = UNSET
    json_schema: bytes | UnsetType | None = UNSET
    example: bytes | UnsetType | None = UNSET


async def create(control: ControlContext, principal: Principal, fields: EventTypeFields) -> EventType:
    """Add an event type to the catalogue.

    Raises BadRequest without a type, Unprocessable for a taken or invalid type, an invalid schema, an example that does
    not fit it, and a catalogue that is too large.
    """
    principal.require("schemas", "write")
    public_id, now = control.public_ids.next(), control.clock.now()
    draft = EventType(principal.organization, control.row_ids.next(), public_id, "", "enabled", now, now)
    await _check_texts(control, fields)
    created = _changed(draft, fields, now)
    if not created.alias:
        raise missing_field("/type")

    async def work(tx: Transaction, record: Record) -> EventType:
        await _require_room(tx, created)
        await event_types.insert(tx, created)
        await record("event_type_added", created)
        return created

    return await control.write_as(principal, work)


@reading
async def get(tx: Transaction, principal: Principal, public_id: str) -> EventType:
    return await _own(tx, principal, "read", public_id)


@reading
async def page(tx: Transaction, principal: Principal, selection: Selection = FIRST_PAGE) -> Listing[EventType]:
    targets = principal.targets_of("schemas", "read")
    return await event_types.page(tx, principal.organization, selection, targets)


@reading
async def catalogue(tx: Transaction, principal: Principal) -> Sequence[EventType]:
    """Return the whole catalogue, in the order of the types."""
    principal.require("schemas", "read")
    return await event_types.catalogue(tx, principal.organization, MAX_TYPES)


@reading
async def names(tx: Transaction, principal: Principal) -> Sequence[TypeName]:
    """Return the names of all event types, sorted; none if the caller may not read all of them."""
    return await event_types.names(tx, principal.organization) if principal.allows_all("schemas", "read") else ()


async def change(control: ControlContext, principal: Principal, public_id: str, fields: EventTypeFields) -> EventType:
    """Change an event type. Raises what `create` raises."""
    changed = None
    while changed is None:
        checked = await get(control, principal, public_id)
        await _check_texts(control, fields, checked)
        changed = await _change(control, principal, checked, fields)
    return changed


async def _change(
    control: ControlContext, principal: Principal, checked: EventType, fields: EventTypeFields
) -> EventType | None:
    """Change an event type. Returns None if its schema or example has changed since they were checked."""
    now = control.clock.now()

    async def work(tx: Transaction, record: Record) -> EventType | None:
        stored = control.require_match(await _own(tx, principal, "write", checked.public_id))
        if (stored.json_schema, stored.example) != (checked.json_schema, checked.example):
            return None
        changed = _changed(stored, fields, now)
        await _require_room(tx, changed)
        await event_types.update(tx, changed)
        await feed.record(tx, "event_type", changed.organization, changed.id)
        await record("event_type_updated", changed, changes=changed_settings(stored, changed))
        return changed

    return await control.write_as(principal, work)


async def delete(control: ControlContext, principal: Principal, public_id: str) -> None:
    """Remove an event type from the catalogue. Messages and listeners keep their types."""

    async def work(tx: Transaction, record: Record) -> None:
        stored = control.require_match(await _own(tx, principal, "write", public_id))
        await event_types.delete(tx, stored.organization, stored.id)
        await feed.record(tx, "event_type", stored.organization, stored.id)
        await record("event_type_deleted", stored)

    await control.write_as(principal, work)


async def _own(tx: Transaction, principal: Principal, access: Access, public_id: str) -> EventType:
    principal.require("schemas", access, public_id)
    return require_found(await event_types.get(tx, principal.organization, public_id))


async def _require_room(tx: Transaction, event_type: EventType) -> None:
    """Raise Unprocessable if the type is taken, or if the catalogue would become too large."""
    same = await event_types.of_type(tx, event_type.organization, event_type.alias)
    if same is not None and same.id != event_type.id:
        raise invalid("/type", "is in the catalogue already: change that event type", code="alias_taken")
    count, size = await event_types.use_without(tx, event_type)
    if count >= MAX_TYPES:
        rule = f"would exceed a limit: an organization has at most {MAX_TYPES} event types. Delete some"
        raise invalid("/type", rule, code="too_many")
    if size + event_type.size > MAX_CATALOGUE_BYTES:
        rule = f"would exceed a limit: all schemas and examples have at most {MAX_CATALOGUE_BYTES} bytes. Shorten some"
        raise invalid("/json_schema", rule, code="too_many")


async def _check_texts(control: ControlContext, fields: EventTypeFields, stored: EventType | None = None) -> None:
    """Raise Unprocessable for an invalid schema or example, and for an example that does not fit the schema.

    What `fields` leaves out comes from the `stored` event type. Runs before the transaction, because compiling a schema
    may take 0.3 s.
    """
    schema = _text(stored.json_schema if stored else None, fields.json_schema)
    example = _text(stored.example if stored else None, fields.example)
    is_sent = isinstance(fields.example, bytes)

    def check() -> None:
        if isinstance(fields.json_schema, bytes):
            parse_schema(fields.json_schema, "json_schema")
        if isinstance(fields.example, bytes):
            decode_strictly(fields.example, "/example", code="invalid_value")
        if schema is None or example is None:
            return
        validator, data = compile_schema(schema, "json_schema"), example.encode()
        if len(data) <= validator.max_bytes and (faults := validator.violations(data, "/example", time.perf_counter)):
            fault = f"{faults[0].pointer} {faults[0].detail}"
            if is_sent:
                detail = f"The example does not fit the schema: {fault}."
                raise Unprocessable(detail, code="schema_violation", faults=faults)
            rule = f"does not allow the stored example, in which {fault}: send an example that fits, or null"
            raise invalid("/json_schema", rule, code="schema_violation")

    if isinstance(fields.json_schema, bytes) or is_sent:
        async with control.checking:
            await asyncio.to_thread(check)


def _changed(stored: EventType, fields: EventTypeFields, now: int) -> EventType:
    description = chosen(stored.description, fields.description, "")
    if len(description) > MAX_DESCRIPTION:
        raise invalid("/description", f"must have at most {MAX_DESCRIPTION:,} characters")
    if fields.type is not None:
        check_type(fields.type, "/type")
    changed = msgspec.structs.replace(
        stored,
        alias=fields.type or stored.alias,
        description=description,
        status=one_of(STATUSES, chosen(stored.status, fields.status, "enabled"), "/status"),
        json_schema=_text(stored.json_schema, fields.json_schema),
        example=_text(stored.example, fields.example),
        updated_at=now,
    )
    if changed.size > MAX_BYTES:
        raise invalid("/json_schema", f"must have at most {MAX_BYTES} bytes, together with the example")
    return changed


def _text(stored: str | None, given: bytes | UnsetType | None) -> str | None:
    if isinstance(given, UnsetType):
        return stored
    return None if given is None else given.decode()
