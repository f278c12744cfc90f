"""Writes the generated part of `clients/python`: models and operations from the OpenAPI document, and the sync half.

`make docs` writes the files, and `make check` fails if one is out of date.
"""

import keyword
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tools.client_operations import LIST_OPTIONS, NOT_SET, Json, Operation, class_name, methods, operations

PACKAGE: Final = Path(__file__).parents[1] / "clients" / "python" / "discue_client"
DERIVED: Final = ("client", "consumer", "publisher", "requester", "resources")
"""The modules whose sync half is derived."""


MARK: Final = '"""{}\n\nWritten by `make docs` from {}. Do not edit.\n"""\n\n'
"""The docstring of a generated module: its title and its source."""


def generated(document: Json) -> dict[Path, str]:
    """Return the text of each generated file."""
    schemas = {name.removesuffix("View"): schema for name, schema in document["components"]["schemas"].items()}
    resources = _formatted(_resources(schemas, operations(document)))
    texts = {
        PACKAGE / "models.py": _formatted(_models(schemas, resources)),
        PACKAGE / "_async" / "resources.py": resources,
    }
    for name in DERIVED:
        source = PACKAGE / "_async" / f"{name}.py"
        text = texts.get(source) or source.read_text(encoding="utf-8")
        texts[PACKAGE / "_sync" / f"{name}.py"] = _formatted(_sync_half(text, name))
    return texts


_TOKENS: Final = {
    r"async (def|with|for) ": r"\1 ",
    r"\bawait ": "",
    r"\bAsync(?=[A-Z])": "",
    r"\b_async\b": "_sync",
    r"__a(enter|exit|iter|next)__": r"__\1__",
    r"\baclose\b": "close",
    r"\bCoroutine\[Any, Any, (.*?)\]": r"\1",
    r"\bAwaitable\[(.*?)\]": r"\1",
}


def _sync_half(text: str, name: str) -> str:
    """Derive a module of the sync half from the async one, token by token."""
    for pattern, replacement in _TOKENS.items():
        text = re.sub(pattern, replacement, text)
    title, _, rest = text.removeprefix('"""').partition('"""\n')
    title = title.split("\n\nWritten by")[0].strip()
    return MARK.format(title, f"`_async/{name}.py`") + rest.lstrip("\n")


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


def _models(schemas: Json, resources: str) -> str:
    """Return the classes that operations use, and those that these use."""
    classes = {name: _class(schemas, name) for name in schemas if _is_class(schemas[name])}
    used = dict.fromkeys(re.findall(r"\bmodels\.(\w+)", resources))
    pending = list(used)
    for name in pending:
        annotations = " ".join(re.findall(r"^    \w+: (.+)$", classes[name], re.MULTILINE))
        more = [other for other in re.findall(r"\w+", annotations) if other in classes and other not in used]
        used |= dict.fromkeys(more)
        pending += more
    head = MARK.format("Objects that the service returns and takes.", "`docs/openapi.json`") + _MODELS_HEAD
    return "\n\n".join([head, *(classes[name] for name in sorted(used))])


def _is_class(schema: Json) -> bool:
    """Whether an object has fixed fields that Python can name."""
    fields = [name for name in schema.get("properties", {}) if name != "_links"]
    return bool(fields) and all(name.isidentifier() and not keyword.iskeyword(name) for name in fields)


def _class(schemas: Json, name: str) -> str:
    """Return a struct, for responses, or a TypedDict, for objects in requests."""
    schema, is_request = schemas[name], name.endswith("Body")
    base = "TypedDict, total=False" if is_request else "msgspec.Struct, frozen=True, kw_only=True"
    lines = [f"class {name}({base}):", _docstring(schema.get("description", "A response."), 4)]
    for field, spec in schema["properties"].items():
        text, kind = spec.get("description", ""), _type(schemas, spec, is_request=is_request).replace("models.", "")
        if field == "_links":
            if any(each.get("type") == "array" for each in schema["properties"].values()):
                lines.append('    links: dict[str, Link] = msgspec.field(name="_links", default_factory=dict)')
        elif is_request and text.startswith(NOT_SET[0]):
            continue
        elif is_request or field in schema.get("required", ()):
            lines += [f"    {field}: {kind}", _docstring(text, 4)]
        else:
            lines += [f"    {field}: {_union(kind, 'None')} = None", _docstring(text, 4)]
    return "\n".join(line for line in lines if line)


