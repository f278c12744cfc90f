"""The parameters of queries, as the documentation shows them. What reads them decides what they mean."""

from collections.abc import Mapping
from typing import Any

import msgspec

from discue.control.pulls import LONGEST_WAIT_SECONDS, MOST_AT_ONCE
from discue.domain.model import MISSED_REASONS

_ID: dict[str, Any] = {"type": "string", "pattern": "^[0-9A-Za-z]{21}$"}
_ALIAS: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 254, "pattern": "^[^\\u0000]*$"}
_TIME: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 999_999_999_999_999}
_EXAMPLE_ID = "0VbuJFSo00H8Lq7zazFOL"


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of a query. `schema` is JSON Schema for what is accepted: anything else is a 400."""

    name: str
    description: str
    schema: Mapping[str, Any]
    example: str | int


PRETTY = Parameter(
    "pretty",
    "`true` indents the response; anything else changes nothing.",
    {"type": "string"},
    "true",
)

_PLACES = (
    Parameter(
        "page",
        "The number of the page, from 1. `_links.next` leads on more cheaply.",
        {"type": "integer", "minimum": 1, "maximum": 999_999_999, "default": 1},
        1,
    ),
    Parameter(
        "per_page",
        "How many elements a page has.",
        {"type": "integer", "minimum": 1, "maximum": 100, "default": 10},
        10,
    ),
    Parameter("after", "Only what follows this id in the list: the elements that are older.", _ID, _EXAMPLE_ID),
    Parameter("before", "Only what precedes this id in the list: the elements that are newer.", _ID, _EXAMPLE_ID),
)

_NAMES = (
    Parameter("alias", "Only what has this alias.", _ALIAS, "orders"),
    Parameter("name", "A synonym of `alias`.", _ALIAS, "orders"),
)

_TIMES = (
    Parameter("created_after", "Only what was created later than this, in milliseconds since the epoch.", _TIME, 0),
    Parameter(
        "created_before",
        "Only what was created earlier than this, in milliseconds since the epoch.",
        _TIME,
        1_893_456_000_000,
    ),
)

PAGES = (*_PLACES, *_NAMES, *_TIMES)
"""Of every list of things that have an alias."""

MESSAGE_PAGES = (
    *PAGES,
    Parameter("listener", "Only what was published for this listener: after it was created.", _ID, _EXAMPLE_ID),
    Parameter(
        "state",
        "Only what is in this state for the `listener`, which must be given, too.",
        {"type": "string", "enum": ["acknowledged", "pending", "retrying", "missed"]},
        "missed",
    ),
)
"""Of every list of messages."""

LISTENER_ATTEMPT_PAGES = (
    *_PLACES,
    *_TIMES,
    Parameter(
        "state",
        "Only attempts that ended so.",
        {"type": "string", "enum": ["acknowledged", "failed"]},
        "failed",
    ),
    Parameter(
        "status",
        "Only attempts that were answered with this status, or with one of a class such as `5xx`; `0`: with none.",
        {"type": "string", "pattern": "^(?:0|[1-9][0-9]{2}|[1-9]xx)$"},
        "5xx",
    ),
)
"""Of the attempts of a listener."""

MESSAGE_ATTEMPT_PAGES = (
    *LISTENER_ATTEMPT_PAGES,
    Parameter("listener", "Only attempts to hand it to this listener of the queue.", _ID, _EXAMPLE_ID),
)
"""Of the attempts of a message."""

DELIVERY_PAGES = (
    *_PLACES,
    *_TIMES,
    Parameter(
        "state",
        "Only deliveries that stand so.",
        {"type": "string", "enum": ["acknowledged", "pending", "retrying", "missed", "filtered"]},
        "retrying",
    ),
)
"""Of the deliveries of a message. An `after` or `before` is the id of a listener."""

PULLS = (
    Parameter(
        "max",
        "How many messages to hand out at most.",
        {"type": "integer", "minimum": 1, "maximum": MOST_AT_ONCE, "default": 10},
        10,
    ),
    Parameter(
        "wait",
        "For how many seconds to wait for the first message, where none is there.",
        {"type": "integer", "minimum": 0, "maximum": LONGEST_WAIT_SECONDS, "default": 0},
        0,
    ),
)
"""Of pulling."""

MISSED_PAGES = (
    *_PLACES,
    Parameter(
        "created_after", "Only messages that were stored later than this, in milliseconds since the epoch.", _TIME, 0
    ),
    Parameter(
        "created_before",
        "Only messages that were stored earlier than this, in milliseconds since the epoch.",
        _TIME,
        1_893_456_000_000,
    ),
    Parameter(
        "reason",
        "Only what was missed for this reason.",
        {"type": "string", "enum": list(MISSED_REASONS)},
        "too_old",
    ),
)
"""Of what a listener has missed."""
