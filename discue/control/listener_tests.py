"""Tests of a listener: a request with a sample message, and a filter applied to a message. Nothing is stored."""

import asyncio
from collections.abc import Collection, Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol

import msgspec
from msgspec import UnsetType

from discue.control import encryption, listeners, messages
from discue.control.context import ControlContext, chosen, require_found
from discue.control.listener_fields import OptionFields, changed_types
from discue.control.listeners import ListenerPath, own_listener, own_queue, targets_in
from discue.control.messages import Reserve
from discue.crypto.signing import signing_key_of
from discue.domain import egress
from discue.domain.attempts import Outcome
from discue.domain.errors import invalid, missing_field
from discue.domain.filter_parser import check_filter
from discue.domain.filters import ConditionResult, Filter, TypeFilter
from discue.domain.headers import merge_headers, without_trace_headers
from discue.domain.message_data import Codec
from discue.domain.messages import (
    Entry,
    MessageOptions,
    StoredMessage,
    decode_options,
    encode_options,
    message_headers,
)
from discue.domain.model import Listener
from discue.domain.representation import shows
from discue.domain.scopes import Principal
from discue.domain.transforms import TransformFailed, check_transform, transformed
from discue.sending.endpoint_auth import credentials_of
from discue.sending.request import AttemptRequest, Destination, to_cloudevent
from discue.store import domains, organizations
from discue.store import messages as stored_messages
from discue.store.engine import Transaction
from discue.store.message_log import entry_of_message
from discue.store.pagination import Listing, Selection

LONGEST_SECONDS: Final = 30
"""Upper limit of a test's timeout: a client waits for the response."""

_POINTER: Final = "/notify_url"


@shows("codec")
class SampleMessage(msgspec.Struct, frozen=True):
    """A message made up for a test."""

    content: bytes
    codec: Codec
    options: MessageOptions = MessageOptions()


class DeliveryTestResult(msgspec.Struct, frozen=True):
    """The result of a test request."""

    message_id: str
    started_at: int
    outcome: Outcome

    def __repr__(self) -> str:
        return f"DeliveryTestResult(message_id={self.message_id!r}, withheld={self.outcome.withheld})"


class SampleSender(Protocol):
    """Sends test requests: `sending.endpoint_tester`."""

    async def attempt(self, organization: int, request: AttemptRequest) -> Outcome: ...


async def send(
    control: ControlContext, principal: Principal, path: ListenerPath, sample: SampleMessage, *, sender: SampleSender
) -> DeliveryTestResult:
    """Send the sample to the listener at `path`, also if it is disabled, in the form of a delivery.

    Raises Unprocessable for a listener that cannot receive requests, and TooManyRequests.
    """
    listener = await control.store.read(lambda tx: _listener(tx, principal, path))
    message_id, started_at = control.public_ids.next(), control.clock.now()
    entry = Entry(0, message_id, started_at, sample.codec, sample.content, extra=encode_options(sample.options) or b"")
    if listener.options.transform is not None:
        try:
            entry = transformed(entry, listener.options.transform)
        except TransformFailed as error:
            raise invalid("/data", f"has no body: the transform {error}", code="transform_failed") from None
    request = _request(control, listener, entry)
    egress.check_target(request.destination.target, control.egress, _POINTER)
    outcome = await sender.attempt(listener.organization, request)
    if outcome.error == "refused_address":
        # The same text as at the creation of a listener: it must not reveal which address the host resolves to.
        raise egress.refused_address(_POINTER)
    return DeliveryTestResult(message_id, started_at, outcome)


async def _listener(tx: Transaction, principal: Principal, path: ListenerPath) -> Listener:
    listener = await own_listener(tx, principal, "write", path)
    if listener.mode == "pull":
        raise invalid(_POINTER, "is missing: this listener is in pull mode", code="conflicting_fields")
    owner = require_found(await organizations.get(tx, listener.organization))
    requires_verified = owner.settings.get(domains.REQUIRE_VERIFIED_DOMAINS)
    if requires_verified and not await domains.VerifiedDomains(tx).has(listener.organization, listener.notify_url):
        raise invalid(
            _POINTER,
            "must be on a domain that is verified: create it, publish its challenge, and PUT its verification",
            code="domain_not_verified",
        )
    return listener


