"""From a message and a listener's configuration to the request that an attempt makes."""

from discue.dispatch.lane.endpoint import Endpoint
from discue.domain.clock import Clock
from discue.domain.headers import merge_headers
from discue.domain.messages import Entry, decode_options, message_headers
from discue.sending.request import AttemptRequest, to_cloudevent
from discue.store.cursors import LaneRecord


def request_of(record: LaneRecord, endpoint: Endpoint, entry: Entry, number: int, clock: Clock) -> AttemptRequest:
    """Attempt `number` of the message, in the listener's format, to be signed with the keys that are valid now."""
    request = AttemptRequest(
        endpoint.target,
        entry.id,
        entry.is_json,
        entry.body,
        endpoint.keys_valid(clock),
        record.queue_public_id,
        record.listener_public_id,
        number,
        endpoint.headers
        if not entry.extra
        else merge_headers(endpoint.headers, message_headers(decode_options(entry.extra))),
        endpoint.timeout_ms,
        replay_id="" if record.replay is None else record.replay.public_id,
        grant=endpoint.grant,
        identity=endpoint.identity,
    )
    return request if endpoint.format == "plain" else to_cloudevent(request, entry, endpoint.format)
