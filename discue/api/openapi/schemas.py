"""JSON Schemas of requests and responses, derived from their structs; examples and descriptions derived from those."""

import inspect
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.inspect import (
    AnyType,
    BoolType,
    CustomType,
    DictType,
    Field,
    FloatType,
    IntType,
    ListType,
    LiteralType,
    Metadata,
    NoneType,
    RawType,
    StrType,
    StructType,
    Type,
    UnionType,
    VarTupleType,
    type_info,
)

from discue.api.structs import Body

Schema = dict[str, Any]

COMPONENTS: Final = "#/components/schemas/"
_NULL: Final[Schema] = {"type": "null"}
_SIMPLE: Final[Mapping[type, str]] = {
    StrType: "string",
    IntType: "integer",
    FloatType: "number",
    BoolType: "boolean",
    NoneType: "null",
}
_BOUNDS: Final = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minimum": "from {}",
    "maximum": "to {}",
    "minItems": "at least {}",
    "maxItems": "at most {}",
    "pattern": "`{}`",
    "default": "default {}",
}
_EXAMPLES: Final[Mapping[str, Any]] = {"string": "text", "integer": 0, "number": 0, "boolean": False, "null": None}


def ref_to(name: str) -> Schema:
    """Refer to a component."""
    return {"$ref": COMPONENTS + name}


