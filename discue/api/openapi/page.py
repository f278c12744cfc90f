"""The OpenAPI document as a page."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from discue.api.bodies import READ_ONLY
from discue.api.openapi.schema_words import Schema, fields_of, words_of
from discue.api.page import page, paragraphs, prose, table, text

Document = Mapping[str, Any]


class _Operation(NamedTuple):
    verb: str
    path: str
    content: Mapping[str, Any]


def openapi_page(document: Document, document_url: str) -> bytes:
    """All of the document: its operations under their tags, one fold each."""
    info = document["info"]
    body = (
        f'<div class="frame"><nav><strong>{text(info["title"])}</strong> '
        f'<span class="soft">{text(info["version"])}</span>{_contents(document)}</nav>'
        f"<main><h1>{text(info['title'])} API</h1>{paragraphs(info['description'])}"
        f"<p>Base URL: <code>{text(document['servers'][0]['url'])}</code> · "
        f'<a href="{text(document_url)}">OpenAPI 3.1 document</a></p>'
        f"{_security(document)}{''.join(_section(document, tag) for tag in document['tags'])}</main></div>"
    )
    return page(f"{info['title']} API", body)


def _security(document: Document) -> str:
    (scheme,) = document["components"]["securitySchemes"].values()
    return f"<p>Authentication: the header <code>{text(scheme['name'])}</code>. {prose(scheme['description'])}</p>"


def _operations(document: Document, tag: str) -> Iterator[_Operation]:
    for path, item in document["paths"].items():
        for verb, operation in item.items():
            if tag in operation["tags"]:
                yield _Operation(verb.upper(), path, operation)


def _contents(document: Document) -> str:
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
    return tag.replace("_", " ").replace("api", "API").capitalize() if "api" not in tag else "API keys"


def _section(document: Document, tag: Mapping[str, str]) -> str:
    operations = "".join(_operation(document, one) for one in _operations(document, tag["name"]))
    return (
        f'<section id="{text(tag["name"])}"><h2>{text(_title(tag["name"]))}</h2>'
        f"<p>{prose(tag['description'])}</p>{operations}</section>"
    )


def _operation(document: Document, one: _Operation) -> str:
    content = one.content
    return (
        f'<details id="{text(content["operationId"])}"><summary><span class="verb {one.verb}">{one.verb}</span>'
        f'<h3><code>{text(one.path)}</code></h3><span class="what">{text(content["summary"])}</span></summary><div>'
        f"{paragraphs(content['description']) if content.get('description') else ''}"
        f"{_scope(content)}{_parameters(document, content)}{_request(document, content)}{_responses(document, content)}"
        "</div></details>"
    )


def _scope(operation: Mapping[str, Any]) -> str:
    scope = operation.get("x-required-scope")
    if scope is None:
        return "<p>Needs no key.</p>"
    return f"<p>Scope: <code>{text(scope['resource'])}</code>, {text(scope['access'])}</p>"


def _parameters(document: Document, operation: Mapping[str, Any]) -> str:
    rows = []
    for entry in operation["parameters"]:
        parameter = _followed(document, entry)
        words = words_of(parameter["schema"], {})
        rows.append(
            (
                f"<code>{text(parameter['name'])}</code>",
                text(parameter["in"]),
                prose(words),
                prose(parameter["description"]),
            )
        )
    return f"<h4>Parameters</h4>{table(('name', 'in', 'value', 'meaning'), rows)}"


def _request(document: Document, operation: Mapping[str, Any]) -> str:
    body = operation.get("requestBody")
    if body is None:
        return ""
    return "".join(_content(document, media_type, content) for media_type, content in body["content"].items())


def _content(document: Document, media_type: str, content: Mapping[str, Any]) -> str:
    example = f"<pre><code>{text(_json(content['example']))}</code></pre>" if "example" in content else ""
    return f"<h4>Request body <code>{text(media_type)}</code></h4>{example}{_fields(document, content['schema'])}"


def _responses(document: Document, operation: Mapping[str, Any]) -> str:
    (media_type, content), *_ = operation["responses"]["200"]["content"].items()
    example = f"<pre><code>{text(_json(content['example']))}</code></pre>" if "example" in content else ""
    rows = [
        (f"<code>{text(status)}</code>", prose(_followed(document, response)["description"]))
        for status, response in operation["responses"].items()
    ]
    return (
        f"<h4>Response <code>{text(media_type)}</code></h4>{example}{_fields(document, content['schema'])}"
        f"<h4>Statuses</h4>{table(('status', 'meaning'), rows)}"
    )


def _fields(document: Document, schema: Schema) -> str:
    rows = [
        (
            f"<code>{text(field.path)}</code>{'' if field.is_required else ' <span class=soft>optional</span>'}",
            prose(field.words),
            prose(field.description),
        )
        for field in fields_of(schema, document["components"]["schemas"])
        if field.description != READ_ONLY
    ]
    return table(("field", "value", "meaning"), rows)


def _followed(document: Document, entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The entry, or the component that it refers to."""
    if "$ref" not in entry:
        return entry
    found: Any = document
    for step in entry["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    followed: Mapping[str, Any] = found
    return followed


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
