"""Transforms of listeners: JMESPath expressions that make the body of a request from a message.

The interpreter of the library has no limits: an expression of 109 characters can produce 3 MB, and each further step
doubles that. Here, each evaluation has a limited number of steps. Visiting a node of the expression takes one step, and
a function takes steps for the length of its arguments before it is called. Values may share parts, so a part counts
each time it occurs.
"""

import math
from functools import lru_cache
from typing import Any, Final

import msgspec
from jmespath.exceptions import JMESPathError, JMESPathTypeError, ParseError
from jmespath.functions import Functions
from jmespath.parser import Parser
from jmespath.visitor import TreeInterpreter
from msgspec import UnsetType

from discue.domain.errors import invalid
from discue.domain.json_text import decode_value
from discue.domain.message_data import JSON_VALUE, is_json
from discue.domain.messages import Entry, decode_options, encode_options, message_headers

MAX_CHARACTERS: Final = 4_096
MAX_NODES: Final = 300
MAX_LEVELS: Final = 40
MAX_STEPS: Final = 5_000
MAX_DATA_BYTES: Final = 262_144
"""Larger messages are not transformed."""
MAX_RESULT_BYTES: Final = 65_536
"""Maximum size of a body, unless the data of the message is larger than that."""
MAX_PARTS: Final = 20_000
"""Maximum number of values in a body."""

_CACHED: Final = 256
_CHARACTERS_A_STEP: Final = 32
_PARTS_A_STEP: Final = 4
_DEEP: Final = frozenset({"contains", "to_string"})
"""Functions that look at every part of their arguments."""
_SORTING: Final = frozenset({"sort", "sort_by", "min_by", "max_by"})

Node = dict[str, Any]

_encode: Final = msgspec.json.Encoder().encode


MOST_FAILURES: Final = 20
"""A listener is disabled when its transform fails for this many messages in a row."""


class TransformFailed(Exception):
    """A transform has no result for a message. The text completes the sentence "The transform …"."""


def check_transform(text: str | UnsetType | None, pointer: str = "/transform") -> None:
    """Raise Unprocessable for an expression that is not supported, with the position of the fault."""
    if not isinstance(text, str):
        return
    if len(text) > MAX_CHARACTERS:
        raise invalid(pointer, f"must have at most {MAX_CHARACTERS:,} characters")
    try:
        left = [(_parsed(text), 1)]
    except ParseError as error:
        at = getattr(error, "lex_position", getattr(error, "lexer_position", 0))
        raise invalid(pointer, f"is not valid JMESPath at position {at}", code="invalid_transform") from None
    except (JMESPathError, RecursionError):
        raise invalid(pointer, "is empty or nested too deeply", code="invalid_transform") from None
    if left[0][0]["type"] == "expref":
        raise _misplaced(pointer)
    count = 0
    while left:
        node, level = left.pop()
        count += 1
        if count > MAX_NODES or level > MAX_LEVELS:
            rule = f"must have at most {MAX_NODES} parts in {MAX_LEVELS} levels"
            raise invalid(pointer, rule, code="invalid_transform")
        if node["type"] == "function_expression":
            _check_call(node, pointer)
        elif any(each["type"] == "expref" for each in node["children"] if isinstance(each, dict)):
            raise _misplaced(pointer)
        left += [(each, level + 1) for each in node["children"] if isinstance(each, dict)]


def _check_call(node: Node, pointer: str) -> None:
    known, name, count = Functions.FUNCTION_TABLE, node["value"], len(node["children"])
    if name not in known:
        rule = f"calls the unknown function {name}; known functions: {', '.join(sorted(known))}"
        raise invalid(pointer, rule, code="invalid_transform")
    signature = known[name]["signature"]
    if count < len(signature) or (count > len(signature) and not signature[-1].get("variadic")):
        rule = f"must call {name} with {len(signature)} argument{'' if len(signature) == 1 else 's'}, not {count}"
        raise invalid(pointer, rule, code="invalid_transform")
    for position, child in enumerate(node["children"]):
        expected = signature[min(position, len(signature) - 1)]["types"]
        if child["type"] == "expref" and "expref" not in expected:
            raise _misplaced(pointer)


def _misplaced(pointer: str) -> Exception:
    rule = "must use & only before an argument of map, max_by, min_by and sort_by that is an expression"
    return invalid(pointer, rule, code="invalid_transform")


@lru_cache(_CACHED)
def _parsed(text: str) -> Node:
    try:
        parsed: Node = Parser().parse(text).parsed
        return parsed
    finally:
        # The parser caches hundreds of expressions of any size.
        Parser.purge()


