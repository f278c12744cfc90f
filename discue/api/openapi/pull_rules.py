"""The fields that say how messages are pulled: see `field_rules`."""

from collections.abc import Mapping
from typing import Any, Final, get_args

from discue.api.openapi.rule import INSTANT, Rule
from discue.api.resources.pulls import LONGEST_DELAY_SECONDS, RECEIPTS_AT_MOST
from discue.control.listener_options import LEASE_SECONDS
from discue.control.listeners import MODES
from discue.control.pulls import DecisionResult
from discue.domain.messages import RECEIPT_HANDLE_PATTERN

EXAMPLE_RECEIPT: Final = "0000000001l8lCq3JzX4bM"

_RECEIPTS: dict[str, Any] = {
    "maxItems": RECEIPTS_AT_MOST,
    "items": {"type": "string", "pattern": RECEIPT_HANDLE_PATTERN},
}
_LEASE = {"minimum": LEASE_SECONDS.start, "maximum": LEASE_SECONDS.stop - 1}

RULES: Final[Mapping[str, Rule]] = {
    "mode": Rule(
        "Whether messages are sent to it (`push`, the default), or handed out when it asks for them (`pull`): chosen "
        "at the creation.",
        "push",
        {"enum": list(MODES)},
    ),
    "lease_seconds": Rule(
        "For how many seconds a message that is pulled is its consumer's, without a word about it: 30. In the mode "
        "`pull` alone.",
        30,
        _LEASE,
    ),
    "EffectiveShown.lease_seconds": Rule("For how many seconds a message is leased.", 30, _LEASE),
    "Pulled.messages": Rule("What was handed out, at most as many as were asked for.", None),
    "PulledShown.id": Rule("The id of the message.", "0VbuJFW500I0yWwoGXXf6", {"pattern": "^[0-9A-Za-z]{21}$"}),
    "PulledShown.stored_at": Rule(
        "When the message was stored, in milliseconds since the epoch.", 1_795_536_280_000, INSTANT
    ),
    "PulledShown.data": Rule("The message's data, as a string.", '{"order":17}'),
    "content_type": Rule(
        "What the data is: JSON or text, or what it was published as; empty for an event without any.",
        "application/json",
    ),
    "PulledShown.attempt": Rule("Which attempt of the delivery this is, from 1.", 1, {"minimum": 1}),
    "receipt": Rule(
        "What stands for the lease when something is said of the message.",
        EXAMPLE_RECEIPT,
        {"pattern": RECEIPT_HANDLE_PATTERN},
    ),
    "leased_until": Rule("When the lease ends, in milliseconds since the epoch.", 1_795_536_310_000, INSTANT),
    "PulledShown.key": Rule("The message's key.", "customer-9"),
    "PulledShown.headers": Rule(
        "The message's own headers, with the attributes of an event (`ce-…`) among them.", {"x-shop": "north"}
    ),
    "acknowledge": Rule("Receipts of messages that are done.", [EXAMPLE_RECEIPT], _RECEIPTS),
    "reject": Rule(
        "Receipts of messages that could not be worked on: the next attempt follows by the retry policy.",
        [EXAMPLE_RECEIPT],
        _RECEIPTS,
    ),
    "release": Rule(
        "Receipts of messages that are given back, as if they had not been handed out.", [EXAMPLE_RECEIPT], _RECEIPTS
    ),
    "extend": Rule("Receipts of messages whose leases begin anew.", [EXAMPLE_RECEIPT], _RECEIPTS),
    "AcknowledgementsBody.delay": Rule(
        "After how many seconds those of `release` are due again: at once without a word about it.",
        5,
        {"minimum": 0, "maximum": LONGEST_DELAY_SECONDS},
    ),
    "AcknowledgementsBody.lease_seconds": Rule(
        "For how many seconds from now those of `extend` are leased: as the listener has it without a word about it.",
        60,
        _LEASE,
    ),
    "Receipts.receipts": Rule("What became of each, in the order of the request.", None),
    "ReceiptShown.state": Rule(
        "What became of it: `expired` when the lease was over and the message is due again or with somebody else, "
        "`settled` when nothing is left to do for the message.",
        "acknowledged",
        {"enum": list(get_args(DecisionResult))},
    ),
}