def _docstring(text: str, indent: int) -> str:
    """Return a docstring for a place with this indentation, indented by one level."""
    wrapped = textwrap.wrap(text, 112 - indent)
    closing = '"""' if len(wrapped) == 1 else '\n"""'
    opening = 'r"""' if "\\" in text else '"""'
    return textwrap.indent(opening + "\n".join(wrapped) + closing, "    ") if text else ""


_SIMPLE: Final = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}


def _type(schemas: Json, schema: Json, *, is_request: bool) -> str:
    """Return the annotation for a schema. Responses allow values that a later version of the service adds."""
    mapping, array = ("Mapping", "Sequence[{}]") if is_request else ("dict", "tuple[{}, ...]")
    kind = schema.get("type", "string" if "const" in schema or "enum" in schema else None)
    if "$ref" in schema:
        name = class_name(schema)
        return f"models.{name}" if _is_class(schemas[name]) else f"{mapping}[str, Any]"
    if "anyOf" in schema:
        return _union(*(_type(schemas, each, is_request=is_request) for each in schema["anyOf"]))
    if is_request and ("enum" in schema or "const" in schema):
        values = schema.get("enum", [schema.get("const")])
        # The client writes True and False as these texts.
        also = "bool | " if values == ["true", "false"] else ""
        return f"{also}Literal[{', '.join(map(repr, values))}]"
    if kind == "array":
        return array.format(_type(schemas, schema.get("items", {}), is_request=is_request))
    if kind == "object":
        values = schema.get("additionalProperties")
        value = _type(schemas, values, is_request=is_request) if isinstance(values, Mapping) else "Any"
        return f"{mapping}[str, {value}]"
    return _union(*(_SIMPLE.get(each, "Any") for each in (kind if isinstance(kind, list) else [kind])))


def _union(*kinds: str) -> str:
    parts = [part for kind in kinds for part in ([kind] if "[" in kind else kind.split(" | "))]
    parts = [part for part in parts if not ("int" in parts and part.startswith("Literal["))]
    return "Any" if "Any" in parts else " | ".join(dict.fromkeys(sorted(parts, key=lambda part: part == "None")))


_RESOURCES_HEAD: Final = """# ruff: noqa: A002, PLR0913

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from msgspec import UNSET, UnsetType

from discue_client import models
from discue_client._async.requester import AsyncPages, AsyncRequester
from discue_client.messages import message_fields
from discue_client.wire import given, path_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from discue_client.messages import MessageFields
"""


def _resources(schemas: Json, operations: list[Operation]) -> str:
    classes, attributes = [], []
    for resource, found in methods(operations).items():
        name = "Async" + "".join(word.capitalize() for word in resource.split("_"))
        texts = [_method(schemas, *each) for each in found]
        classes.append(_resource(name, f"Operations of `client.{resource}`.", ["self._requester = requester"], texts))
        attributes.append(f"self.{resource} = {name}(requester)")
    head = MARK.format("Operations by resource.", "`docs/openapi.json`") + _RESOURCES_HEAD
    last = _resource("AsyncResources", "The resources of a service, as attributes.", attributes, [])
    return "\n\n".join([head, *classes, last])


def _resource(name: str, text: str, attributes: list[str], methods: list[str]) -> str:
    start = "    def __init__(self, requester: AsyncRequester) -> None:\n"
    body = start + textwrap.indent("\n".join(attributes), " " * 8)
    return "\n\n".join([f'class {name}:\n    """{text}"""', body, *methods])


_PUBLISH: Final = """async def {name}(
    self, {target}: str, data: object, *, idempotency_key: str | None = None, **fields: Unpack[MessageFields]
) -> {result}:
{text}
{code}
"""