def transformed(entry: Entry, text: str) -> Entry:
    """Return the message with the body that a valid expression makes of it. Raises TransformFailed."""
    if not is_json(entry.codec):
        raise TransformFailed("cannot read data that is not JSON")
    if len(entry.body) > MAX_DATA_BYTES:
        raise TransformFailed(f"cannot read more than {MAX_DATA_BYTES:,} bytes of data")
    options = decode_options(entry.extra)
    try:
        data = decode_value(entry.body)
    except (msgspec.DecodeError, RecursionError):
        raise TransformFailed("cannot decode the data") from None
    message = {
        "id": entry.id,
        "type": options.type,
        "key": options.key,
        "headers": {name.lower(): value for name, value in message_headers(options)},
        "created_at": entry.stored_at,
        "data": data,
    }
    result = evaluated(text, message)
    if result is None:
        raise TransformFailed("returns null for the message")
    body = _encoded(result, max(MAX_RESULT_BYTES, len(entry.body)))
    if (options.content_type, options.media_type) != (None, None):
        # The body is JSON now, whatever the data was.
        media_type = None if options.media_type is None else "application/json"
        options = msgspec.structs.replace(options, content_type=None, media_type=media_type)
    return msgspec.structs.replace(entry, codec=JSON_VALUE, body=body, extra=encode_options(options) or b"")


def evaluated(text: str, value: Any) -> Any:
    """Return the value of a valid expression for a JSON value. Raises TransformFailed."""
    try:
        return _Interpreter().visit(_parsed(text), value)
    except JMESPathTypeError as error:
        # The message of the library contains the value, which can be of any size.
        expected = " or ".join(each.replace("array-", "array of ") for each in error.expected_types)
        raise TransformFailed(f"calls {error.function_name} with a value that is not of type {expected}") from None
    except (ArithmeticError, ValueError, TypeError, RecursionError) as error:
        raise TransformFailed("cannot be evaluated") from error


def _counts(value: Any, parts: int, characters: int) -> tuple[int, int]:
    """Return the number of parts and of characters of a value. Counting stops when either exceeds a limit."""
    left, seen, length = [value], 0, 0
    while left and seen + len(left) <= parts and length <= characters:
        each = left.pop()
        seen += 1
        if isinstance(each, str):
            length += len(each)
        elif isinstance(each, int):
            # Its digits, in hexadecimal: an integer may have thousands, and decimal ones cost more than characters.
            length += each.bit_length() // 4
        elif isinstance(each, dict):
            length += sum(map(len, each))
            left += each.values()
        elif isinstance(each, list):
            left += each
        elif isinstance(each, float) and not math.isfinite(each):
            raise TransformFailed("produces a number beyond double precision")
    return seen + len(left), length


def _encoded(result: Any, most: int) -> bytes:
    parts, characters = _counts(result, MAX_PARTS, most)
    if parts > MAX_PARTS:
        raise TransformFailed(f"produces more than {MAX_PARTS:,} values")
    if characters <= most:
        try:
            body = _encode(result)
        except (ValueError, OverflowError, RecursionError, TypeError):
            raise TransformFailed("produces a value that JSON cannot represent") from None
        if len(body) <= most:
            return body
    raise TransformFailed(f"produces more than {most:,} bytes")


class _Interpreter(TreeInterpreter):  # type: ignore[misc]
    """Evaluates one expression in a limited number of steps."""

    def __init__(self) -> None:
        super().__init__()
        self._left = MAX_STEPS

    def _charge(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise TransformFailed(f"takes more than {MAX_STEPS:,} steps")

    def _charge_all_of(self, value: Any) -> None:
        parts, characters = _counts(value, self._left * _PARTS_A_STEP, self._left * _CHARACTERS_A_STEP)
        self._charge(parts // _PARTS_A_STEP + characters // _CHARACTERS_A_STEP)

    def visit(self, node: Node, *values: Any) -> Any:
        self._charge(1)
        return super().visit(node, *values)

    def visit_flatten(self, node: Node, value: Any) -> Any:
        base = self.visit(node["children"][0], value)
        if not isinstance(base, list):
            return None
        self._charge(sum(len(each) if isinstance(each, list) else 1 for each in base))
        return [inner for each in base for inner in (each if isinstance(each, list) else (each,))]

    def visit_slice(self, node: Node, value: Any) -> Any:
        self._charge(len(value) if isinstance(value, list) else 0)
        return super().visit_slice(node, value)

    def visit_comparator(self, node: Node, value: Any) -> Any:
        literals = [{"type": "literal", "children": [], "value": self.visit(each, value)} for each in node["children"]]
        for each in literals:
            self._charge_all_of(each["value"])
        return super().visit_comparator({**node, "children": literals}, value)

    def visit_function_expression(self, node: Node, value: Any) -> Any:
        name, arguments = node["value"], [self.visit(each, value) for each in node["children"]]
        for each in arguments:
            if name in _DEEP:
                self._charge_all_of(each)
            elif isinstance(each, list | dict | str):
                inner = sum(len(one) for one in each if isinstance(one, str)) if isinstance(each, list) else 0
                length = len(each) // _CHARACTERS_A_STEP if isinstance(each, str) else len(each)
                rounds = max(1, len(each).bit_length()) if name in _SORTING else 1
                self._charge(rounds * (length + inner // _CHARACTERS_A_STEP))
        if name == "join" and isinstance(arguments[0], str) and isinstance(arguments[-1], list):
            # The separator occurs once for each element.
            self._charge(len(arguments[0]) * len(arguments[-1]) // _CHARACTERS_A_STEP)
        return self._functions.call_function(name, arguments)