def resolved(schema: Mapping[str, Any], components: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the schema, or the component that it refers to."""
    return components[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def components_of(kinds: Iterable[type[msgspec.Struct]]) -> dict[str, Schema]:
    """Return the schemas of structs, and of structs in their fields, sorted by name."""
    found: dict[str, type[msgspec.Struct]] = {}
    for kind in kinds:
        _collect(kind, found)
    return {name: _struct_schema(found[name]) for name in sorted(found)}


def with_required(schema: Schema, names: Sequence[str], unless: tuple[str, str] | None = None) -> Schema:
    """Require more fields of an object; with `unless`, forbid them if a field has a value."""
    if unless is not None:
        name, value = unless
        other = {"required": [name], "properties": {name: {"const": value}}}
        return {**schema, "oneOf": [{"required": list(names)}, other]}
    return {**schema, "required": [*schema.get("required", ()), *names]}


def undescribed(schema: Mapping[str, Any]) -> list[str]:
    """Return the properties of a component that have no description."""
    return [name for name, of_field in schema.get("properties", {}).items() if "description" not in of_field]


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
        info = field.type.type if isinstance(field.type, Metadata) else field.type
        if isinstance(info, StructType):
            yield info.cls


def _collect(kind: type[msgspec.Struct], found: dict[str, type[msgspec.Struct]]) -> None:
    """Raises ValueError if two structs have the same name, which is that of their component."""
    if found.setdefault(kind.__name__, kind) is not kind:
        raise ValueError(f"Two structs are called {kind.__name__}.")
    for field in _fields(kind):
        for inner in _structs_in(field.type):
            if found.get(inner.__name__) is not inner:
                _collect(inner, found)


def _structs_in(info: Type) -> Iterator[type[msgspec.Struct]]:
    """Yield the structs that a type names, without the structs in their fields."""
    if isinstance(info, StructType):
        yield info.cls
    elif isinstance(info, Metadata):
        yield from _structs_in(info.type)
    elif isinstance(info, UnionType):
        for branch in info.types:
            yield from _structs_in(branch)
    elif isinstance(info, ListType | VarTupleType):
        yield from _structs_in(info.item_type)
    elif isinstance(info, DictType):
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
        "oneOf": [{"required": [name], "properties": {name: dict(value)}} for name, value in one_of.items()],
    }
    return {name: value for name, value in schema.items() if value not in ("", [])}


def _fields(kind: type[msgspec.Struct]) -> tuple[Field, ...]:
    info = type_info(kind)
    return info.fields if isinstance(info, StructType) else ()


def _is_always_there(kind: type[msgspec.Struct], field: Field) -> bool:
    """Whether the field is in every request, or in every response, of the type."""
    if field.required:
        return True
    has_default = field.default is not msgspec.NODEFAULT or field.default_factory is not msgspec.NODEFAULT
    return has_default and not issubclass(kind, Body) and not kind.__struct_config__.omit_defaults


def _schema(info: Type) -> Schema:
    """Raises NotImplementedError for a type that no request or response has had so far."""
    if isinstance(info, Metadata):
        limits = dict(info.extra_json_schema or {})
        prose = {name: limits.pop(name) for name in ("description", "examples") if name in limits}
        return _limited(_schema(info.type), limits) | prose
    if type(info) in _SIMPLE:
        return {"type": _SIMPLE[type(info)]}
    if isinstance(info, AnyType | RawType | CustomType):
        return {}
    if isinstance(info, UnionType):
        branches = [_schema(branch) for branch in info.types]
        return branches[0] if len(branches) == 1 else {"anyOf": branches}
    return _composite_schema(info)


def _composite_schema(info: Type) -> Schema:
    if isinstance(info, StructType):
        return ref_to(info.cls.__name__)
    if isinstance(info, LiteralType):
        return {"enum": list(info.values)}
    if isinstance(info, ListType | VarTupleType):
        return {"type": "array", "items": _schema(info.item_type)}
    if isinstance(info, DictType):
        return {"type": "object", "additionalProperties": _schema(info.value_type)}
    raise NotImplementedError(f"{info} has no JSON Schema here yet.")


def _limited(schema: Schema, limits: Mapping[str, Any]) -> Schema:
    """Add limits to every branch but null, unless they name null and so say all that the field may be."""
    if not limits or "anyOf" not in schema or _NULL in limits.get("anyOf", ()):
        return schema | dict(limits)
    return schema | {"anyOf": [branch if branch == _NULL else branch | dict(limits) for branch in schema["anyOf"]]}


class FieldRow(NamedTuple):
    """A row of a table of fields. `path` is dotted, with `[]` after an array."""

    path: str
    words: str
    is_required: bool
    description: str


def fields_of(
    schema: Mapping[str, Any], components: Mapping[str, Mapping[str, Any]], prefix: str = ""
) -> Iterator[FieldRow]:
    """Yield the fields of an object and of the objects in them, in order."""
    schema = resolved(schema, components)
    required = schema.get("required", ())
    for name, of_field in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        yield FieldRow(path, words_of(of_field, components), name in required, str(of_field.get("description", "")))
        if name != "_links":
            yield from _below(of_field, components, path)


def _below(schema: Mapping[str, Any], components: Mapping[str, Mapping[str, Any]], path: str) -> Iterator[FieldRow]:
    whole = resolved(schema, components)
    if "properties" in whole:
        yield from fields_of(whole, components, f"{path}.")
    elif "items" in whole and "properties" in resolved(whole["items"], components):
        yield from fields_of(whole["items"], components, f"{path}[].")


def words_of(schema: Mapping[str, Any], components: Mapping[str, Mapping[str, Any]]) -> str:
    """Describe the values of a schema, as in `string, at most 64 characters` or `integer or null, from 0, to 10`."""
    whole = resolved(schema, components)
    if "const" in whole:
        return f"`{json.dumps(whole['const'])}`"
    if "enum" in whole:
        return ", ".join(f"`{json.dumps(value)}`" for value in whole["enum"])
    if "anyOf" in whole:
        return _union(whole["anyOf"], components)
    kind = str(whole.get("type", "any JSON value"))
    if kind == "array" and "items" in whole:
        kind = f"array of {_plural(words_of({'type': _kind_of(whole['items'], components)}, components))}"
    return ", ".join([kind, *_bounds(whole)])


def _plural(word: str) -> str:
    return "any JSON values" if word.startswith("any") else f"{word}s"


def _kind_of(schema: Mapping[str, Any], components: Mapping[str, Mapping[str, Any]]) -> str:
    return str(resolved(schema, components).get("type", "any JSON value"))


def _union(branches: list[Mapping[str, Any]], components: Mapping[str, Mapping[str, Any]]) -> str:
    words = list(dict.fromkeys(words_of(branch, components) for branch in branches))
    return " or ".join(words)


def _bounds(schema: Mapping[str, Any]) -> list[str]:
    return [sentence.format(schema[name]) for name, sentence in _BOUNDS.items() if name in schema]
