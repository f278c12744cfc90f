"""Sources. A source receives the webhooks of another service and publishes them to a queue."""

import re
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from discue.control import encryption
from discue.control.context import ControlContext, Record, changed_settings, chosen, one_of, reading, require_found
from discue.control.topics import destination
from discue.domain.aliases import NameFields, changed_alias, new_alias
from discue.domain.errors import invalid, missing_field
from discue.domain.headers import NAME_PATTERN
from discue.domain.model import RefusedRequest, WebhookSource
from discue.domain.providers import (
    ALGORITHMS,
    DISPLAY_NAMES,
    ENCODINGS,
    PROVIDERS,
    HmacOptions,
    provider_of,
    signature_of,
)
from discue.domain.representation import shows
from discue.domain.scopes import Access, Principal
from discue.store import sources
from discue.store.engine import Transaction
from discue.store.pagination import FIRST_PAGE, Listing, Selection

MAX_SECRETS: Final = 5
MAX_SECRET_CHARACTERS: Final = 512
MAX_PREFIX_CHARACTERS: Final = 64

_is_name: Final = re.compile(NAME_PATTERN[1:-1]).fullmatch


@shows("provider")
class SourceFields(NameFields, frozen=True):
    """The fields of a source in a request. UNSET keeps the stored value. The last six are those of `hmac`."""

    provider: str | UnsetType | None = UNSET
    queue: str | None = None
    """Id or alias."""
    secrets: Sequence[str] | UnsetType | None = UNSET
    header: str | UnsetType | None = UNSET
    algorithm: str | UnsetType | None = UNSET
    encoding: str | UnsetType | None = UNSET
    prefix: str | UnsetType | None = UNSET
    timestamp_header: str | UnsetType | None = UNSET
    id_header: str | UnsetType | None = UNSET


async def create(control: ControlContext, principal: Principal, fields: SourceFields) -> WebhookSource:
    """Create a source; its default alias is its id.

    Raises BadRequest without a provider, a queue or secrets, and Unprocessable for invalid values.
    """
    principal.require("channels", "write")
    for name, given in {"provider": fields.provider, "queue_id": fields.queue, "secrets": fields.secrets}.items():
        if given is None or given is UNSET:
            raise missing_field(f"/{name}")
    public_id, now = control.public_ids.next(), control.clock.now()
    draft = WebhookSource(principal.organization, control.row_ids.next(), public_id, "", "hmac", 0, "", now, now, b"")

    async def work(tx: Transaction, record: Record) -> WebhookSource:
        if not await sources.has_room(tx, principal.organization):
            rule = f"would exceed a limit: an organization has at most {sources.MAX_PER_ORGANIZATION} sources"
            raise invalid("/alias", rule, code="too_many")
        alias = new_alias(fields, public_id)
        created = await _changed(tx, control, principal, draft, fields=fields, alias=alias, now=now)
        await sources.insert(tx, created)
        await record("source_added", created)
        return created

    return await control.write_as(principal, work)


@reading
async def get(tx: Transaction, principal: Principal, public_id: str) -> WebhookSource:
    return await _own(tx, principal, "read", public_id)


@reading
async def page(tx: Transaction, principal: Principal, selection: Selection = FIRST_PAGE) -> Listing[WebhookSource]:
    targets = principal.targets_of("channels", "read")
    return await sources.page(tx, principal.organization, selection, targets)


@reading
async def refused_page(
    tx: Transaction, principal: Principal, public_id: str, selection: Selection = FIRST_PAGE
) -> Listing[RefusedRequest]:
    """Return the latest requests that the source refused, without bodies."""
    return await sources.refused_page(tx, await _own(tx, principal, "read", public_id), selection)


async def change(control: ControlContext, principal: Principal, public_id: str, fields: SourceFields) -> WebhookSource:
    """Change a source. Raises what `create` raises for invalid values."""
    now = control.clock.now()

    async def work(tx: Transaction, record: Record) -> WebhookSource:
        stored = control.require_match(await _own(tx, principal, "write", public_id))
        alias = changed_alias(fields, stored.alias)
        changed = await _changed(tx, control, principal, stored, fields=fields, alias=alias, now=now)
        await sources.update(tx, changed)
        names = changed_settings(stored, changed)
        await record("source_updated", changed, changes=(*names, "secrets") if fields.secrets is not UNSET else names)
        return changed

    return await control.write_as(principal, work)


