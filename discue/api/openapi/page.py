"""The OpenAPI document and errors as HTML pages, which load and run nothing."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any, Final, NamedTuple

from discue.api.openapi.schemas import resolved
from discue.api.structs import READ_ONLY

Document = Mapping[str, Any]
HTML_TYPE: Final = "text/html"

_STYLE: Final = files("discue.api.openapi").joinpath("page.css").read_text("utf-8")

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

# The policy allows this style by its hash, so that nothing that gets into the page can add another.
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

SECURITY_HEADERS = (
    ("content-security-policy", _POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
)
"""Allow only the inline style: no scripts, images or other hosts."""


def page(title: str, body: str) -> bytes:
    """Return a document. `body` is HTML."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{text(title)}</title><style>{_STYLE}</style></head><body>{body}</body></html>\n"
    ).encode()


def text(value: object) -> str:
    """Escape text for HTML."""
    return html.escape(str(value))


def prose(value: str) -> str:
    """Escape a text in which backticks mark code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text(value))


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
    return f'<div class="wide"><table><tr>{head}</tr>{lines}</table></div>'


class _Operation(NamedTuple):
    verb: str
    path: str
    content: Mapping[str, Any]


def openapi_page(document: Document, document_url: str) -> bytes:
    """Return the document as a page: its operations by tag, each folded."""
    info = document["info"]
    (scheme,) = document["components"]["securitySchemes"].values()
    body = (
        f'<div class="frame"><nav><strong>{text(info["title"])}</strong> '
        f'<span class="soft">{text(info["version"])}</span>{_contents(document)}</nav>'
        f"<main><h1>{text(info['title'])} API</h1>{_paragraphs(info['description'])}"
        f"<p>Base URL: <code>{text(document['servers'][0]['url'])}</code> · "
        f'<a href="{text(document_url)}">OpenAPI 3.1 document</a></p>'
        f"<p>Authentication: the header <code>{text(scheme['name'])}</code>. {prose(scheme['description'])}</p>"
        f"{''.join(_section(document, tag) for tag in document['tags'])}</main></div>"
    )
    return page(f"{info['title']} API", body)


def _operations(document: Document, tag: str) -> Iterator[_Operation]:
    for path, item in document["paths"].items():
        for verb, operation in item.items():
            if tag in operation["tags"]:
                yield _Operation(verb.upper(), path, operation)


def _contents(document: Document) -> str:
    # Without PUT on collections, which do the same as POST.
    parts = []
    for tag in document["tags"]:
        items = "".join(
            f'<li><a href="#{text(one.content["operationId"])}">{text(one.content["summary"])}</a></li>'
            for one in _operations(document, tag["name"])
            if not one.content["operationId"].startswith("put_")
        )
        parts.append(f'<h2><a href="#{text(tag["name"])}">{text(_title(tag["name"]))}</a></h2><ul>{items}</ul>')
    return "".join(parts)


def _title(tag: str) -> str:
    return "API keys" if tag == "api_keys" else tag.capitalize()


def _section(document: Document, tag: Mapping[str, str]) -> str:
    operations = "".join(_operation(document, one) for one in _operations(document, tag["name"]))
    return (
        f'<section id="{text(tag["name"])}"><h2>{text(_title(tag["name"]))}</h2>'
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
        f"<p>{needs}</p>{_parameters(document, content)}"
        f"{''.join(_body(document, 'Request body', body) for body in accepted.items())}{_responses(document, content)}"
        "</div></details>"
    )


def _parameters(document: Document, operation: Mapping[str, Any]) -> str:
    rows = [
        (
            f"<code>{text(parameter['name'])}</code>",
            text(parameter["in"]),
            prose(_words_of(parameter["schema"], {})),
            prose(parameter["description"]),
        )
        for parameter in (_followed(document, entry) for entry in operation["parameters"])
    ]
    return f"<h4>Parameters</h4>{_table(('name', 'in', 'value', 'meaning'), rows)}"


def _body(document: Document, heading: str, body: tuple[str, Mapping[str, Any]]) -> str:
    media_type, content = body
    example = ""
    if "example" in content:
        value = json.dumps(content["example"], indent=2, ensure_ascii=False)
        example = f"<pre><code>{text(value)}</code></pre>"
    return f"<h4>{heading} <code>{text(media_type)}</code></h4>{example}{_fields(document, content['schema'])}"


def _responses(document: Document, operation: Mapping[str, Any]) -> str:
    # Messages as a stream of events, the only second media type, have the fields of the first.
    body, *_ = operation["responses"]["200"]["content"].items()
    rows = [
        (f"<code>{text(status)}</code>", prose(_followed(document, response)["description"]))
        for status, response in operation["responses"].items()
    ]
    return f"{_body(document, 'Response', body)}<h4>Statuses</h4>{_table(('status', 'meaning'), rows)}"


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


def _followed(document: Document, entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the entry, or the component that it refers to."""
    if "$ref" not in entry:
        return entry
    *_, kind, name = entry["$ref"].split("/")
    component: Mapping[str, Any] = document["components"][kind][name]
    return component


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
