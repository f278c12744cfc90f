"""Compares the shape of the OpenAPI document with the one that is frozen: `python -m tools.openapi_shape [--freeze]`.

The shape is what a client can depend on: paths, operations, parameters, fields, types, limits and required fields.
Descriptions, summaries, titles, examples, the order of keys and the names of components are no part of it.
"""

import json
import sys
from collections.abc import Iterator, Mapping
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
_UNORDERED: Final = frozenset({"required", "enum", "type", "tags"})
_ALTERNATIVES: Final = frozenset({"anyOf", "oneOf", "allOf"})
_COMPONENT: Final = "#/components/"
_ABSENT: Final = object()

Json = Any


def load(path: Path) -> Json:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def stripped(document: Json) -> Json:
    """Return the document without prose, examples and its version."""
    bare = _without_prose(document)
    bare["info"] = {}
    return bare


def _without_prose(node: Json, *, names: bool = False) -> Json:
    if isinstance(node, list):
        return [_without_prose(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = node if names else {key: value for key, value in node.items() if key not in _PROSE}
    return {
        key: value if key in _DATA and not names else _without_prose(value, names=_maps_names(key, value, names))
        for key, value in sorted(kept.items())
    }


def _maps_names(key: str, value: Json, inside_names: bool) -> bool:  # noqa: FBT001
    return not inside_names and key in _NAMED_BY_KEY and isinstance(value, dict)


def frozen_text(document: Json) -> str:
    """Return the text of the frozen file: one line per path and component, so that its diffs are readable."""
    bare = stripped(document)
    lines = [f'"{key}":{_compact(bare[key])}' for key in sorted(bare) if key not in {"paths", "components"}]
    lines.append('"paths":' + _table(bare["paths"]))
    groups = (f'"{group}":{_table(items)}' for group, items in bare["components"].items())
    lines.append('"components":{\n' + ",\n".join(groups) + "}")
    return "{" + ",\n".join(lines) + "}\n"


def _table(items: Mapping[str, Json]) -> str:
    return "{\n" + ",\n".join(f"{_compact(name)}:{_compact(value)}" for name, value in items.items()) + "}"


def _compact(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def differences(frozen: Json, current: Json) -> list[str]:
    """Return one line per difference: where it is, the frozen value, and the current one."""
    return list(_Comparison(stripped(frozen), stripped(current)).run())


class _Comparison:
    """A parallel walk of two documents that resolves references on both sides.

    A pair of references is compared once: a second visit, also within itself, can find nothing new.
    """

    def __init__(self, frozen: Json, current: Json) -> None:
        self._frozen = frozen
        self._current = current
        self._compared: set[tuple[str, str]] = set()

    def run(self) -> Iterator[str]:
        for key in sorted((self._frozen.keys() | self._current.keys()) - {"components"}):
            yield from self._compare(key, self._frozen.get(key, _ABSENT), self._current.get(key, _ABSENT))

    def _compare(self, where: str, frozen: Json, current: Json) -> Iterator[str]:
        pair = (_reference(frozen), _reference(current))
        if any(pair):
            if pair in self._compared:
                return
            if all(pair):
                self._compared.add(pair)
            frozen, current = _resolve(self._frozen, frozen), _resolve(self._current, current)
        if isinstance(frozen, dict) and isinstance(current, dict):
            yield from self._compare_objects(where, frozen, current)
        elif isinstance(frozen, list) and isinstance(current, list):
            yield from self._compare_lists(where, frozen, current)
        elif type(frozen) is not type(current) or frozen != current:
            yield f"{where}: {_shown(frozen)} -> {_shown(current)}"

    def _compare_objects(self, where: str, frozen: Json, current: Json) -> Iterator[str]:
        for key in sorted(frozen.keys() | current.keys()):
            yield from self._compare(f"{where} > {key}", frozen.get(key, _ABSENT), current.get(key, _ABSENT))

    def _compare_lists(self, where: str, frozen: list[Json], current: list[Json]) -> Iterator[str]:
        keyword = where.rpartition(" > ")[2]
        if keyword in _ALTERNATIVES:
            frozen, current = self._aligned(frozen, current)
        elif keyword in _UNORDERED:
            frozen, current = sorted(frozen, key=_compact), sorted(current, key=_compact)
        elif keyword == "parameters":
            before, after = _by_place(self._frozen, frozen), _by_place(self._current, current)
            yield from self._compare_objects(where, before, after)
            return
        for at in range(max(len(frozen), len(current))):
            pair = [items[at] if at < len(items) else _ABSENT for items in (frozen, current)]
            yield from self._compare(f"{where}[{at}]", *pair)

    def _aligned(self, frozen: list[Json], current: list[Json]) -> tuple[list[Json], list[Json]]:
        """Put alternatives with equal shapes first, in one order; those without a counterpart follow."""
        left, pairs = list(current), []
        unmatched = []
        for one in frozen:
            match = next((other for other in left if self._are_equal(one, other)), _ABSENT)
            if match is _ABSENT:
                unmatched.append(one)
            else:
                left.remove(match)
                pairs.append((one, match))
        return [one for one, _ in pairs] + unmatched, [other for _, other in pairs] + left

    def _are_equal(self, frozen: Json, current: Json) -> bool:
        trial = _Comparison(self._frozen, self._current)
        trial._compared = set(self._compared)
        return next(trial._compare("", frozen, current), None) is None


def _reference(node: Json) -> str:
    return str(node.get("$ref", "")) if isinstance(node, dict) else ""


def _resolve(document: Json, node: Json) -> Json:
    """Replace a reference to a component by what it refers to, with the keywords that stand next to it."""
    while (reference := _reference(node)).startswith(_COMPONENT):
        group, _, name = reference.removeprefix(_COMPONENT).partition("/")
        beside = {key: value for key, value in node.items() if key != "$ref"}
        node = {**document["components"][group][name], **beside}
    return node


def _by_place(document: Json, parameters: list[Json]) -> dict[str, Json]:
    resolved = [_resolve(document, parameter) for parameter in parameters]
    return {f"{parameter['in']} {parameter['name']}": parameter for parameter in resolved}


def _shown(value: Json) -> str:
    text = "(absent)" if value is _ABSENT else _compact(value)
    return text if len(text) <= 160 else text[:159] + "…"


def main(arguments: list[str]) -> int:
    """Print the differences, or freeze the current document."""
    current = load(DOCUMENT)
    if arguments == ["--freeze"]:
        FROZEN.write_text(frozen_text(current), encoding="utf-8")
        return 0
    found = differences(load(FROZEN), current)
    print("\n".join(found) if found else "The document has the frozen shape.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
