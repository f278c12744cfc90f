"""What a JSON Schema says, in a few words and as rows of fields: for pages and for the reference."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Schema = Mapping[str, Any]

_BOUNDS = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minimum": "from {}",
    "maximum": "to {}",
    "minItems": "at least {}",
    "maxItems": "at most {}",
    "pattern": "`{}`",
    "default": "default {}",
}


class Field(NamedTuple):
    """One row: `path` is dotted, with `[]` behind what is repeated."""

    path: str
    words: str
    is_required: bool
    description: str


def fields_of(schema: Schema, components: Mapping[str, Schema], prefix: str = "") -> Iterator[Field]:
    """The fields of an object and of what is in them, in order."""
    schema = resolved(schema, components)
    required = schema.get("required", ())
    for name, of_field in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        yield Field(path, words_of(of_field, components), name in required, str(of_field.get("description", "")))
        if name != "_links":
            yield from _below(of_field, components, path)


def _below(schema: Schema, components: Mapping[str, Schema], path: str) -> Iterator[Field]:
    whole = resolved(schema, components)
    if "properties" in whole:
        yield from fields_of(whole, components, f"{path}.")
    elif "items" in whole and "properties" in resolved(whole["items"], components):
        yield from fields_of(whole["items"], components, f"{path}[].")


def resolved(schema: Schema, components: Mapping[str, Schema]) -> Schema:
    """The schema, or the component that it refers to."""
    return components[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def words_of(schema: Schema, components: Mapping[str, Schema]) -> str:
    """Such as `string, at most 64 characters` or `integer or null, from 0, to 10`."""
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


def _kind_of(schema: Schema, components: Mapping[str, Schema]) -> str:
    return str(resolved(schema, components).get("type", "any JSON value"))


def _union(branches: list[Schema], components: Mapping[str, Schema]) -> str:
    words = list(dict.fromkeys(words_of(branch, components) for branch in branches))
    return " or ".join(words)


def _bounds(schema: Schema) -> list[str]:
    return [sentence.format(schema[name]) for name, sentence in _BOUNDS.items() if name in schema]
