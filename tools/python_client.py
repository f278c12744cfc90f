"""Writes the generated part of `clients/python`: models and operations from the OpenAPI document, and the sync half.

`make docs` writes the files, and `make check` fails if one is out of date.
"""

import keyword
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tools.client_operations import (
    COMPONENT,
    READ_ONLY,
    REPEATABLE,
    Json,
    Operation,
    body_fields,
    operations,
    query_parameters,
    response,
)
from tools.sync_half import MARK, sync_half

PACKAGE: Final = Path(__file__).parents[1] / "clients" / "python" / "discue_client"
DERIVED: Final = ("client", "consumer", "publisher", "requester", "resources")
"""The modules whose sync half is derived."""


def generated(document: Json) -> dict[Path, str]:
    """Return the text of each generated file."""
    texts = {PACKAGE / "models.py": _formatted(_models(document))}
    resources = PACKAGE / "_async" / "resources.py"
    texts[resources] = _formatted(_resources(document))
    for name in DERIVED:
        source = PACKAGE / "_async" / f"{name}.py"
        text = texts[source] if source in texts else source.read_text(encoding="utf-8")
        texts[PACKAGE / "_sync" / f"{name}.py"] = _formatted(sync_half(text, name))
    return texts


def _formatted(text: str) -> str:
    for command in (["check", "--fix-only", "--select", "I,F401", "--quiet"], ["format", "--quiet"]):
        line = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(PACKAGE / "models.py"), "-"]
        text = subprocess.run(line, input=text, capture_output=True, text=True, check=True).stdout
    return text


_MODELS_HEAD: Final = """from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

import msgspec
"""


def _models(document: Json) -> str:
    schemas = document["components"]["schemas"]
    seen: dict[str, str] = {}
    for operation in operations(document):
        if (reference := response(operation)) is not None:
            _collect(schemas, reference, seen, response=True)
        # Fields of a body are parameters; only the objects in it are classes.
        for child in _references([field for _, field in body_fields(schemas, operation.spec)]):
            _collect(schemas, child, seen, response=False)
    head = MARK.format("Objects that the service returns and takes.", "`docs/openapi.json`") + _MODELS_HEAD
    return "\n\n".join([head, *(seen[name] for name in sorted(seen))])


def _collect(schemas: Json, name: str, seen: dict[str, str], *, response: bool) -> None:
    schema = schemas[name]
    python = _class_name(name)
    if python in seen or not _is_class(schema):
        return
    seen[python] = ""
    for child in _references(schema):
        _collect(schemas, child, seen, response=response)
    seen[python] = _class(schemas, name, response=response)


def _references(node: Json) -> Iterator[str]:
    if isinstance(node, Mapping):
        reference = node.get("$ref", "")
        if reference.startswith(COMPONENT):
            yield reference.removeprefix(COMPONENT)
        for name, value in node.items():
            if name not in ("description", "examples"):
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _is_class(schema: Json) -> bool:
    """Whether an object has fixed fields that Python can name."""
    fields = schema.get("properties", {})
    return bool(fields) and "patternProperties" not in schema and all(_is_name(name) for name in fields)


def _is_name(name: str) -> bool:
    return name == "_links" or (name.isidentifier() and not keyword.iskeyword(name))


def _class_name(name: str) -> str:
    return name.removesuffix("View")


def _class(schemas: Json, name: str, *, response: bool) -> str:
    """Return a struct, for responses, or a TypedDict, for requests."""
    schema = schemas[name]
    base = "msgspec.Struct, frozen=True, kw_only=True" if response else "TypedDict, total=False"
    lines = [f"class {_class_name(name)}({base}):", _docstring(schema.get("description", "A response."), 4)]
    for field, spec in schema["properties"].items():
        text, kind = spec.get("description", ""), _type(schemas, spec, response=response)
        if field == "_links":
            if response and any(each.get("type") == "array" for each in schema["properties"].values()):
                lines.append('    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)')
        elif response and field not in schema.get("required", ()):
            lines += [f"    {field}: {_union(kind, 'None')} = None", _docstring(text, 4)]
        elif response or not text.startswith(READ_ONLY):
            lines += [f"    {field}: {kind}", _docstring(text, 4)]
    return "\n".join(line for line in lines if line)


