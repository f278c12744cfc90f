"""TODO."""

from typing import Final, Protocol

import msgspec

from discue.control import encryption, messages
from discue.control.context import ControlContext, require_found
from discue.control.listeners import get as get_listener
from discue.crypto.signing_secrets import signing_key_of
from discue.domain import egress
from discue.domain.errors import Fault, NotFound, Unprocessable
from discue.domain.filters.filters import ConditionResult, Filter
from discue.domain.filters.reading import read_filter
from discue.domain.headers import Headers, merge_headers
from discue.domain.model import Entry, Listener, Outcome
from discue.domain.scopes import Principal
from discue.sending.attempt_request import AttemptRequest
from discue.sending.event_request import as_event
from discue.sending.presented import presented
from discue.store import domains, listeners, organizations
from discue.store.engine import Transaction
from discue.store.message_log import entry_of_message

LONGEST_SECONDS: Final = 30
"""Somebody waits for the answer: where a listener has more time, a test has not."""

_POINTER: Final = "/notify_url"


class SampleMessage(msgspec.Struct, frozen=True):
    """A message that is made up."""

    content: bytes
    is_json: bool
    headers: Headers = ()

    def __repr__(self) -> str:
        return f"Sample(is_json={self.is_json})"


class DeliveryTestResult(msgspec.Struct, frozen=True):
    """What came of it. Of one that is `withheld` no more may be told than the outcome and the class of the status."""

    message_id: str
    started_at: int
    outcome: Outcome
    withheld: bool

    def __repr__(self) -> str:
        return f"Report(message_id={self.message_id!r}, withheld={self.withheld})"


class Samples(Protocol):
    """Makes attempts that nothing follows from: `sending.sampler.Sampler`."""

    async def attempt(self, organization: int, request: AttemptRequest) -> Outcome: ...

    def may_tell(self, outcome: Outcome) -> bool: ...


async def send(
    control: ControlContext, principal: Principal, path: tuple[str, str], sample: SampleMessage, samples: Samples
) -> DeliveryTestResult:
    """Send the sample to the listener at `path` now, as a message is sent, also to one that is disabled.

    Raises Unprocessable where nothing may be sent to, and TooManyRequests.
    """
    listener = await control.store.read(lambda tx: _listener(tx, principal, path))
    message_id, started_at = control.public_ids.next(), control.clock.now()
    request = _request(control, listener, sample, Entry(0, message_id, started_at, sample.is_json, sample.content))
    egress.check_target(request.target, control.egress, _POINTER)
    outcome = await samples.attempt(listener.organization, request)
    if outcome.error == "refused_address":
        # No more than is said of an address when a listener is created: not what its name leads to.
        raise _invalid("must lead to a public address")
    return DeliveryTestResult(message_id, started_at, outcome, withheld=not samples.may_tell(outcome))


async def _listener(tx: Transaction, principal: Principal, path: tuple[str, str]) -> Listener:
    queue_public_id, public_id = path
    principal.require("listeners", "write", public_id, queue_public_id)
    listener = require_found(await listeners.get(tx, principal.organization, public_id))
    if listener.queue_public_id != queue_public_id:
        raise NotFound
    if listener.mode == "pull":
        raise _invalid("is not there: the messages of this listener are pulled")
    owner = require_found(await organizations.get(tx, listener.organization))
    wants_verified = owner.settings.get(domains.REQUIRE_VERIFIED_DOMAINS)
    if wants_verified and not await domains.VerifiedDomains(tx).has(listener.organization, listener.notify_url):
        raise _invalid("must lie on a domain of the organization that is verified")
    return listener


def _request(control: ControlContext, listener: Listener, sample: SampleMessage, entry: Entry) -> AttemptRequest:
    options = listener.options
    shown = presented(encryption.credentials_of(control, listener), listener.public_id)
    timeout_seconds = options.timeout_seconds or control.settings.delivery_timeout_seconds
    request = AttemptRequest(
        target=egress.parse_target(listener.notify_url, _POINTER),
        message_id=entry.id,
        is_json=entry.is_json,
        body=entry.body,
        keys=tuple(
            signing_key_of(each) for each in encryption.opened(control, listener) if each.is_valid(entry.stored_at)
        ),
        queue_id=listener.queue_public_id,
        listener_id=listener.public_id,
        number=1,
        headers=merge_headers((*options.headers, *shown.headers), sample.headers),
        timeout_ms=min(timeout_seconds, LONGEST_SECONDS) * 1_000,
        is_test=True,
        grant=shown.grant,
        identity=shown.identity,
    )
    return request if options.format == "plain" else as_event(request, entry, options.format)


def _invalid(rule: str) -> Unprocessable:
    return Unprocessable(f"The listener's notify_url {rule}.", faults=(Fault(_POINTER, rule),))


class FilterTest(msgspec.Struct, frozen=True):
    """A filter, None for the listener's own, and what to try it on: a message that is made up, or the id of one."""

    filter: str | None
    message: Entry | str


class FilterTestResult(msgspec.Struct, frozen=True):
    """Whether the message is let through, and for each condition whether it holds on its own."""

    matches: bool
    answers: tuple[ConditionResult, ...] = ()


async def try_filter(
    control: ControlContext, principal: Principal, path: tuple[str, str], trial: FilterTest
) -> FilterTestResult:
    """Of the listener at `path`. A stored message must be one that the caller may read.

    Raises Unprocessable for a filter that is none.
    """
    details = await get_listener(control, principal, *path)
    chosen = None if trial.filter is None else read_filter(trial.filter.encode(), "/filter")
    entry = trial.message
    if isinstance(entry, str):
        entry = entry_of_message((await messages.get(control, principal, path[0], entry)).message)
    text = details.listener.options.filter
    if chosen is None and text is not None:
        chosen = read_filter(text.encode(), "/filter")
    if chosen is None:
        return FilterTestResult(matches=True)
    found = Filter(chosen)
    return FilterTestResult(found.takes(entry), tuple(found.answers(entry)))
