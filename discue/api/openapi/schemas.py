"""Requests and responses as JSON Schema: from their types, and from the rules of their fields."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from discue.api.bodies import Body
from discue.api.openapi.field_rules import ONE_OF, rule_of
from discue.api.openapi.types import PLACE, schema_of, structs_in

Schema = dict[str, Any]

_NULL: Schema = {"type": "null"}


def ref_to(name: str) -> Schema:
    return {"$ref": PLACE + name}


def components_of(kinds: Iterable[type[msgspec.Struct]]) -> dict[str, Schema]:
    """The schema of each of the types and of what is in them, by name, sorted."""
    found: dict[str, type[msgspec.Struct]] = {}
    for kind in kinds:
        _collect(kind, found)
    return {name: _finished(found[name]) for name in sorted(found)}


def with_required(schema: Schema, names: Sequence[str], unless: tuple[str, str] | None = None) -> Schema:
    """The schema of an object that must have more of its fields, unless one has a value: then it has none of them."""
    if unless is not None:
        name, value = unless
        other = {"required": [name], "properties": {name: {"const": value}}}
        return {**schema, "oneOf": [{"required": list(names)}, other]}
    return {**schema, "required": [*schema.get("required", ()), *names]}


def lacks(schema: Mapping[str, Any]) -> list[str]:
    """The properties of a component that nobody has described."""
    return [name for name, of_field in schema.get("properties", {}).items() if "description" not in of_field]


def _collect(kind: type[msgspec.Struct], found: dict[str, type[msgspec.Struct]]) -> None:
    """Raises ValueError when two types have one name: clients could not tell them apart."""
    if found.setdefault(kind.__name__, kind) is not kind:
        raise ValueError(f"Two types are called {kind.__name__}.")
    for field in _fields_of(kind):
        for inner in structs_in(field.type):
            if found.get(inner.__name__) is not inner:
                _collect(inner, found)


def _finished(kind: type[msgspec.Struct]) -> Schema:
    fields = _fields_of(kind)
    schema: Schema = {
        "type": "object",
        "description": _summary(kind),
        "additionalProperties": False,
        "required": [field.encode_name for field in fields if _is_there(kind, field)],
        "properties": {field.encode_name: _ruled(kind, field.encode_name, schema_of(field.type)) for field in fields},
        "oneOf": [
            {"required": [name], "properties": {name: dict(value)}} for name, value in ONE_OF.get(kind.__name__, ())
        ],
    }
    return {name: value for name, value in schema.items() if value not in ("", [])}


def _fields_of(kind: type[msgspec.Struct]) -> tuple[msgspec.inspect.Field, ...]:
    info = msgspec.inspect.type_info(kind)
    return info.fields if isinstance(info, msgspec.inspect.StructType) else ()


def _is_there(kind: type[msgspec.Struct], field: msgspec.inspect.Field) -> bool:
    """Whether the field is in every request, or in every response, of the type."""
    if field.required:
        return True
    has_default = field.default is not msgspec.NODEFAULT or field.default_factory is not msgspec.NODEFAULT
    return has_default and not issubclass(kind, Body) and not kind.__struct_config__.omit_defaults


def _summary(kind: type[msgspec.Struct]) -> str:
    """What the docstring says of the fields is said by their rules as well: the first sentence is enough."""
    text = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
    return "" if text.startswith(f"{kind.__name__}(") else text


def _ruled(kind: type[msgspec.Struct], name: str, schema: Schema) -> Schema:
    """A field's schema with its rule. What a client sends back in vain needs none."""
    if "description" in schema and "type" not in schema:
        return schema
    rule = rule_of(kind.__name__, name)
    if rule is None:
        return schema
    schema = _limited(schema, rule.limits) | {"description": rule.description}
    return schema | {"examples": [rule.example]} if rule.example is not None else schema


def _limited(schema: Schema, limits: Mapping[str, Any]) -> Schema:
    if not limits:
        return schema
    # Limits that speak of null themselves say all that the field may be.
    if "anyOf" not in schema or _NULL in limits.get("anyOf", ()):
        return schema | dict(limits)
    return schema | {"anyOf": [branch if branch == _NULL else branch | dict(limits) for branch in schema["anyOf"]]}