def _docstring(text: str, indent: int) -> str:
    if not text:
        return ""
    wrapped = textwrap.wrap(text, 112 - indent)
    closing = '"""' if len(wrapped) == 1 else '\n"""'
    return textwrap.indent(
        'r"""' * ("\\" in text) + '"""' * ("\\" not in text) + "\n".join(wrapped) + closing, " " * indent
    )


_SIMPLE: Final = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}


def _type(schemas: Json, schema: Json, *, response: bool, module: str = "") -> str:
    """Return the annotation for a schema. Responses allow values that a later version of the service adds."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(COMPONENT)
        mapping = "dict[str, Any]" if response else "Mapping[str, Any]"
        return module + _class_name(name) if _is_class(schemas[name]) else mapping
    if "anyOf" in schema:
        return _union(*(_type(schemas, each, response=response, module=module) for each in schema["anyOf"]))
    if not response and ("enum" in schema or "const" in schema):
        return f"Literal[{', '.join(map(repr, schema.get('enum', [schema.get('const')])))}]"
    kind = schema.get("type", "string" if "const" in schema or "enum" in schema else None)
    if kind == "array":
        item = _type(schemas, schema.get("items", {}), response=response, module=module)
        return f"tuple[{item}, ...]" if response else f"Sequence[{item}]"
    if kind == "object":
        values = schema.get("additionalProperties")
        value = _type(schemas, values, response=response, module=module) if isinstance(values, Mapping) else "Any"
        return f"{'dict' if response else 'Mapping'}[str, {value}]"
    kinds = kind if isinstance(kind, list) else [kind]
    return _union(*(_SIMPLE.get(each, "Any") for each in kinds))


def _union(*kinds: str) -> str:
    parts = [part for kind in kinds for part in ([kind] if "[" in kind else kind.split(" | "))]
    parts = [part for part in parts if not ("int" in parts and part.startswith("Literal["))]
    return "Any" if "Any" in parts else " | ".join(dict.fromkeys(sorted(parts, key=lambda part: part == "None")))


_LIST_OPTIONS: Final = frozenset(
    {"page", "per_page", "after", "before", "pretty", "name", "limit", "startAfter", "startAfterId"}
)
"""Parameters of lists that the client uses itself, and synonyms."""

_RESOURCES_HEAD: Final = """# ruff: noqa: A002, PLR0913

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import UNSET, UnsetType

