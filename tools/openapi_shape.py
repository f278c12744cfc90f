"""Compares the shape of the OpenAPI document with the one that is frozen: `python -m tools.openapi_shape [--freeze]`.

The shape is what a client can depend on: paths, operations, parameters, fields, types, limits and required fields.
Descriptions, summaries, titles, examples, the order of keys and the names of components are no part of it.
"""

import json
import sys
from difflib import unified_diff
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent
DOCUMENT: Final = ROOT / "docs" / "openapi.json"
FROZEN: Final = ROOT / "tests" / "docs" / "openapi-frozen.json"

_PROSE: Final = frozenset({"description", "summary", "title", "example", "examples", "externalDocs"})
_NAMED_BY_KEY: Final = frozenset(
    {"properties", "patternProperties", "$defs", "paths", "schemas", "responses", "parameters", "headers", "content"}
    | {"securitySchemes", "callbacks", "variables"}
)
"""Keywords whose value, if it is an object, maps names to objects: `title` below them is a name, not a keyword."""
_DATA: Final = frozenset({"default", "const", "enum", "mapping", "security", "x-required-scope"})
"""Keywords whose value is compared as it stands."""
_UNORDERED: Final = frozenset({"required", "enum", "type", "tags", "parameters", "anyOf", "oneOf", "allOf"})
_CONTEXT_LINES: Final = 2

Json = Any
Shape = dict[str, list[str]]


def load(path: Path) -> Json:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def _without_prose(node: Json, *, names: bool = False) -> Json:
    if isinstance(node, list):
        return [_without_prose(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: value
        if key in _DATA and not names
        else _without_prose(value, names=not names and key in _NAMED_BY_KEY and isinstance(value, dict))
        for key, value in sorted(node.items())
        if names or key not in _PROSE
    }


def frozen_text(document: Json) -> str:
    """Return the text of the frozen file: one line per path and component, so that its diffs are readable."""
    bare = {**_without_prose(document), "info": {}}
    tables = {"paths": bare.pop("paths"), **bare.pop("components")}
    lines = [f"{_compact(key)}:{_compact(value)}" for key, value in bare.items()]
    paths, *components = (
        f'"{group}":{{\n' + ",\n".join(f"{_compact(name)}:{_compact(item)}" for name, item in items.items()) + "}"
        for group, items in tables.items()
    )
    return "{" + ",\n".join([*lines, paths]) + ',\n"components":{\n' + ",\n".join(components) + "}}\n"


def _compact(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def differences(before: Shape, after: Shape) -> list[str]:
    """Return the diff of each operation, and of each other part of a document, whose shape differs."""
    return [
        "\n".join([part, *unified_diff(before.get(part, []), after.get(part, []), n=_CONTEXT_LINES, lineterm="")])
        for part in sorted(before.keys() | after.keys())
        if before.get(part) != after.get(part)
    ]


def shape(document: Json) -> Shape:
    """Return the lines of each operation and other part, with references replaced by what they refer to."""
    bare = _without_prose(document)
    parts = {f"{path} {key}": item for path, items in bare["paths"].items() for key, item in items.items()}
    parts |= {key: value for key, value in bare.items() if key not in {"info", "paths", "components"}}
    parts["securitySchemes"] = bare["components"]["securitySchemes"]
    return {
        part: json.dumps(_resolved(bare, node), indent=1, sort_keys=True, ensure_ascii=False).splitlines()
        for part, node in parts.items()
    }


def _resolved(document: Json, node: Json, keyword: str = "", above: tuple[str, ...] = ()) -> Json:
    """Replace references, and sort lists whose order means nothing. `above` has the references of the nodes above."""
    if isinstance(node, list):
        items = [_resolved(document, item, "", (*above, "")) for item in node]
        return sorted(items, key=_compact) if keyword in _UNORDERED else items
    if not isinstance(node, dict):
        return node
    reference = str(node.get("$ref", ""))
    if reference in above and reference:
        return f"the object {above[::-1].index(reference) + 1} levels above"
    if reference:
        _, _, group, name = reference.split("/")
        rest = {key: value for key, value in node.items() if key != "$ref"}
        node = {**document["components"][group][name], **rest}
    return {key: _resolved(document, value, key, (*above, reference)) for key, value in node.items()}


def main(arguments: list[str]) -> int:
    """Print the differences, or freeze the current document."""
    current = load(DOCUMENT)
    if arguments == ["--freeze"]:
        FROZEN.write_text(frozen_text(current), encoding="utf-8")
        return 0
    found = differences(shape(load(FROZEN)), shape(current))
    print("\n".join(found) if found else "The document has the frozen shape.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
