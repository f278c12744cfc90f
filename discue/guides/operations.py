"""The OpenAPI document as a page: every operation once, with a command for curl."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from discue.api.openapi.schemas import resolved
from discue.api.structs import READ_ONLY
from discue.guides.layout import ContentsEntry, Group, page, prose, text
from discue.guides.library import OPERATIONS
from discue.http.negotiation import JSON

Document = Mapping[str, Any]

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

_REQUEST: Final = "Request body"
_LINE_CHARACTERS: Final = 80
_STEP: Final = re.compile(r"\{(\w+)\}")


def _paragraphs(value: str) -> str:
    """Escape paragraphs, and lists whose lines start with a hyphen."""
    blocks = []
    for block in value.strip().split("\n\n"):
        if block.startswith("- "):
            items = "".join(f"<li>{prose(line)}</li>" for line in block.removeprefix("- ").split("\n- "))
            blocks.append(f"<ul>{items}</ul>")
        else:
            blocks.append(f"<p>{prose(block)}</p>")
    return "".join(blocks)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table. Its cells are HTML. Empty without rows."""
    if not rows:
        return ""
    head = "".join(f"<th>{text(name)}</th>" for name in heads)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide" tabindex="0"><table><tr>{head}</tr>{lines}</table></div>'


class _Operation(NamedTuple):
    verb: str
    path: str
    content: Mapping[str, Any]


def openapi_page(document: Document, document_link: str, contents: Sequence[Group]) -> bytes:
    """Return the document as a page: its operations by tag, each folded."""
    info = document["info"]
    (scheme,) = document["components"]["securitySchemes"].values()
    server = text(document["servers"][0]["url"])
    body = (
        f"<h1>All operations</h1>{_paragraphs(info['description'])}"
        f"<p>Authentication: the header <code>{text(scheme['name'])}</code>. {prose(scheme['description'])}</p>"
        f'<p><a href="{text(document_link)}">OpenAPI 3.1 document</a>, for generators of clients.</p>'
        "<p>The commands below use the address of this service, an API key, and ids or names in capitals:</p>"
        f'<pre tabindex="0"><code>URL={server}\nKEY=dsk_…\nQUEUE_ID=orders\n</code></pre>'
        f"{''.join(_section(document, tag) for tag in document['tags'])}"
    )
    return page("All operations", body, path=OPERATIONS, contents=contents)


def operation_entries(document: Document) -> tuple[ContentsEntry, ...]:
    """Return the tags with their operations, for the contents."""
    return tuple(
        ContentsEntry(
            f"{OPERATIONS}#{tag['name']}",
            title_of(tag["name"]),
            tuple(
                ContentsEntry(f"{OPERATIONS}#{one.content['operationId']}", one.content["summary"])
                for one in _operations(document, tag["name"])
            ),
        )
        for tag in document["tags"]
    )


def _operations(document: Document, tag: str) -> Iterator[_Operation]:
    for path, item in document["paths"].items():
        for verb, operation in item.items():
            if tag in operation["tags"]:
                yield _Operation(verb.upper(), path, operation)


def title_of(tag: str) -> str:
    return "API keys" if tag == "api_keys" else tag.capitalize()


def _section(document: Document, tag: Mapping[str, str]) -> str:
    operations = "".join(_operation(document, one) for one in _operations(document, tag["name"]))
    return (
        f'<section><h2 id="{text(tag["name"])}">{text(title_of(tag["name"]))}</h2>'
        f"<p>{prose(tag['description'])}</p>{operations}</section>"
    )


def _operation(document: Document, one: _Operation) -> str:
    content, scope = one.content, one.content.get("x-required-scope")
    needs = "Needs no API key."
    if scope is not None:
        needs = f"Scope: <code>{text(scope['resource'])}</code>, {text(scope['access'])}"
    accepted = content.get("requestBody", {"content": {}})["content"]
    return (
        f'<details id="{text(content["operationId"])}"><summary><span class="verb {one.verb}">{one.verb}</span>'
        f'<h3><code>{text(one.path)}</code></h3><span class="what">{text(content["summary"])}</span></summary><div>'
        f"{_paragraphs(content['description']) if content.get('description') else ''}"
        f'<p>{needs}</p><pre tabindex="0"><code>{text(curl(document, one))}</code></pre>'
        f"{_parameters(document, content)}"
        f"{''.join(_body(document, _REQUEST, body) for body in accepted.items())}{_responses(document, content)}"
        "</div></details>"
    )


