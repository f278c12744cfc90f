"""`/queues/{queue_id}/listeners/{listener_id}/tests`."""

from typing import Final

from msgspec import UNSET

from discue.api import bodies, wire
from discue.api.links import link_to
from discue.api.resources.attempts import details_shown
from discue.api.resources.messages import content_of
from discue.api.route import Call, Needs, Route
from discue.control import listener_tests
from discue.control.listener_tests import DeliveryTestResult, SampleMessage
from discue.domain import headers
from discue.domain.attempts import detail_of

SAMPLE: Final = b'{"test":true}'


async def create(call: Call) -> wire.DeliveryTest:
    body: bodies.DeliveryTestBody = call.body
    queue_id, listener_id = call.ids
    content, is_json = content_of(body.data) if body.data else (SAMPLE, True)
    sample = SampleMessage(content, is_json, headers.check_headers(body.headers or {}, "/headers"))
    path = (queue_id, listener_id)
    report = await listener_tests.send(call.control, call.principal, path, sample, call.services.samples)
    return wire.DeliveryTest(test=_shown(report), links=link_to(call.url))


def _shown(report: DeliveryTestResult) -> wire.DeliveryTestShown:
    outcome = report.outcome
    details = {} if outcome.trace is None else details_shown(detail_of(outcome.trace, 0))
    if report.withheld:
        details = {name: value for name, value in details.items() if name == "request"}
    else:
        details |= {"status": outcome.status, "detail": outcome.detail, "took_ms": outcome.duration_ms}
    return wire.DeliveryTestShown(
        message_id=report.message_id,
        started_at=report.started_at,
        state="acknowledged" if outcome.acknowledged else "failed",
        error=outcome.error,
        status_class=f"{outcome.status // 100}xx" if outcome.status else "",
        withheld=report.withheld,
        **{name: value for name, value in details.items() if name != "next_attempt_at" and value is not UNSET},
    )


ROUTES = (
    Route(
        methods=("POST",),
        path="/queues/{queue_id}/listeners/{listener_id}/tests",
        handler=create,
        request=bodies.DeliveryTestBody,
        response=wire.DeliveryTest,
        needs=Needs("listeners", "write"),
        ignores_idempotency_key=True,
        statuses=(404, 422),
        summary="Test a listener",
        description="One real request to its `notify_url`, now, made and signed as a delivery is, with `discue-test: "
        "true`. Nothing of it is stored or counted, and it is not repeated. The answer says what came of it.",
        example={"data": {"order": {"state": "paid"}}},
    ),
)
