"""`/queues/{queue_id}/listeners/{listener_id}/filter-tests`."""

from discue.api import bodies, wire
from discue.api.delivery_options import filter_of
from discue.api.links import link_to
from discue.api.resources.messages import content_of
from discue.api.route import Call, Needs, Route
from discue.control import listener_tests
from discue.control.listener_tests import FilterTestParams
from discue.domain import headers
from discue.domain.errors import BadRequest, Fault, Unprocessable
from discue.domain.messages import Entry, MessageOptions, encode_options


async def create(call: Call) -> wire.FilterTest:
    body: bodies.FilterTestBody = call.body
    queue_id, listener_id = call.ids
    chosen = filter_of(body.filter)
    params = FilterTestParams(chosen if isinstance(chosen, str) else None, _message(body))
    verdict = await listener_tests.try_filter(call.control, call.principal, (queue_id, listener_id), params)
    conditions = [wire.ConditionShown(answer.pointer, answer.holds) for answer in verdict.conditions]
    shown = wire.FilterTestShown(matches=verdict.matches, conditions=conditions)
    return wire.FilterTest(filter_test=shown, links=link_to(call.url))


def _message(body: bodies.FilterTestBody) -> Entry | str:
    """What to try it on: an id, or a message as it would be stored."""
    if body.message_id is not None:
        if body.data or body.headers is not None or body.key is not None:
            rule = "cannot stand beside data, headers or key"
            raise Unprocessable(f"The field message_id {rule}.", faults=(Fault("/message_id", rule),))
        return body.message_id
    if not body.data:
        raise BadRequest("Give data, or the message_id of a message.", faults=(Fault("/data", "is missing"),))
    content, is_json = content_of(body.data)
    options = MessageOptions(headers=headers.check_headers(body.headers or {}, "/headers"), key=body.key)
    return Entry(0, "", 0, is_json, content, extra=encode_options(options) or b"")


ROUTES = (
    Route(
        methods=("POST",),
        path="/queues/{queue_id}/listeners/{listener_id}/filter-tests",
        handler=create,
        request=bodies.FilterTestBody,
        response=wire.FilterTest,
        needs=Needs("listeners", "read"),
        statuses=(404, 422),
        summary="Try a filter",
        description="Nothing is stored or sent. For a stored message the key must be one that may read it.",
        example={"filter": {"data": {"order.state": ["paid"]}}, "data": {"order": {"state": "paid"}}},
    ),
)
"""They are not kept: what creates them needs no more than to read."""
