"""Tests of listeners: what is sent for one, and where it is refused."""

from typing import Any

import msgspec
import pytest

from discue.control import listener_secrets, listener_tests, listeners, organizations, queues
from discue.control.context import ControlContext
from discue.control.listener_fields import ListenerFields, OptionFields
from discue.control.listener_secrets import SecretFields
from discue.control.listener_tests import LONGEST_SECONDS, DeliveryTestResult, SampleMessage
from discue.control.organizations import OrganizationFields
from discue.control.queues import QueueFields
from discue.domain.attempts import FailureKind, Outcome
from discue.domain.errors import Unprocessable
from discue.domain.message_data import JSON_VALUE
from discue.domain.messages import MessageOptions
from discue.sending.request import AttemptRequest
from discue.store import domains
from tests.support.cast import Cast, Person

SAMPLE = SampleMessage(
    b'{"n":1}', codec=JSON_VALUE, options=MessageOptions(headers=(("x-own", "message"), ("x-more", "1")))
)
PLACE = "https://shop.example.com/notify"


class Noted:
    """Takes requests down, and answers all of them alike."""

    def __init__(self, error: FailureKind = "") -> None:
        self.requests: list[AttemptRequest] = []
        self._outcome = Outcome(0 if error else 204, error, "It is 10.1.2.3.", 3)

    async def attempt(self, organization: int, request: AttemptRequest) -> Outcome:
        del organization
        self.requests.append(request)
        return self._outcome


async def _path(cast: Cast, **fields: Any) -> tuple[str, str]:
    """Create a disabled listener of alice's; returns the ids of its queue and its own."""
    control, principal = cast.control, cast.alice.principal
    queue = (await queues.create(control, principal, QueueFields())).queue.public_id
    chosen = ListenerFields(notify_url=PLACE, liveness_url=PLACE, status="disabled", options=OptionFields(**fields))
    return queue, (await listeners.create(control, principal, queue, chosen)).listener.public_id


async def _send(cast: Cast, path: tuple[str, str], noted: Noted, person: Person | None = None) -> DeliveryTestResult:
    principal = (person or cast.alice).principal
    return await listener_tests.send(cast.control, principal, path, SAMPLE, sender=noted)


async def test_test_request_has_the_form_of_a_delivery(cast: Cast, control: ControlContext) -> None:
    path = await _path(cast, headers={"X-Own": "listener"}, timeout_seconds=7)
    await listener_secrets.create(control, cast.alice.principal, path, SecretFields(type="ed25519"))
    noted = Noted()
    report = await _send(cast, path, noted)
    [request] = noted.requests
    assert (request.message_id, request.body, request.number, request.is_test) == (
        report.message_id,
        SAMPLE.content,
        1,
        True,
    )
    assert (request.destination.queue_id, request.destination.listener_id) == path
    assert request.headers == (("X-Own", "listener"), ("x-more", "1"))
    assert (len(request.keys), request.timeout_ms) == (2, 7_000)
    assert (report.outcome.status, report.started_at) == (204, cast.clock.now())


async def test_test_request_times_out_after_30_seconds_at_most(cast: Cast) -> None:
    noted = Noted()
    await _send(cast, await _path(cast, timeout_seconds=300), noted)
    assert noted.requests[0].timeout_ms == LONGEST_SECONDS * 1_000


async def test_test_request_has_the_format_of_the_listener(cast: Cast) -> None:
    noted = Noted()
    await _send(cast, await _path(cast, format="cloudevents_structured"), noted)
    [request] = noted.requests
    assert request.media_type.startswith("application/cloudevents+json")
    assert msgspec.json.decode(request.body)["data"] == {"n": 1}
    assert request.is_test


async def test_refused_address_gets_the_error_text_of_creation(cast: Cast) -> None:
    with pytest.raises(Unprocessable) as refused:
        await _send(cast, await _path(cast), Noted("refused_address"))
    assert [fault.pointer for fault in refused.value.faults] == ["/notify_url"]
    assert "10.1.2.3" not in str(refused.value)


async def test_test_request_requires_a_verified_domain_if_the_organization_does(
    cast: Cast, control: ControlContext
) -> None:
    path, noted, principal = await _path(cast), Noted(), cast.alice.principal
    wanted = OrganizationFields(require_verified_domains=True)
    assert domains.REQUIRE_VERIFIED_DOMAINS == "require_verified_domains"
    await organizations.change(control, principal, principal.organization_public_id, wanted)
    with pytest.raises(Unprocessable) as refused:
        await _send(cast, path, noted)
    assert [fault.pointer for fault in refused.value.faults] == ["/notify_url"]
    assert noted.requests == []
