"""Writes the generated part of `clients/typescript`: models and operations from the OpenAPI document.

`make docs` writes the files, and `make check` fails if one is out of date.
"""

import re
import textwrap
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from tools.client_operations import LIST_OPTIONS, NOT_SET, Json, Operation, class_name, methods, operations

PACKAGE: Final = Path(__file__).parents[1] / "clients" / "typescript"

_LINE: Final = 120
_MARK: Final = "/**\n * {}\n *\n * Written by `make docs` from `docs/openapi.json`. Do not edit.\n */\n"
_OPEN: Final = """/** One of the values, or one that a later version of the service adds. */
export type Open<T> = T | (string & {});
"""
_SIMPLE: Final = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}


def generated(document: Json) -> dict[Path, str]:
    """Return the text of each generated file."""
    schemas = {name.removesuffix("View"): schema for name, schema in document["components"]["schemas"].items()}
    found = operations(document)
    resources = _resources(schemas, found)
    requests = {operation.body for operation in found} | {name for name in schemas if name.endswith("Body")}
    folder = PACKAGE / "src" / "generated"
    return {folder / "models.ts": _models(schemas, requests, resources), folder / "resources.ts": resources}


def _models(schemas: Json, requests: set[str], resources: str) -> str:
    """Return the interfaces that the operations mention, and those that these mention."""
    interfaces = {
        name: _interface(schemas, name, is_request=name in requests)
        for name, schema in schemas.items()
        if "properties" in schema
    }
    used: set[str] = set()
    pending = [resources]
    while pending:
        more = _mentioned(pending.pop(), interfaces) - used
        used |= more
        pending += [interfaces[name] for name in more]
    head = _MARK.format("Objects that the service returns and takes.")
    return "\n".join([head, _OPEN, *(interfaces[name] for name in sorted(used))])


def _mentioned(text: str, names: Collection[str]) -> set[str]:
    """Return the names that the code mentions, its comments aside."""
    return set(re.findall(r"\w+", re.sub(r"/\*\*.*?\*/", "", text, flags=re.DOTALL))).intersection(names)


def _interface(schemas: Json, name: str, *, is_request: bool) -> str:
    """Return an interface; those of requests lack the fields that requests need not set."""
    schema = schemas[name]
    required = schema.get("required", ())
    lines = [_comment(schema.get("description", "A response."), 0) + f"export interface {name} {{\n"]
    for field, spec in schema["properties"].items():
        text = spec.get("description", "")
        if field == "_links" or (is_request and text.startswith(NOT_SET)):
            continue
        mark = "" if field in required else "?"
        key = field if field.isidentifier() else f'"{field}"'
        kind = _union(_type(schemas, spec, is_request=is_request), *["undefined"] * bool(mark))
        lines.append(_comment(text, 2) + f"  {key}{mark}: {kind};\n")
    return "".join([*lines, "}\n"])


def _comment(text: str, indent: int) -> str:
    space = " " * indent
    wrapped = textwrap.wrap(text.replace("*/", "*\\/"), _LINE - indent - len("/**  */"))
    if len(wrapped) < 2:
        return "".join(f"{space}/** {line} */\n" for line in wrapped)
    return f"{space}/**\n" + "".join(f"{space} * {line}\n" for line in wrapped) + f"{space} */\n"