async def delete(control: ControlContext, principal: Principal, public_id: str) -> None:
    """Delete a source. Messages that it has published stay in the queue."""

    async def work(tx: Transaction, record: Record) -> None:
        stored = control.require_match(await _own(tx, principal, "write", public_id))
        await sources.delete(tx, stored.organization, stored.id)
        await record("source_deleted", stored)

    await control.write_as(principal, work)


async def _own(tx: Transaction, principal: Principal, access: Access, public_id: str) -> WebhookSource:
    principal.require("channels", access, public_id)
    return require_found(await sources.get(tx, principal.organization, public_id))


async def _changed(
    tx: Transaction,
    control: ControlContext,
    principal: Principal,
    stored: WebhookSource,
    *,
    fields: SourceFields,
    alias: str,
    now: int,
) -> WebhookSource:
    """Return a source with the fields of a request. Raises Unprocessable."""
    queue, queue_public_id = stored.queue, stored.queue_public_id
    if fields.queue not in (None, queue_public_id):
        found = await destination(tx, principal, str(fields.queue))
        queue, queue_public_id = found.id, found.public_id
    provider = one_of(PROVIDERS, chosen(stored.provider, fields.provider, ""), "/provider")
    hmac = _hmac_options(stored.hmac, fields) if provider == "hmac" else None
    if provider != "hmac":
        for name in HmacOptions.__struct_fields__:
            if getattr(fields, name) not in (UNSET, None):
                raise invalid(f"/{name}", "is only for the provider hmac; leave it out", code="conflicting_fields")
    row, sealed = (stored.organization, stored.id), stored.secrets
    given = fields.secrets
    secrets = encryption.source_secrets(control, stored) if isinstance(given, UnsetType) else tuple(given or ())
    changed = msgspec.structs.replace(
        stored,
        alias=alias,
        provider=provider,
        queue=queue,
        queue_public_id=queue_public_id,
        hmac=hmac,
        updated_at=now,
    )
    if given is not UNSET or provider != stored.provider:
        _check_secrets(changed, secrets)
        sealed = await encryption.sealed_content(tx, control, row, msgspec.json.encode(secrets))
    return msgspec.structs.replace(changed, secrets=sealed)


def _check_secrets(source: WebhookSource, secrets: Sequence[str]) -> None:
    if not 1 <= len(secrets) <= MAX_SECRETS:
        raise invalid("/secrets", f"must have 1 to {MAX_SECRETS} secrets")
    for index, secret in enumerate(secrets):
        pointer = f"/secrets/{index}"
        if not 1 <= len(secret) <= MAX_SECRET_CHARACTERS:
            raise invalid(pointer, f"must have 1 to {MAX_SECRET_CHARACTERS} characters")
        try:
            signature_of(provider_of(source.provider, source.hmac), secret, b"")
        except ValueError:
            rule = f"is not a valid secret for {DISPLAY_NAMES[source.provider]}: copy it from the provider"
            raise invalid(pointer, rule) from None


def _hmac_options(stored: HmacOptions | None, fields: SourceFields) -> HmacOptions:
    before = stored or HmacOptions("")
    options = HmacOptions(
        header=chosen(before.header, fields.header, ""),
        algorithm=one_of(ALGORITHMS, chosen(before.algorithm, fields.algorithm, "sha256"), "/algorithm"),
        encoding=one_of(ENCODINGS, chosen(before.encoding, fields.encoding, "hex"), "/encoding"),
        prefix=chosen(before.prefix, fields.prefix, ""),
        timestamp_header=chosen(before.timestamp_header, fields.timestamp_header, None),
        id_header=chosen(before.id_header, fields.id_header, None),
    )
    if not options.header:
        raise invalid("/header", "is required with the provider hmac: name the header with the signature")
    for name in ("header", "timestamp_header", "id_header"):
        value: str | None = getattr(options, name)
        if value is not None and not _is_name(value):
            raise invalid(f"/{name}", "must be the name of a header")
    if len(options.prefix) > MAX_PREFIX_CHARACTERS or not (options.prefix + "x").isprintable():
        raise invalid("/prefix", f"must have at most {MAX_PREFIX_CHARACTERS} printable characters")
    return options
