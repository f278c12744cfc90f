"""Query parameters, and the selections of lists that they describe."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, get_args
from urllib.parse import parse_qs, unquote_plus

import msgspec

from discue.api.delivery_options import KEY_LIMITS
from discue.api.structs import EXAMPLE_IDS, MISSED_GROUP, PUBLIC_ID, within
from discue.domain.attempts import AttemptState
from discue.domain.errors import BadRequest, malformed
from discue.domain.messages import MessageState
from discue.domain.model import LONGEST_CUSTOMER, MISSED_REASONS, DeliveryState
from discue.domain.suggestions import alternatives
from discue.store.missed_scan import POSITION_PATTERN
from discue.store.pagination import DEEPEST_ITEM, FIRST_PAGE

_PER_PAGE: Final = re.compile(r"(?:^|&)per_page=([0-9]{1,3})(?:&|$)")


LARGEST_PAGE: Final = 100
_MOST_PARAMETERS: Final = 64
_SHOWN_NAME: Final = 100
_LONGEST_NUMBER: Final = 9
_LATEST: Final = 999_999_999_999_999


class Parameter(msgspec.Struct, frozen=True):
    """A query parameter. Values that do not match `schema` are rejected with 400 and `rule`."""

    name: str
    description: str
    schema: Mapping[str, Any]
    example: str | int
    rule: str = ""
    field: str = ""
    """The field of a Selection that it sets, if that has another name."""

    def parse(self, text: str) -> str | int:
        """Return the value. Raises BadRequest."""
        schema = self.schema
        if schema["type"] == "integer":
            lowest, highest = schema["minimum"], schema["maximum"]
            # `isdecimal` is true for digits of other scripts, too, and `int` takes long for very long texts.
            is_number = text.isascii() and text.isdecimal() and len(text) <= max(_LONGEST_NUMBER, len(str(highest)))
            if not is_number or not lowest <= int(text) <= highest:
                raise self.wrong(self.rule or f"must be a whole number from {lowest} to {highest}")
            return int(text)
        if not text and "enum" in schema and "default" in schema:
            return str(schema["default"])
        if "enum" in schema and text not in schema["enum"]:
            raise self.wrong(f"must be one of {', '.join(schema['enum'])}")
        lengths = schema.get("minLength", 0), schema.get("maxLength", len(text))
        if not lengths[0] <= len(text) <= lengths[1] or re.fullmatch(schema.get("pattern", "(?s).*"), text) is None:
            raise self.wrong(self.rule)
        return text

    def wrong(self, rule: str) -> BadRequest:
        return malformed(f"?{self.name}", rule, code="invalid_parameter")


def rows_of(query: str) -> int:
    """Return the largest number of rows of a page for a query, which may be invalid."""
    found = _PER_PAGE.search(query)
    if found is not None:
        return min(int(found[1]), LARGEST_PAGE)
    # The name or the number may be percent-encoded: it is decoded later, with the other parameters.
    return LARGEST_PAGE if "per_page" in query or "%" in query else FIRST_PAGE.per_page


def shows_data(query: str) -> bool:
    """Return whether a query, which may be invalid, can ask for the data of messages."""
    return "data=true" in query or "%" in query


def text_parameter(
    name: str, description: str, example: str, rule: str = "", *, field: str = "", **schema: Any
) -> Parameter:
    """Describe a text parameter. `schema` has its limits."""
    return Parameter(name, description, {"type": "string", **schema}, example, rule, field)


def id_parameter(name: str, description: str) -> Parameter:
    rule = "must be an id: 21 letters and digits"
    return text_parameter(name, description, EXAMPLE_IDS["queue_id"], rule, pattern=PUBLIC_ID)


def number_parameter(name: str, description: str, bounds: range, default: int) -> Parameter:
    return Parameter(name, description, {"type": "integer", **within(bounds), "default": default}, default)


def time_parameter(name: str, description: str, example: int, latest: int = _LATEST) -> Parameter:
    schema = {"type": "integer", "minimum": 0, "maximum": latest}
    return Parameter(name, description, schema, example, "must be a time in milliseconds since the epoch")


def _without_default(parameter: Parameter) -> Parameter:
    schema = {name: value for name, value in parameter.schema.items() if name != "default"}
    return msgspec.structs.replace(parameter, schema=schema)


def _missed_position(name: str, description: str) -> Parameter:
    rule = "must be a position from `_links.next` or `_links.prev`"
    return text_parameter(name, description, "0LygHAWm4JB00000000004", rule, pattern=POSITION_PATTERN)


def _group_parameter(name: str, description: str) -> Parameter:
    return text_parameter(name, description, MISSED_GROUP, "must be the id of a group", pattern=POSITION_PATTERN)


def _name_parameter(name: str, description: str, example: str, longest: int = 254) -> Parameter:
    limits: dict[str, Any] = {"minLength": 1, "maxLength": longest, "pattern": "^[^\\u0000]*$"}
    return text_parameter(name, description, example, f"must have 1 to {longest} characters", **limits)


def _creation_times(what: str) -> tuple[Parameter, Parameter]:
    after = f"Only {what} later than this, in milliseconds since the epoch."
    before = f"Only {what} earlier than this, in milliseconds since the epoch."
    return (
        time_parameter("created_after", after, 0),
        time_parameter("created_before", before, 1_893_456_000_000),
    )


PRETTY: Final = text_parameter(
    "pretty",
    "`true` indents the response, unless it is large or deeply nested. Other values have no effect.",
    "true",
)
ALIASES: Final = text_parameter(
    "aliases",
    "`false` leaves out operations that are other names of operations: `PUT` on a collection, and `/api_clients`. "
    "Generators of clients then make one function of each operation. Default: `true`.",
    "false",
    enum=["true", "false"],
)
_PAGE: Final = number_parameter(
    "page",
    f"Number of the page, from 1 to the {DEEPEST_ITEM:,}th item. Following `_links.next` is cheaper and has no end.",
    range(1, DEEPEST_ITEM + 1),
    FIRST_PAGE.page,
)
_POSITION: Final = (
    number_parameter("per_page", "Number of items per page.", range(1, LARGEST_PAGE + 1), FIRST_PAGE.per_page),
    _PAGE,
    id_parameter("after", "Only items that follow this id in the list: older ones."),
    id_parameter("before", "Only items that precede this id in the list: newer ones."),
)
_NAME: Final = _name_parameter("name", "A synonym of `alias`.", "orders")
_CREATED: Final = _creation_times("items created")
_DATA: Final = text_parameter(
    "data",
    "`true` shows the data of each message, of at most 1 MiB in all: larger messages come without.",
    "true",
    enum=["true", "false"],
    default="false",
)
_STATE: Final = text_parameter(
    "state",
    "Only messages in this state: for the `listener` if there is one, else for all listeners, as lists show it.",
    "missed",
    enum=list(get_args(MessageState)),
)

PAGES: Final = (*_POSITION, _name_parameter("alias", "Only items with this alias.", "orders"), _NAME, *_CREATED)
"""Parameters of every list of named resources."""

QUEUE_PAGES: Final = (*PAGES, _name_parameter("customer", "Only queues of this customer.", "acme", LONGEST_CUSTOMER))
LISTENER_PAGES: Final = (
    *PAGES,
    _name_parameter("customer", "Only listeners of this customer.", "acme", LONGEST_CUSTOMER),
)
MESSAGE_PAGES: Final = (
    *PAGES,
    id_parameter("listener", "Only messages published for this listener, that is after it was created."),
    _STATE,
    text_parameter(
        "key",
        "Only messages with this key.",
        "customer-9",
        f"must have {KEY_LIMITS['minLength']} to {KEY_LIMITS['maxLength']} characters",
        **KEY_LIMITS,
    ),
    text_parameter(
        "header",
        "Only messages with this header: `name`, or `name:value` for one with this value.",
        "x-shop:north",
        "must be the name of a header, or name:value",
        pattern="^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}(?::.{0,4096})?$",
    ),
    _DATA,
)
LISTENER_ATTEMPT_PAGES: Final = (
    *_POSITION,
    *_CREATED,
    text_parameter(
        "state", "Only attempts with this outcome.", "failed", field="outcome", enum=list(get_args(AttemptState))
    ),
    text_parameter(
        "status",
        "Only attempts with this response status, or a class of them such as `5xx`; `0`: no response.",
        "5xx",
        "must be a status such as 503, a class of them such as 5xx, or 0",
        pattern="^(?:0|[1-9][0-9]{2}|[1-9]xx)$",
    ),
)
MESSAGE_ATTEMPT_PAGES: Final = (
    *LISTENER_ATTEMPT_PAGES,
    id_parameter("listener", "Only attempts to deliver to this listener of the queue."),
)
DELIVERY_PAGES: Final = (
    *_POSITION,
    *_CREATED,
    text_parameter("state", "Only deliveries in this state.", "retrying", enum=list(get_args(DeliveryState))),
)
"""`after` and `before` are ids of listeners."""

_MISSED_FILTERS: Final = (
    *_creation_times("messages stored"),
    text_parameter("reason", "Only messages missed for this reason.", "too_old", enum=list(MISSED_REASONS)),
)
MISSED_PAGES: Final = (*_POSITION, *_MISSED_FILTERS)
ALL_MISSED_PAGES: Final = (
    *_POSITION[:2],
    _missed_position("after", "Only items that follow this position from a link."),
    _missed_position("before", "Only items that precede this position from a link."),
    *_MISSED_FILTERS,
    id_parameter("queue", "Only messages that listeners of this queue missed."),
    id_parameter("listener", "Only messages that this listener missed."),
    _group_parameter("group", "Only messages of this group, from `GET /missed/groups`."),
)
MISSED_GROUP_PAGES: Final = (
    *_POSITION[:2],
    _group_parameter("after", "Only groups that follow this one in the list: smaller ones."),
    _group_parameter("before", "Only groups that precede this one in the list: larger ones."),
    id_parameter("queue", "Only groups of listeners of this queue."),
    id_parameter("listener", "Only groups of this listener."),
)


EVENT_PAGES: Final = (_without_default(_POSITION[0]), _without_default(_POSITION[1]), *_POSITION[2:])
"""The parameters of pages of events. None has a default: without any of them, the list of events is no page."""


def require_known(query: str, known: Iterable[str]) -> None:
    """Raise BadRequest if the query has a parameter that is not `known`."""
    for part in query.split("&"):
        name = unquote_plus(part.partition("=")[0])[:_SHOWN_NAME]
        if name and name not in known:
            raise malformed(f"?{name}", "is not known" + alternatives(name, known), code="unknown_parameter")


def read_parameters(query: str, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Return the value of each parameter: as given, or its default, or None. Raises BadRequest."""
    values = {parameter.name: parameter.schema.get("default") for parameter in parameters}
    if not query:
        return values
    try:
        given = parse_qs(query, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        detail = f"The query has more than {_MOST_PARAMETERS} parameters."
        raise BadRequest(detail, code="invalid_parameter") from None
    for parameter in parameters:
        texts = given.get(parameter.name)
        if texts is None:
            continue
        if len(texts) > 1:
            raise parameter.wrong("must be given once")
        values[parameter.name] = parameter.parse(texts[0])
    return values


def selected(query: str, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Return the parameters that differ from their defaults, in the order in which links have them."""
    values = read_parameters(query, parameters)
    given = {
        parameter.name: values[parameter.name]
        for parameter in parameters
        if values[parameter.name] != parameter.schema.get("default")
    }
    last_item = (values.get("page") or 1) * (values.get("per_page") or FIRST_PAGE.per_page)
    if last_item > DEEPEST_ITEM and not {"after", "before"} & given.keys():
        rule = f"times per_page can be at most {DEEPEST_ITEM}"
        raise _PAGE.wrong(f"{rule}: follow the `next` links, or use `after` and `before`, instead")
    if given.get("state") == "no_listeners" and "listener" in given:
        raise _STATE.wrong("cannot be no_listeners for a listener")
    # Links use `alias` only, so that both synonyms lead to the same pages.
    name = given.pop(_NAME.name, None)
    if name is not None and given.setdefault("alias", name) != name:
        raise _NAME.wrong("is a synonym of alias, and has another value")
    return given