def _type(schemas: Json, schema: Json, *, is_request: bool) -> str:
    """Return the type for a schema. Responses allow values that a later version of the service adds."""
    kind = schema.get("type", "string" if "const" in schema or "enum" in schema else None)
    if "$ref" in schema:
        name = class_name(schema)
        return name if "properties" in schemas[name] else _type(schemas, schemas[name], is_request=is_request)
    if "anyOf" in schema:
        return _union(*(_type(schemas, each, is_request=is_request) for each in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        values = " | ".join(f'"{value}"' for value in schema.get("enum", [schema.get("const")]))
        return values if is_request else f"Open<{values}>"
    if kind == "array":
        element = _type(schemas, schema.get("items", {}), is_request=is_request)
        return f"readonly {element}[]" if re.fullmatch(r"\w+", element) else f"readonly ({element})[]"
    if kind == "object":
        values = schema.get("additionalProperties")
        value = _type(schemas, values, is_request=is_request) if isinstance(values, Mapping) else "unknown"
        return f"Readonly<Record<string, {value}>>"
    return _union(*(_SIMPLE.get(each, "unknown") for each in (kind if isinstance(kind, list) else [kind])))


def _union(*kinds: str) -> str:
    if "unknown" in kinds:
        return "unknown"
    return " | ".join(dict.fromkeys(sorted(kinds, key=lambda kind: kind in ("null", "undefined"))))


def _resources(schemas: Json, found: list[Operation]) -> str:
    classes, attributes = [], []
    for resource, of_resource in methods(found).items():
        attribute = _camel(resource)
        name = attribute[0].upper() + attribute[1:]
        classes.append(
            f"/** Operations of `client.{attribute}`. */\nexport class {name} {{\n"
            "  readonly #requester: Requester;\n\n"
            "  constructor(requester: Requester) {\n    this.#requester = requester;\n  }\n\n"
            + "\n".join(_method(schemas, *each) for each in of_resource)
            + "}\n"
        )
        attributes.append((attribute, name))
    fields = "".join(f"  readonly {attribute}: {name};\n" for attribute, name in attributes)
    values = "".join(f"    this.{attribute} = new {name}(requester);\n" for attribute, name in attributes)
    last = (
        "/** The resources of a service, as attributes. */\nexport class Resources {\n"
        f"  protected readonly requester: Requester;\n{fields}\n"
        f"  constructor(requester: Requester) {{\n    this.requester = requester;\n{values}  }}\n}}\n"
    )
    text = "\n".join([*classes, last])
    types = sorted(_mentioned(text, ["Open", *(name for name, schema in schemas.items() if "properties" in schema)]))
    head = _MARK.format("Operations by resource.") + (
        '\nimport { Pages } from "../pages.js";\n'
        'import { messageOf, type PublishOptions } from "../publishing.js";\n'
        'import { pathOf } from "../requester.js";\n'
        'import type { RequestOptions, Requester } from "../requester.js";\n'
        f'import type {{\n{"".join(f"  {name},{chr(10)}" for name in types)}}} from "./models.js";\n'
    )
    return f"{head}\n{text}"


def _camel(name: str) -> str:
    return re.sub(r"_(\w)", lambda found: found[1].upper(), name)


def _publish(schemas: Json, operation: Operation) -> str:
    """Return a method that is called like `client.publish`."""
    text = (
        f"{operation.text} `data` is a string or bytes, which are delivered as they are, or any value with a JSON "
        "form. As with `client.publish`, the message is published once, however often the request is sent."
    )
    target = operation.path.split("{")[1].split("_id}")[0]
    result, code = _call(schemas, operation, _path(operation), has_query=False)
    code = code.replace("body: fields", "body: messageOf(data, options)")
    start = f"async {operation.name}({target}: string, data: unknown, options: PublishOptions = {{}}): {result}"
    return _comment(text, 2) + f"  {start} {{\n{textwrap.indent(code, '    ')}\n  }}\n"


def _method(schemas: Json, shorter: Operation, longer: Operation | None = None) -> str:
    """Return a method, which sends the shorter request if the resource that only the longer path names is not given."""
    if shorter.is_publish:
        return _publish(schemas, shorter)
    operation = longer or shorter
    names = [_camel(name.removesuffix("_id")) for name in re.findall(r"\{(\w+)\}", operation.path)]
    path = _path(operation)
    if longer:
        path = f"{names[0]} == null ? {_path(shorter)} : {path}"
    is_list = "per_page" in operation.parameters
    parameters = [f"{name}?: string | null" if longer else f"{name}: string" for name in names]
    query = _query(schemas, operation, is_list=is_list)
    if query:
        parameters.append(f"query: {query} = {{}}")
    if operation.fields:
        parameters.append(f"fields: {operation.body}" + " = {}" * (not operation.required))
    parameters.append("options: RequestOptions = {}")
    if is_list:
        ((items, array),) = (each for each in schemas[operation.response]["properties"].items() if each[0] != "_links")
        result = f"Pages<{_type(schemas, array['items'], is_request=False)}>"
        code = f'return new Pages(this.#requester, {{ path: {path}, items: "{items}", query, options }});'
    else:
        result, code = _call(schemas, operation, path, has_query=bool(query))
    start = f"{'' if is_list else 'async '}{_camel(operation.name)}"
    joined = ", ".join(parameters)
    if len(f"  {start}({joined}): {result} {{") > _LINE:
        joined = "\n" + "".join(f"    {each},\n" for each in parameters) + "  "
    return _comment(operation.text, 2) + f"  {start}({joined}): {result} {{\n{textwrap.indent(code, '    ')}\n  }}\n"


def _query(schemas: Json, operation: Operation, *, is_list: bool) -> str:
    fields = {
        name: _type(schemas, schema, is_request=True)
        for name, schema in operation.queries.items()
        if name not in LIST_OPTIONS
    }
    fields |= {"limit": "number"} if is_list else {}
    members = "; ".join(f"{name}?: {_union(kind, 'undefined')}" for name, kind in fields.items())
    return f"{{ {members} }}" if members else ""


def _path(operation: Operation) -> str:
    parts = [part for part in operation.path.split("/") if part]
    segments = [_camel(part[1:-1].removesuffix("_id")) if part[0] == "{" else f'"{part}"' for part in parts]
    return f"pathOf({', '.join(segments)})"


def _call(schemas: Json, operation: Operation, path: str, *, has_query: bool) -> tuple[str, str]:
    """Return the type of the result, and the code that returns it: an object that is alone is returned bare."""
    request = [
        *["query"] * has_query,
        *["body: fields"] * bool(operation.fields),
        *["extraTime: query.wait ?? 0"] * ("wait" in operation.queries),
        *["repeatable: false"] * ("Idempotency-Key" not in operation.parameters and not operation.is_repeatable),
    ]
    sent = f"{{ {', '.join(request)} }}" if request else "{}"
    response = operation.response
    if response == "DeletedResponse":
        return "Promise<void>", f'await this.#requester.request("DELETE", {path}, {sent}, options);'
    fields = schemas[response]["properties"].keys() - {"_links"}
    required = [name for name in schemas[response].get("required", ()) if name != "_links"]
    is_alone = len(required) == 1 and (len(fields) == 1 or operation.verb != "post")
    member = f'"{required[0]}"' if required else "undefined"
    arguments = f'"{operation.verb.upper()}", {path}, {member}, {sent}, options'
    call = f"await this.#requester.object<{response}>({arguments})"
    if not is_alone:
        return f"Promise<{response}>", f"return {call};"
    kind = _type(schemas, schemas[response]["properties"][required[0]], is_request=False)
    return f"Promise<{kind}>", f"const found = {call};\nreturn found.{required[0]};"
