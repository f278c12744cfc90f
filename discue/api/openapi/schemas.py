"""JSON Schemas of requests and responses: derived from their structs, and those of what no struct describes."""

import inspect
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any, Final

import msgspec
from msgspec import inspect as types

from discue.api.decoding import CLOUDEVENT, CLOUDEVENTS_BATCH, EventFormat
from discue.api.route import BATCH_MESSAGES
from discue.api.structs import Body
from discue.domain.cloudevents import KEY_CHARACTERS
from discue.domain.filter_parser import (
    MAX_BYTES,
    MAX_CONDITIONS,
    MAX_DEPTH,
    MAX_PATTERNS,
    ORDER_OPERATORS,
    SCALAR_OPERATORS,
    TEXT_OPERATORS,
)

Schema = dict[str, Any]

COMPONENTS: Final = "#/components/schemas/"
_NULL: Final[Schema] = {"type": "null"}
_SIMPLE: Final[Mapping[type, str]] = {
    types.StrType: "string",
    types.IntType: "integer",
    types.FloatType: "number",
    types.BoolType: "boolean",
    types.NoneType: "null",
}
_EXAMPLES: Final[Mapping[str, Any]] = {"string": "text", "integer": 0, "number": 0, "boolean": False, "null": None}
_LARGEST_INT32: Final = 2**31 - 1
_VALUES: Final = frozenset({"example", "examples", "const", "default", "enum"})
"""Keywords whose values are data, not schemas."""


def ref_to(name: str) -> Schema:
    return {"$ref": COMPONENTS + name}