from discue_client import models
from discue_client._async.requester import AsyncPages, AsyncRequester
from discue_client.wire import given, path_of
"""


def _resources(document: Json) -> str:
    by_resource: dict[str, dict[str, list[Operation]]] = {}
    for operation in operations(document):
        by_resource.setdefault(operation.resource, {}).setdefault(operation.name, []).append(operation)
    parts = [MARK.format("Operations by resource.", "`docs/openapi.json`") + _RESOURCES_HEAD]
    for resource, methods in by_resource.items():
        head = f'class {_resource_class(resource)}:\n    """Operations of `client.{resource}`."""\n\n'
        head += "    def __init__(self, requester: AsyncRequester) -> None:\n        self._requester = requester\n"
        parts.append("\n".join([head, *(_method(document, operations) for operations in methods.values())]))
    lines = [f"        self.{resource} = {_resource_class(resource)}(requester)" for resource in by_resource]
    parts.append(
        'class AsyncResources:\n    """The resources of a service, as attributes."""\n\n'
        "    def __init__(self, requester: AsyncRequester) -> None:\n" + "\n".join(lines)
    )
    return "\n\n".join(parts)


def _resource_class(resource: str) -> str:
    return "Async" + "".join(word.capitalize() for word in resource.split("_"))


def _method(document: Json, operations: list[Operation]) -> str:
    schemas = document["components"]["schemas"]
    operation = max(operations, key=lambda each: each.path.count("{"))
    shorter = min(operations, key=lambda each: each.path.count("{"))
    names = [name.removesuffix("_id") for name in re.findall(r"\{(\w+)\}", operation.path)]
    optional = names if shorter is not operation else []
    positional = [f"{name}: str | None = None" if name in optional else f"{name}: str" for name in names]
    parameters = query_parameters(document, operation.spec)
    is_list = "per_page" in {each["name"] for each in parameters}
    queries = [each for each in parameters if each["name"] not in _LIST_OPTIONS]
    keyword = [
        f"{each['name']}: {_union(_type(schemas, each['schema'], response=False), 'None')} = None" for each in queries
    ]
    fields = body_fields(schemas, operation.spec)
    keyword += [_body_parameter(schemas, operation, name, field) for name, field in fields]
    is_idempotent = any("Idempotency-Key" in each.get("$ref", "") for each in operation.spec.get("parameters", ()))
    keyword += ["limit: int | None = None"] * is_list + ["idempotency_key: str | None = None"] * is_idempotent
    signature = ", ".join(["self", *positional, *(["*"] if keyword else []), *keyword])
    path = _path(operation.path)
    if optional:
        path = f"{path} if {optional[0]} is not None else {_path(shorter.path)}"
    query = "{" + ", ".join(f"{each['name']!r}: {each['name']}" for each in queries) + "}"
    text = _docstring(f"{operation.spec['summary']}. {operation.spec.get('description', '')}".strip(), 8)
    if is_list:
        element, call = _list(schemas, operation)
        return (
            f"    def {operation.name}({signature}) -> AsyncPages[{element}]:\n{text}\n        path = {path}\n"
            f"        query = {query}\n        return AsyncPages(self._requester, path, query, {call}, limit=limit)\n"
        )
    options = [f"query={query}"] * bool(queries) + ["extra_time=wait or 0"] * ("wait: " in signature)
    if fields:
        options.append(f"body=given({', '.join(f'{name}={name}' for name, _ in fields)})")
    options += ["idempotency_key=idempotency_key"] * is_idempotent
    if operation.verb == "post" and not is_idempotent and operation.spec["operationId"] not in REPEATABLE:
        options.append("repeatable=False")
    call = ", ".join([f'"{operation.verb.upper()}"', path, *options])
    reference = response(operation)
    if reference is None:
        result, end = "None", f"await self._requester.request({call})"
    else:
        result, field = _result(schemas, reference, operation)
        sent = f"await self._requester.result(models.{reference}, {call})"
        end = f"found = {sent}\n        return found{field}" if field else f"return {sent}"
    return f"    async def {operation.name}({signature}) -> {result}:\n{text}\n        {end}\n"


def _list(schemas: Json, operation: Operation) -> tuple[str, str]:
    """Return the type of the elements of a list, and the arguments that say where they are in a response."""
    page = response(operation)
    (items,) = [name for name in schemas[page]["properties"] if name != "_links"]
    element = _type(schemas, schemas[page]["properties"][items]["items"], response=True, module="models.")
    return element, f"page_type=models.{page}, items={items!r}"


def _body_parameter(schemas: Json, operation: Operation, name: str, field: Json) -> str:
    content = operation.spec["requestBody"]["content"]["application/json"]
    required = schemas[content["schema"]["$ref"].removeprefix(COMPONENT)].get("required", ())
    kind = _type(schemas, field, response=False, module="models.")
    return (
        f"{name}: {kind}"
        if name in required
        else f"{name}: {_union(kind, 'UnsetType') if kind != 'Any' else kind} = UNSET"
    )


def _path(path: str) -> str:
    parts = [part for part in path.split("/") if part]
    return f"path_of({', '.join(part[1:-1].removesuffix('_id') if part[0] == '{' else repr(part) for part in parts)})"


def _result(schemas: Json, reference: str, operation: Operation) -> tuple[str, str]:
    """Return the type of the result, and the field of the response that has it: one object is returned bare."""
    fields = [name for name in schemas[reference]["properties"] if name != "_links"]
    required = [name for name in schemas[reference].get("required", ()) if name != "_links"]
    if len(required) != 1 or (len(fields) > 1 and operation.verb == "post"):
        return f"models.{reference}", ""
    kind = _type(schemas, schemas[reference]["properties"][required[0]], response=True, module="models.")
    return kind, f".{required[0]}"


def write(document: Json) -> None:
    """Write every generated file."""
    for path, text in generated(document).items():
        path.write_text(text, encoding="utf-8")
