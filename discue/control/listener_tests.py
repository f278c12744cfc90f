"""Tests of a listener: a request with a sample message, and a filter applied to a message. Nothing is stored."""

import asyncio
from typing import Final, Protocol

import msgspec

from discue.control import encryption, listeners, messages
from discue.control.context import ControlContext, require_found
from discue.control.listener_fields import OptionFields, changed_types
from discue.control.listeners import ListenerPath, own_listener
from discue.control.messages import Reserve
from discue.crypto.signing import signing_key_of
from discue.domain import egress
from discue.domain.attempts import Outcome
from discue.domain.errors import invalid
from discue.domain.filter_parser import check_filter
from discue.domain.filters import ConditionResult, Filter, TypeFilter
from discue.domain.headers import Headers, merge_headers, without_trace_headers
from discue.domain.message_data import Codec
from discue.domain.messages import Entry
from discue.domain.model import Listener
from discue.domain.scopes import Principal
from discue.sending.endpoint_auth import credentials_of
from discue.sending.request import AttemptRequest, Destination, to_cloudevent
from discue.store import domains, organizations
from discue.store.engine import Transaction
from discue.store.message_log import entry_of_message

LONGEST_SECONDS: Final = 30
"""Upper limit of a test's timeout: a client waits for the response."""

_POINTER: Final = "/notify_url"


class SampleMessage(msgspec.Struct, frozen=True):
    """A message made up for a test."""

    content: bytes
    codec: Codec
    headers: Headers = ()
    """With `discue-type`, for a message that has a type."""
    content_type: str = ""
    """"" for the default of the data."""

    def __repr__(self) -> str:
        return f"SampleMessage(codec={self.codec})"


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
    request = _request(control, listener, sample, Entry(0, message_id, started_at, sample.codec, sample.content))
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


def _request(control: ControlContext, listener: Listener, sample: SampleMessage, entry: Entry) -> AttemptRequest:
    options = listener.options
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
        headers=merge_headers((*without_trace_headers(options.headers), *shown.headers), sample.headers),
        timeout_ms=min(timeout_seconds, LONGEST_SECONDS) * 1_000,
        media_type=sample.content_type,
        is_test=True,
        grant=shown.grant,
    )
    return request if options.format == "plain" else to_cloudevent(request, entry, options.format)


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