def _publish(schemas: Json, operation: Operation) -> str:
    """Return a method that is called like `client.publish`."""
    text = (
        f"{operation.text} `data` is text or bytes, which are delivered as they are, or any value with a JSON form. "
        "`fields` are `type`, `key`, `delay` and the others of `MessageFields`. As with `client.publish`, the "
        "message is published once, however often the request is sent."
    )
    arguments = f'"POST", {_path(operation)}, body=message_fields(data, **fields), idempotency_key=idempotency_key'
    result, code = _call(schemas, operation, arguments)
    target = operation.path.split("{")[1].split("_id}")[0]
    shown = _PUBLISH.format(
        name=operation.name, target=target, result=result, text=_docstring(text, 8), code=textwrap.indent(code, "    ")
    )
    return textwrap.indent(shown, "    ")


def _method(schemas: Json, shorter: Operation, operation: Operation | None = None) -> str:
    """Return a method, which sends the shorter request if the resource that only the longer path names is not given."""
    if shorter.is_publish:
        return _publish(schemas, shorter)
    path = _path(shorter)
    names = [name.removesuffix("_id") for name in re.findall(r"\{(\w+)\}", (operation or shorter).path)]
    positional = [f"{name}: str | None = None" if operation else f"{name}: str" for name in names]
    if operation:
        path = f"{_path(operation)} if {names[0]} is not None else {path}"
    operation = operation or shorter
    is_list = "per_page" in operation.parameters
    is_idempotent = "Idempotency-Key" in operation.parameters
    queries = [name for name in operation.queries if name not in LIST_OPTIONS]
    keyword = [
        *(
            f"{name}: {_union(_type(schemas, operation.queries[name], is_request=True), 'None')} = None"
            for name in queries
        ),
        *(_field(schemas, name, operation) for name in operation.fields),
        *["limit: int | None = None"] * is_list,
        *["idempotency_key: str | None = None"] * is_idempotent,
    ]
    signature = ", ".join(["self", *positional, *(["*"] if keyword else []), *keyword])
    query = "{" + ", ".join(f"{name!r}: {name}" for name in queries) + "}"
    properties = {name: spec for name, spec in schemas[operation.response]["properties"].items() if name != "_links"}
    if is_list:
        ((items, array),) = properties.items()
        result = f"AsyncPages[{_type(schemas, array['items'], is_request=False)}]"
        call = f"page_type=models.{operation.response}, items={items!r}, limit=limit"
        code = f"path = {path}\nquery = {query}\nreturn AsyncPages(self._requester, path, query, {call})"
    else:
        options = [
            *[f"query={query}"] * bool(queries),
            *["extra_time=wait or 0"] * ("wait" in queries),
            *[f"body=given({', '.join(f'{name}={name}' for name in operation.fields)})"] * bool(operation.fields),
            *["idempotency_key=idempotency_key"] * is_idempotent,
            *["repeatable=False"] * (not is_idempotent and not operation.is_repeatable),
        ]
        result, code = _call(schemas, operation, ", ".join([f'"{operation.verb.upper()}"', path, *options]))
    start = f"{'' if is_list else 'async '}def {operation.name}({signature}) -> {result}:"
    return textwrap.indent(f"{start}\n{_docstring(operation.text, 8)}\n{textwrap.indent(code, '    ')}", "    ")


def _field(schemas: Json, name: str, operation: Operation) -> str:
    kind = _type(schemas, operation.fields[name], is_request=True)
    return f"{name}: {kind}" if name in operation.required else f"{name}: {_union(kind, 'UnsetType')} = UNSET"


def _path(operation: Operation) -> str:
    parts = [part for part in operation.path.split("/") if part]
    return f"path_of({', '.join(part[1:-1].removesuffix('_id') if part[0] == '{' else repr(part) for part in parts)})"


def _call(schemas: Json, operation: Operation, arguments: str) -> tuple[str, str]:
    """Return the type of the result, and the code that returns it: an object that is alone is returned bare."""
    response = operation.response
    if response == "DeletedResponse":
        return "None", f"await self._requester.request({arguments})"
    sent = f"await self._requester.result(models.{response}, {arguments})"
    fields = schemas[response]["properties"].keys() - {"_links"}
    required = [name for name in schemas[response].get("required", ()) if name != "_links"]
    if len(required) != 1 or (len(fields) > 1 and operation.verb == "post"):
        return f"models.{response}", f"return {sent}"
    kind = _type(schemas, schemas[response]["properties"][required[0]], is_request=False)
    return kind, f"found = {sent}\nreturn found.{required[0]}"