def resolved(schema: Mapping[str, Any], components: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    return components[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def components_of(kinds: Iterable[type[msgspec.Struct]]) -> dict[str, Schema]:
    """Return the schemas of structs, and of structs in their fields, sorted by name."""
    found: dict[str, type[msgspec.Struct]] = {}
    for kind in kinds:
        _collect(kind, found)
    return {name: _struct_schema(found[name]) for name in sorted(found)}


def with_required(
    schema: Schema,
    names: Sequence[str],
    unless: tuple[str, str] | None = None,
    either: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Schema:
    """Require more fields of an object, and one of `either`; with `unless`, forbid them if a field has a value."""
    if either:
        schema = {**schema, **_exactly_one(_with_value(either))}
    if unless is not None:
        name, value = unless
        return {**schema, **_exactly_one([{"required": list(names)}, *_with_value({name: {"const": value}})])}
    return {**schema, "required": [*schema.get("required", ()), *names]}


def with_formats(node: Any, *, names: bool = False) -> Any:
    """Return a part of the document with the format of integers that may exceed 32 bits, and of other numbers.

    Without the format, generators for Go, Java and Rust choose 32-bit integers, which cannot hold a time. `names` is
    whether the keys are names of fields rather than keywords.
    """
    if isinstance(node, list):
        return [with_formats(each) for each in node]
    if not isinstance(node, dict):
        return node
    made = {
        key: value
        if key in _VALUES and not names
        else with_formats(value, names=key in {"properties", "patternProperties"} and not names)
        for key, value in node.items()
    }
    if node.get("type") == "integer" and node.get("maximum", math.inf) > _LARGEST_INT32:
        made["format"] = "int64"
    elif node.get("type") == "number":
        made["format"] = "double"
    return made


def example_of(schema: Mapping[str, Any], components: Mapping[str, Mapping[str, Any]]) -> Any:
    """Return a value that fits the schema: its own example, or one made of the examples of its parts."""
    schema = schema if "examples" in schema else resolved(schema, components)
    if "examples" in schema:
        return schema["examples"][0]
    if "const" in schema:
        return schema["const"]
    for choice in ("enum", "anyOf", "oneOf"):
        if choice in schema:
            first = schema[choice][0]
            return first if choice == "enum" else example_of(first, components)
    kind = schema.get("type", "")
    if kind == "array":
        return [example_of(schema["items"], components)] if isinstance(schema.get("items"), Mapping) else []
    if kind == "object":
        return {name: example_of(each, components) for name, each in schema.get("properties", {}).items()}
    return _EXAMPLES.get(kind)


def direct_structs_of(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    """Yield the structs that are fields of a struct, without lists of structs."""
    for field in _fields(kind):
        info = field.type.type if isinstance(field.type, types.Metadata) else field.type
        if isinstance(info, types.StructType):
            yield info.cls


def _collect(kind: type[msgspec.Struct], found: dict[str, type[msgspec.Struct]]) -> None:
    """Raises ValueError if two structs have the same name, which is that of their component."""
    # Components have no packages: a second struct of the name would silently replace the first.
    if found.setdefault(kind.__name__, kind) is not kind:
        raise ValueError(f"Two structs are called {kind.__name__}.")
    for field in _fields(kind):
        for inner in _structs_in(field.type):
            if found.get(inner.__name__) is not inner:
                _collect(inner, found)


def _structs_in(info: types.Type) -> Iterator[type[msgspec.Struct]]:
    """Yield the structs that a type names, without the structs in their fields."""
    if isinstance(info, types.StructType):
        yield info.cls
    elif isinstance(info, types.Metadata):
        yield from _structs_in(info.type)
    elif isinstance(info, types.UnionType):
        for branch in info.types:
            yield from _structs_in(branch)
    elif isinstance(info, types.ListType | types.VarTupleType):
        yield from _structs_in(info.item_type)
    elif isinstance(info, types.DictType):
        yield from _structs_in(info.value_type)


def _struct_schema(kind: type[msgspec.Struct]) -> Schema:
    fields = _fields(kind)
    one_of = kind.exactly_one if issubclass(kind, Body) else {}
    schema: Schema = {
        "type": "object",
        "description": inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].replace("\n", " "),
        "additionalProperties": False,
        "required": [field.encode_name for field in fields if _is_always_there(kind, field)],
        "properties": {field.encode_name: _schema(field.type) for field in fields},
        **(_exactly_one(_with_value(one_of)) if one_of else {}),
    }
    return {name: value for name, value in schema.items() if value not in ("", [])}


def _with_value(fields: Mapping[str, Mapping[str, Any]]) -> list[Schema]:
    """Return a schema for each field that requires it, with a value that counts as sent."""
    return [{"required": [name], "properties": {name: dict(value)}} for name, value in fields.items()]


def _exactly_one(schemas: Sequence[Schema]) -> Schema:
    """Return keywords that require exactly one of some schemas.

    They do not use `oneOf`: client generators treat it as a union, and omit all other fields of the object.
    """
    first, *others = schemas
    return {"if": first, "then": {"not": {"anyOf": others}}, "else": _exactly_one(others)} if others else first


@cache
def _fields(kind: type[msgspec.Struct]) -> tuple[types.Field, ...]:
    info = types.type_info(kind)
    return info.fields if isinstance(info, types.StructType) else ()


def _is_always_there(kind: type[msgspec.Struct], field: types.Field) -> bool:
    """Whether the field is in every request, or in every response, of the type."""
    if field.required:
        return True
    # msgspec encodes a field with its default, too, unless the struct omits defaults.
    has_default = field.default is not msgspec.NODEFAULT or field.default_factory is not msgspec.NODEFAULT
    return has_default and not issubclass(kind, Body) and not kind.__struct_config__.omit_defaults


def _schema(info: types.Type) -> Schema:
    """Raises NotImplementedError for a type that no request or response has had so far."""
    if isinstance(info, types.Metadata):
        limits = dict(info.extra_json_schema or {})
        prose = {name: limits.pop(name) for name in ("description", "examples") if name in limits}
        return _limited(_schema(info.type), limits) | prose
    if type(info) in _SIMPLE:
        return {"type": _SIMPLE[type(info)]}
    if isinstance(info, types.AnyType | types.RawType | types.CustomType):
        return {}
    if isinstance(info, types.UnionType):
        branches = [_schema(branch) for branch in info.types]
        return branches[0] if len(branches) == 1 else {"anyOf": branches}
    return _composite_schema(info)


def _composite_schema(info: types.Type) -> Schema:
    if isinstance(info, types.StructType):
        return ref_to(info.cls.__name__)
    if isinstance(info, types.LiteralType):
        # Client generators treat an enumeration without a type as any value.
        kind = {"type": "string"} if all(isinstance(each, str) for each in info.values) else {}
        return {**kind, "enum": list(info.values)}
    if isinstance(info, types.ListType | types.VarTupleType):
        return {"type": "array", "items": _schema(info.item_type)}
    if isinstance(info, types.DictType):
        return {"type": "object", "additionalProperties": _schema(info.value_type)}
    raise NotImplementedError(f"{info} has no JSON Schema here yet.")


def _limited(schema: Schema, limits: Mapping[str, Any]) -> Schema:
    """Add limits to every branch but null, unless they name null and so say all that the field may be."""
    if not limits or "anyOf" not in schema or _NULL in limits.get("anyOf", ()):
        return schema | dict(limits)
    return schema | {"anyOf": [branch if branch == _NULL else branch | dict(limits) for branch in schema["anyOf"]]}


_FILTER: Final = ref_to("MessageFilter")
_SCALAR: Final = {"type": ["string", "number", "boolean", "null"]}
_ORDERED: Final = {"type": ["number", "string"]}
_STRING: Final = {"type": "string"}
_SCALARS: Final = {"type": "array", "minItems": 1, "items": _SCALAR}
_OBJECT: Final = ref_to("FilterCondition")
# Written out wherever it occurs: some generators know no union that refers to itself, only objects that do.
_CONDITION: Final = {"anyOf": [_SCALAR, _SCALARS, _OBJECT]}


def _several(inner: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": inner}


FILTER_COMPONENTS: Final[dict[str, dict[str, Any]]] = {
    "MessageFilter": {
        "type": "object",
        "description": (
            f"Conditions that must all be met: at most {MAX_CONDITIONS}, {MAX_DEPTH} levels, {MAX_BYTES:,} bytes."
        ),
        "minProperties": 1,
        "additionalProperties": False,
        "properties": {
            "data": {**_OBJECT, "description": "Conditions on the data, by path."},
            "headers": {**_OBJECT, "description": "Conditions on headers, by name."},
            "key": {**_CONDITION, "description": "A condition on the key."},
            "$and": {**_several(_FILTER), "description": "Filters that must all match."},
            "$or": {**_several(_FILTER), "description": "Filters of which at least one must match."},
            "$not": {**_FILTER, "description": "A filter that must not match."},
        },
    },
    "FilterCondition": {
        "type": "object",
        "description": (
            "Operators, and conditions by path. A condition is a value to equal, a list of values to equal one of, or "
            f"such an object. At most {MAX_PATTERNS} `$regex`."
        ),
        "minProperties": 1,
        "properties": {
            **dict.fromkeys(SCALAR_OPERATORS, _SCALAR | {"description": "A value to compare with."}),
            **dict.fromkeys(ORDER_OPERATORS, _ORDERED | {"description": "A bound of the value."}),
            **dict.fromkeys(TEXT_OPERATORS, _STRING | {"description": "A text to look for, or a pattern."}),
            "$in": _SCALARS | {"description": "Values of which the value must be one."},
            "$exists": {"type": "boolean", "description": "Whether there must be a value."},
            "$and": _several(_CONDITION) | {"description": "Conditions that must all be met."},
            "$or": _several(_CONDITION) | {"description": "Conditions of which at least one must be met."},
            "$not": _CONDITION | {"description": "A condition that must not be met."},
        },
        "patternProperties": {"^[^$]": _CONDITION},
        "additionalProperties": False,
    },
}

_RULES: Final = ref_to("SchemaRules")
_RULE: Final = {"anyOf": [ref_to(f"{kind}Rule") for kind in ("String", "Number", "Object", "Array")]}
_LENGTH: Final = {"type": "integer", "minimum": 0, "maximum": 2**53, "description": "A number of characters."}
_BOUND: Final = {"type": "number", "description": "A bound of the value."}


def _rule(kind: str, fields: Mapping[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "description": f"A rule for a property: {kind} values.",
        "additionalProperties": False,
        "required": ["type", *required],
        "properties": {
            "type": {"const": kind, "description": "The type of the value."},
            "required": {"type": "boolean", "default": True, "description": "Whether it must be there and not null."},
            **fields,
        },
    }


_TEXT_RULE: Final = {
    "pattern": {"type": "string", "description": "A regular expression that must match somewhere in the value."},
    "enum": {"type": "array", "minItems": 1, "items": {"type": "string"}, "description": "The values allowed."},
    "min": _LENGTH,
    "max": _LENGTH,
}

RULE_COMPONENTS: Final[dict[str, dict[str, Any]]] = {
    "SchemaRules": {
        "type": "object",
        "description": (
            "A rule for each property. Other properties are rejected. At most 32 levels and 1,000 rules; `min` must "
            "not exceed `max`."
        ),
        "minProperties": 1,
        "additionalProperties": _RULE,
    },
    "StringRule": _rule("string", _TEXT_RULE),
    "NumberRule": _rule("number", {"min": _BOUND, "max": _BOUND}),
    "ObjectRule": _rule(
        "object",
        {
            "props": _RULES | {"description": "The rules of its properties."},
            "strict": {"type": "boolean", "default": True, "description": "Whether other properties are rejected."},
        },
        ("props",),
    ),
    "ArrayRule": _rule("array", {"items": _RULE | {"description": "The rule of each item."}}, ("items",)),
}

_TEXT: Final = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$"
_URI: Final = "^\\S+$"
_OPTIONAL: Final = {"anyOf": [{"type": "string", "pattern": _TEXT}, _NULL]}
_OPTIONAL_URI: Final = {"anyOf": [{"type": "string", "pattern": _URI}, _NULL]}
_KEY: Final = {"anyOf": [{"type": "string", "pattern": _TEXT, "maxLength": KEY_CHARACTERS.stop - 1}, _NULL]}
_EVENT_EXAMPLE: Final = {
    "specversion": "1.0",
    "id": "order-17-paid",
    "source": "https://shop.example.com",
    "type": "com.example.order.paid",
    "partitionkey": "customer-9",
    "data": {"order": 17},
}

CLOUDEVENT_COMPONENTS: Final[dict[str, dict[str, Any]]] = {
    "CloudEvent": {
        "type": "object",
        "description": "An event in the JSON format of CloudEvents 1.0. Other members are extension attributes: "
        "strings, integers or booleans.",
        "required": ["specversion", "id", "source", "type"],
        "properties": {
            "specversion": {"type": "string", "const": "1.0", "description": "The version of CloudEvents."},
            "id": {"type": "string", "pattern": _TEXT, "description": "The id of the event, chosen by its source."},
            "source": {"type": "string", "pattern": _URI, "description": "Where the event happened: a URI."},
            "type": {"type": "string", "pattern": _TEXT, "description": "The type of the event."},
            "subject": {**_OPTIONAL, "description": "The subject of the event."},
            "time": {**_OPTIONAL, "description": "When the event happened (RFC 3339)."},
            "datacontenttype": {**_OPTIONAL, "description": "The media type of `data`. Default: JSON."},
            "dataschema": {**_OPTIONAL_URI, "description": "The schema of `data`: a URI."},
            "partitionkey": {**_KEY, "description": "The `key` of the message."},
            "data": {"description": "Any value; a string unless `datacontenttype` is JSON."},
            "data_base64": {
                "anyOf": [{"type": "string"}, _NULL],
                "description": "The data in base64.",
            },
        },
        "propertyNames": {"pattern": "^(?:[a-z0-9]{1,64}|data_base64)$"},
        "additionalProperties": {"type": ["string", "integer", "boolean", "null"]},
        "example": _EVENT_EXAMPLE,
    }
}


def event_content(accepted: EventFormat) -> Mapping[str, Any]:
    """Return the media types of a request that accepts events instead of its body."""
    event = ref_to("CloudEvent")
    if accepted == "one":
        return {CLOUDEVENT: {"schema": event, "example": _EVENT_EXAMPLE}}
    batch = {"type": "array", "minItems": 1, "maxItems": BATCH_MESSAGES, "items": event}
    return {CLOUDEVENTS_BATCH: {"schema": batch, "example": [_EVENT_EXAMPLE]}}
