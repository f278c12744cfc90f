"""From the bytes of a body to a checked value, and from what is wrong with them to a place that has a name."""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Generic, NoReturn, TypeVar

import msgspec

from discue.api.bodies import Body
from discue.domain.errors import BadRequest, Fault
from discue.domain.json_pointer import escaped

B = TypeVar("B", bound=Body)
T = TypeVar("T")

_SHORTEST_MEMBER = 9
"""Bytes of the shortest member that a request can have twice, with its comma: `"data":1,`."""

_OPAQUE = "data"
"""The member whose value is the client's own: nothing is looked for inside."""

_LONG_BYTES = 256
_SKELETON_BYTES = 65_536
_SKELETON_BYTES_EACH = 512

_FAULT = re.compile(r"(.*?)(?: - at `\$([^`]*)`)?", re.DOTALL)
_STEP = re.compile(r"\.([A-Za-z_]+)|\[(\d+)\]|\[\.\.\.\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_EXPECTED = re.compile(r"Expected `([^`]*)`, got `([^`]*)`")
_WORDS = {"str": "string", "int": "integer", "bool": "boolean", "float": "number"}
_SHOWN_NAME = 100


class BodyDecoder(Generic[B]):
    """Decodes bodies of one type. Raises BadRequest, with a JSON pointer wherever a place has one."""

    def __init__(self, kind: type[B]) -> None:
        self._decode = msgspec.json.Decoder(kind).decode

    def decode(self, content: bytes) -> B:
        """The value. An empty body is an empty object."""
        try:
            # What is skipped is checked for its syntax alone, so that UTF-8 must be checked here.
            content.decode()
            body = self._decode(content or b"{}")
            # The decoder takes the last of two members with one name. A second one needs room beyond the
            # shortest text of this value, so that most bodies are known to have none.
            if len(content) - body.least_bytes() >= _SHORTEST_MEMBER:
                _refuse_doubles(_skeleton(content, body.opaque()))
        except json.JSONDecodeError:
            # Only where one of the client's values also stands across the borders of others.
            raise BadRequest("The body is ambiguous.") from None
        except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
            _explain(error)
        return body


def decode_opaque(decode: Callable[[bytes], T], content: bytes, opaque: Callable[[T], Sequence[msgspec.Raw]]) -> T:
    """What a decoder reads of it: the same checks for what is no Body. `opaque` are values as of `Body.opaque`."""
    try:
        content.decode()
        value = decode(content)
        _refuse_doubles(_skeleton(content, opaque(value)))
    except json.JSONDecodeError:
        raise BadRequest("The body is ambiguous.") from None
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
        _explain(error)
    return value


def _explain(error: UnicodeDecodeError | msgspec.DecodeError | RecursionError) -> NoReturn:
    if isinstance(error, UnicodeDecodeError):
        raise BadRequest(f"The body is not UTF-8 (byte {error.start}).") from None
    if isinstance(error, RecursionError):
        raise BadRequest("The body is nested too deeply.") from None
    if not isinstance(error, msgspec.ValidationError):
        raise BadRequest(f"The body is not JSON: {_without_prefix(str(error))}.") from None
    fault = fault_of(str(error))
    raise BadRequest(f"The body is not what is expected: {_place(fault)} {fault.detail}.", faults=(fault,)) from None


def _without_prefix(message: str) -> str:
    message = message.removeprefix("JSON is malformed: ")
    return "it ends too early" if message == "Input data was truncated" else message


def _place(fault: Fault) -> str:
    return fault.pointer or "the whole"


def fault_of(message: str) -> Fault:
    """What the decoder's message says, as a pointer and a rule."""
    match = _FAULT.fullmatch(message)
    what, path = match.groups() if match else (message, "")
    pointer = "".join(_step(step) for step in _STEP.finditer(path or ""))
    if unknown := _UNKNOWN.fullmatch(what):
        return Fault(f"{pointer}/{escaped(unknown[1][:_SHOWN_NAME])}", "is not a known field")
    if missing := _MISSING.fullmatch(what):
        return Fault(f"{pointer}/{missing[1]}", "is required")
    if expected := _EXPECTED.fullmatch(what):
        return Fault(pointer, f"must be {_types(expected[1])}, not {_types(expected[2])}")
    return Fault(pointer, f"is not acceptable: {what[:1].lower()}{what[1:]}")


def _step(step: re.Match[str]) -> str:
    return f"/{step[1] or step[2] or '*'}"


def _types(names: str) -> str:
    return " or ".join(_WORDS.get(name, name) for name in names.split(" | "))


class _Members(tuple[tuple[str, Any], ...]):
    """An object's members as they were written, doubles included."""

    __slots__ = ()


# Numbers stay text: only names matter here, and a number can be too long to read.
_AS_WRITTEN = json.JSONDecoder(object_pairs_hook=_Members, parse_int=str, parse_float=str)


def _skeleton(content: bytes, opaque: Sequence[msgspec.Raw]) -> str:
    """The text with 0 in place of the client's own values, where they are long: what looking for doubles
    costs must not grow with them, it would hold up everybody else."""
    pieces, position = [], 0
    for value in opaque:
        if len(value) >= _LONG_BYTES and (found := content.find(value, position)) >= 0:
            pieces += [content[position:found], b"0"]
            position = found + len(value)
    pieces.append(content[position:])
    size = sum(map(len, pieces))
    if size > _SKELETON_BYTES + _SKELETON_BYTES_EACH * len(opaque):
        raise BadRequest("What stands beside data in this body is too large, or data occurs twice.")
    return b"".join(pieces).decode()


def _refuse_doubles(text: str) -> None:
    pointer = _double(_AS_WRITTEN.decode(text), "")
    if pointer is not None:
        fault = Fault(pointer, "occurs twice")
        raise BadRequest(f"The body is ambiguous: {pointer} occurs twice.", faults=(fault,))


def _double(value: object, place: str) -> str | None:
    """The pointer of the first member that has the name of an earlier one."""
    if isinstance(value, list):
        return _first(_double(element, f"{place}/{index}") for index, element in enumerate(value))
    return _double_member(value, place) if isinstance(value, _Members) else None


def _double_member(members: _Members, place: str) -> str | None:
    seen = set()
    for name, value in members:
        pointer = f"{place}/{escaped(name[:_SHOWN_NAME])}"
        if name in seen:
            return pointer
        seen.add(name)
        if name != _OPAQUE and (found := _double(value, pointer)) is not None:
            return found
    return None


def _first(found: Any) -> str | None:
    return next((pointer for pointer in found if pointer is not None), None)
