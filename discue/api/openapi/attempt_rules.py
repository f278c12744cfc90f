"""The fields that say what became of deliveries: see `field_rules`."""

from collections.abc import Mapping
from typing import Final, get_args

from discue.api.openapi.rule import INSTANT, Rule
from discue.domain.attempts import FailureKind

EXAMPLE_ID: Final = "0VbuJFNC00000000000Ju"

_ID = {"pattern": "^[0-9A-Za-z]{21}$"}
_COUNT = {"minimum": 0}

RULES: Final[Mapping[str, Rule]] = {
    "next_attempt_at": Rule(
        "When the next attempt may start, in milliseconds since the epoch. Without it, none was to follow.",
        1_795_536_285_000,
        INSTANT,
    ),
    "DeliveryShown.next_attempt_at": Rule(
        "Of a retrying one: when it may be tried again, in milliseconds since the epoch. Not there while it is.",
        1_795_536_285_000,
        INSTANT,
    ),
    "missed_reason": Rule("Of a missed one: why no attempt follows.", "attempts_used_up", {"pattern": "^[a-z_]+$"}),
    "Deliveries.deliveries": Rule("The deliveries, that to the newest listener first.", None),
    "attempt": Rule("The attempt.", None),
    "Attempts.attempts": Rule("The attempts, newest first.", None),
    "AttemptShown.id": Rule("The id of the attempt; that of its usage event, too.", EXAMPLE_ID, _ID),
    "message_id": Rule("The id of the message. Not there when it is not kept any more.", "0VbuJFW500I0yWwoGXXf6", _ID),
    "number": Rule("Which attempt of the delivery it was, from 1.", 2, {"minimum": 1}),
    "AttemptShown.state": Rule("How it ended.", "failed", {"enum": ["acknowledged", "failed"]}),
    "AttemptShown.status": Rule(
        "The status of the answer; 0 where none was read.", 503, {"minimum": 0, "maximum": 999}
    ),
    "error": Rule("Why it failed; empty when it did not.", "status", {"enum": list(get_args(FailureKind))}),
    "AttemptShown.detail": Rule("The same as a sentence.", "The listener answered 503 Service Unavailable."),
    "took_ms": Rule("How long it took, in milliseconds.", 34, _COUNT),
    "started_at": Rule("When it began, in milliseconds since the epoch.", 1_795_536_280_000, INSTANT),
    "AttemptShown.created_at": Rule(
        "When it had ended and was recorded, in milliseconds since the epoch.", 1_795_536_280_034, INSTANT
    ),
    "replay_id": Rule(
        "The id of the replay that it was of. Not there when it was of none.", "0VbuJFSr008x0dWq5LmTs", _ID
    ),
    "connection": Rule("Where the request went. Not there when no address could be connected to.", None),
    "ConnectionShown.address": Rule(
        "The address that was connected to, or was the last one to be tried, and its port.", "203.0.113.7:443"
    ),
    "reused": Rule("Whether the connection had carried other requests before.", False),
    "timings": Rule("How long its stages took.", None),
    "resolve_ms": Rule("Looking up the host name, in milliseconds.", 3, _COUNT),
    "connect_ms": Rule("Connecting to the address, in milliseconds.", 8, _COUNT),
    "tls_ms": Rule("The TLS handshake, in milliseconds.", 17, _COUNT),
    "first_byte_ms": Rule("From sending the request to the first byte of the answer, in milliseconds.", 5, _COUNT),
    "total_ms": Rule("All of it, in milliseconds.", 34, _COUNT),
    "request": Rule("What was sent, besides the message's data.", None),
    "response": Rule("What was answered. Not there when nothing was.", None),
    "RequestShown.headers": Rule(
        "The headers. Values that the service did not choose are `[hidden]`.",
        [{"name": "content-type", "value": "application/json"}],
    ),
    "ResponseShown.headers": Rule(
        "The headers, their names in small letters. Of those that look like secrets the value is `[hidden]`.",
        [{"name": "retry-after", "value": "30"}],
    ),
    "HeaderShown.name": Rule("The name.", "content-type"),
    "value": Rule("The value.", "application/json"),
    "body": Rule("The first 16 KiB of the body, as text.", "down for maintenance"),
    "test": Rule("What came of the test.", None),
    "DeliveryTestShown.message_id": Rule(
        "What was sent as the message's id. There is no such message.", "0VbuJFW500I0yWwoGXXf6", _ID
    ),
    "DeliveryTestShown.state": Rule("How it ended.", "failed", {"enum": ["acknowledged", "failed"]}),
    "status_class": Rule(
        "The class of the answer's status; empty where none was read.", "5xx", {"pattern": "^(?:[1-9]xx)?$"}
    ),
    "withheld": Rule(
        "Whether the address is none that anybody could ask. Then what it answered, and how long that took, is not "
        "told.",
        False,
    ),
    "DeliveryTestShown.status": Rule(
        "The status of the answer; 0 where none was read.", 503, {"minimum": 0, "maximum": 999}
    ),
    "DeliveryTestShown.detail": Rule(
        "Why it failed, as a sentence; empty when it did not.", "The listener answered 503 Service Unavailable."
    ),
    "body_bytes": Rule("How many bytes of the body were read.", 20, _COUNT),
}