def _request(control: ControlContext, listener: Listener, entry: Entry) -> AttemptRequest:
    options, sent = listener.options, decode_options(entry.extra)
    shown = credentials_of(encryption.credentials_of(control, listener), listener.public_id)
    timeout_seconds = options.timeout_seconds or control.settings.delivery_timeout_seconds
    request = AttemptRequest(
        destination=Destination(
            egress.parse_target(listener.notify_url, _POINTER),
            listener.queue_public_id,
            listener.public_id,
            shown.identity,
        ),
        message_id=entry.id,
        codec=entry.codec,
        body=entry.body,
        keys=tuple(
            signing_key_of(each)
            for each in encryption.secrets_of(control, listener).signing
            if each.is_valid(entry.stored_at)
        ),
        number=1,
        headers=merge_headers((*without_trace_headers(options.headers), *shown.headers), message_headers(sent)),
        timeout_ms=min(timeout_seconds, LONGEST_SECONDS) * 1_000,
        media_type=sent.given_media_type,
        is_test=True,
        grant=shown.grant,
    )
    return request if options.format == "plain" else to_cloudevent(request, entry, options.format)


_PAGE: Final = 100
_MOST_FAILED: Final = 100
_MOST_SUCCEEDED: Final = 3
_TRIED_SECONDS: Final = 1.0


class FilterTestResult(msgspec.Struct, frozen=True):
    """Whether types and filter match the message, and whether each condition of the filter does on its own."""

    matches: bool
    type_matches: bool
    conditions: tuple[ConditionResult, ...] = ()


async def try_filter(
    control: ControlContext,
    principal: Principal,
    path: ListenerPath,
    message: Entry | str,
    *,
    given: OptionFields,
    reserve: Reserve,
) -> FilterTestResult:
    """Apply the `given` types and filter, by default those of the listener, to a made-up message or a stored one.

    The caller must be able to read the listener at `path` and a stored message. `reserve` is called with the size of
    the data before the data is read. Raises Unprocessable for invalid types and an invalid filter.
    """
    details = await listeners.get(control, principal, *path)
    options = details.listener.options
    types = changed_types(options.types, given.types)
    condition = check_filter(given.filter)
    if isinstance(message, str):
        message = entry_of_message((await messages.get(control, principal, path[0], message, reserve=reserve)).message)
    condition = condition or check_filter(options.filter)
    type_matches = types is None or TypeFilter(types).accepts(message)
    if condition is None:
        return FilterTestResult(type_matches, type_matches)
    # On a thread: the message can have 8 MiB. One at a time, because each can keep the interpreter busy.
    async with control.checking:
        matches, conditions = await asyncio.to_thread(Filter(condition).explain, message)
    return FilterTestResult(matches and type_matches, type_matches, tuple(conditions))


class TransformTestResult(NamedTuple):
    """The number of messages that a transform was tried on, and some of the results: bodies, or reasons of failures."""

    tested: int
    failed: Sequence[tuple[StoredMessage, str]]
    succeeded: Sequence[tuple[StoredMessage, bytes]]


async def try_transform(
    control: ControlContext, principal: Principal, path: ListenerPath, *, given: str | UnsetType | None, limit: int
) -> TransformTestResult:
    """Apply the `given` transform, by default that of the listener, to at most `limit` of the newest messages.

    Returns all failures, at most 100, and three other results. Stops after a second. Skips messages that do not fit
    into a page with its other data. Raises Unprocessable for an invalid transform, and BadRequest without one.
    """
    check_transform(given)
    text = chosen((await listeners.get(control, principal, *path)).listener.options.transform, given, None)
    if text is None:
        raise missing_field("/transform", "is missing: the listener has no transform")
    only, after = targets_in(principal, "messages", path[0]), None
    tested, failed, succeeded = 0, list[tuple[StoredMessage, str]](), list[tuple[StoredMessage, bytes]]()
    ends_at = control.clock.monotonic() + _TRIED_SECONDS

    def apply(found: Sequence[StoredMessage]) -> None:
        nonlocal tested
        for message in found:
            if message.body is None or control.clock.monotonic() > ends_at:
                continue
            tested += 1
            try:
                body = transformed(entry_of_message(message), text).body
            except TransformFailed as error:
                failed.append((message, str(error)))
            else:
                succeeded.append((message, body))
        # The others are only counted: their bodies need not be kept.
        del failed[_MOST_FAILED:], succeeded[_MOST_SUCCEEDED:]

    while limit > 0:
        selection = Selection(per_page=min(limit, _PAGE), after=after, data="true")
        read = partial(_newest, principal=principal, queue=path[0], selection=selection, only=only)
        page = await control.store.search(read)
        # One at a time, because each can keep the interpreter busy.
        async with control.checking:
            await asyncio.to_thread(apply, page.items)
        limit -= _PAGE
        if not page.has_next or control.clock.monotonic() > ends_at:
            break
        after = page.resumes_after or page.items[-1].id
    return TransformTestResult(tested, failed, succeeded)


async def _newest(
    tx: Transaction, principal: Principal, queue: str, *, selection: Selection, only: Collection[str] | None
) -> Listing[StoredMessage]:
    return await stored_messages.page_of_queue(tx, await own_queue(tx, principal, queue), selection, only)