def curl(document: Document, one: _Operation) -> str:
    """Return a command that makes the request with the example of its body."""
    parameters = document["components"]["parameters"]

    def step(match: re.Match[str]) -> str:
        name = match[1]
        return f"${name.upper()}" if name.endswith("_id") else str(parameters[name]["example"])

    body = one.content.get("requestBody", {"content": {}})["content"].get(JSON)
    method = "" if one.verb == ("GET" if body is None else "POST") else f" -X {one.verb}"
    lines = [f'curl{method} "$URL{_STEP.sub(step, one.path)}"']
    if "x-required-scope" in one.content:
        lines.append('-H "X-API-KEY: $KEY"')
    if body is not None:
        lines += [f"-H 'Content-Type: {JSON}'", f"-d {shlex.quote(_example(body['example']))}"]
    return " \\\n  ".join(lines) + "\n"


def _example(value: object) -> str:
    """Return JSON, in one line if that is short."""
    line = json.dumps(value, ensure_ascii=False)
    return line if len(line) <= _LINE_CHARACTERS else json.dumps(value, indent=2, ensure_ascii=False)


def _parameters(document: Document, operation: Mapping[str, Any]) -> str:
    rows = [
        (
            f"<code>{text(parameter['name'])}</code>",
            text(parameter["in"]),
            prose(_words_of(parameter["schema"], {})),
            prose(parameter["description"]),
        )
        for parameter in (resolved(entry, document["components"]["parameters"]) for entry in operation["parameters"])
    ]
    return f"<h4>Parameters</h4>{_table(('name', 'in', 'value', 'meaning'), rows)}"


def _body(document: Document, heading: str, body: tuple[str, Mapping[str, Any]]) -> str:
    media_type, content = body
    example = ""
    # The command for curl has the example of a request.
    if "example" in content and (heading, media_type) != (_REQUEST, JSON):
        value = json.dumps(content["example"], indent=2, ensure_ascii=False)
        example = f'<pre tabindex="0"><code>{text(value)}</code></pre>'
    return f"<h4>{heading} <code>{text(media_type)}</code></h4>{example}{_fields(document, content['schema'])}"


def _responses(document: Document, operation: Mapping[str, Any]) -> str:
    # Messages as a stream of events, the only second media type, have the fields of the first.
    body, *_ = operation["responses"]["200"]["content"].items()
    rows = [
        (
            f"<code>{text(status)}</code>",
            ", ".join(f"<code>{text(code)}</code>" for code in operation["x-error-codes"].get(status, ())),
        )
        for status in operation["responses"]
    ]
    return f"{_body(document, 'Response', body)}<h4>Statuses</h4>{_table(('status', 'codes'), rows)}"


def _fields(document: Document, schema: Mapping[str, Any]) -> str:
    rows = [
        (
            f"<code>{text(field.path)}</code>{'' if field.is_required else ' <span class=soft>optional</span>'}",
            prose(field.words),
            prose(field.description),
        )
        for field in fields_of(schema, document["components"]["schemas"])
        if field.description != READ_ONLY
    ]
    return _table(("field", "value", "meaning"), rows)


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
        yield FieldRow(path, _words_of(of_field, components), name in required, str(of_field.get("description", "")))
        whole = resolved(of_field, components)
        if "properties" in whole and name != "_links":
            yield from fields_of(whole, components, f"{path}.")
        elif "items" in whole and "properties" in resolved(whole["items"], components):
            yield from fields_of(whole["items"], components, f"{path}[].")


def _words_of(schema: Mapping[str, Any], components: Mapping[str, Mapping[str, Any]]) -> str:
    """Describe the values of a schema, as in `string, at most 64 characters` or `integer or null, from 0, to 10`."""
    whole = resolved(schema, components)
    if "const" in whole:
        return f"`{json.dumps(whole['const'])}`"
    if "enum" in whole:
        return ", ".join(f"`{json.dumps(value)}`" for value in whole["enum"])
    if "anyOf" in whole:
        return " or ".join(dict.fromkeys(_words_of(branch, components) for branch in whole["anyOf"]))
    kind = str(whole.get("type", "any JSON value"))
    if kind == "array" and "items" in whole:
        kind = f"array of {resolved(whole['items'], components).get('type', 'any JSON value')}s"
    return ", ".join([kind, *(sentence.format(whole[name]) for name, sentence in _BOUNDS.items() if name in whole)])
