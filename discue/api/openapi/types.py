"""A type of a field as JSON Schema. Structs are referred to by their name."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import inspect

Schema = dict[str, Any]

PLACE = "#/components/schemas/"

_SIMPLE: Mapping[type, Schema] = {
    inspect.StrType: {"type": "string"},
    inspect.IntType: {"type": "integer"},
    inspect.FloatType: {"type": "number"},
    inspect.BoolType: {"type": "boolean"},
    inspect.NoneType: {"type": "null"},
    inspect.AnyType: {},
    inspect.RawType: {},
    inspect.CustomType: {},
}
_BOUNDS = {"ge": "minimum", "le": "maximum", "min_length": "minLength", "max_length": "maxLength", "pattern": "pattern"}


def schema_of(info: inspect.Type) -> Schema:
    """Raises NotImplementedError for a type that no request or response has had so far."""
    if isinstance(info, inspect.Metadata):
        return schema_of(info.type) | (info.extra_json_schema or {})
    if type(info) in _SIMPLE:
        return _SIMPLE[type(info)] | _bounds(info)
    if isinstance(info, inspect.StructType):
        return {"$ref": PLACE + info.cls.__name__}
    if isinstance(info, inspect.UnionType):
        branches = [schema_of(branch) for branch in info.types]
        return branches[0] if len(branches) == 1 else {"anyOf": branches}
    if isinstance(info, inspect.LiteralType):
        return {"enum": list(info.values)}
    return _collection(info)


def _bounds(info: inspect.Type) -> Schema:
    return {word: getattr(info, name) for name, word in _BOUNDS.items() if getattr(info, name, None) is not None}


def _collection(info: inspect.Type) -> Schema:
    if isinstance(info, inspect.ListType | inspect.VarTupleType):
        return {"type": "array", "items": schema_of(info.item_type)}
    if isinstance(info, inspect.DictType):
        return {"type": "object", "additionalProperties": schema_of(info.value_type)}
    raise NotImplementedError(f"{info} has no JSON Schema here yet.")


def structs_in(info: inspect.Type) -> Iterator[type[msgspec.Struct]]:
    """The structs that the type names, not those inside of them."""
    if isinstance(info, inspect.StructType):
        yield info.cls
    elif isinstance(info, inspect.Metadata):
        yield from structs_in(info.type)
    elif isinstance(info, inspect.UnionType):
        for branch in info.types:
            yield from structs_in(branch)
    elif isinstance(info, inspect.ListType | inspect.VarTupleType):
        yield from structs_in(info.item_type)
    elif isinstance(info, inspect.DictType):
        yield from structs_in(info.value_type)
