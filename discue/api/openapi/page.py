"""The OpenAPI document and errors as HTML pages, which load and run nothing."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from discue.api.openapi.schemas import fields_of, words_of
from discue.api.structs import READ_ONLY

Document = Mapping[str, Any]
HTML_TYPE: Final = "text/html"

_STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6777;--line:#dfe4ea;--paper:#fff;--box:#f5f7f9;--mark:#0b6bcb}
@media(prefers-color-scheme:dark){:root{--ink:#e3e8ee;--soft:#9aa7b6;--line:#2f3945;--paper:#14191f;--box:#1c232b;
--mark:#6cb1ff}}
*{box-sizing:border-box}
html{scroll-padding-top:1rem}
body{margin:0;font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif;color:var(--ink);background:var(--paper)}
a{color:var(--mark);text-decoration:none}a:hover{text-decoration:underline}
.frame{display:grid;grid-template-columns:16rem minmax(0,1fr);max-width:80rem;margin:0 auto}
nav{position:sticky;top:0;align-self:start;max-height:100vh;overflow:auto;padding:1.5rem 1rem;
border-right:1px solid var(--line);font-size:.875rem}
nav h2{font-size:.8rem;margin:1.2rem 0 .2rem;text-transform:uppercase;letter-spacing:.05em;color:var(--soft)}
nav ul{list-style:none;margin:0;padding:0}nav li{padding:.1rem 0}
main{padding:2rem;min-width:0}
.narrow{max-width:46rem;margin:0 auto}
h1{font-size:1.9rem;margin:0 0 .5rem}h2{font-size:1.4rem;margin:3rem 0 .3rem;padding-top:.8rem;
border-top:1px solid var(--line)}
h3{font-size:1.05rem;margin:0}h4{font-size:.85rem;margin:1.1rem 0 .3rem;color:var(--soft)}
p{margin:.4rem 0}
details{border:1px solid var(--line);border-radius:.5rem;margin:.7rem 0;background:var(--paper)}
details>div{padding:0 1rem 1rem}
summary{cursor:pointer;padding:.6rem 1rem;display:flex;gap:.7rem;align-items:baseline;flex-wrap:wrap}
details[open]>summary{border-bottom:1px solid var(--line);background:var(--box);border-radius:.5rem .5rem 0 0}
summary .what{color:var(--soft);margin-left:auto;font-size:.9rem}
.verb{font:600 .75rem/1.6 ui-monospace,monospace;padding:.05rem .45rem;border-radius:.3rem;color:#fff;
background:#5b6777}
.GET{background:#1a7f4b}.POST{background:#0b6bcb}.PUT{background:#a15c00}.DELETE{background:#c0342b}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,monospace;font-size:.85em}
code{background:var(--box);padding:.05em .3em;border-radius:.25em}
pre{background:var(--box);border:1px solid var(--line);border-radius:.4rem;padding:.7rem .9rem;overflow:auto;
margin:.4rem 0}
pre code,summary code{background:none;padding:0}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.875rem}
th{text-align:left;font-weight:600;color:var(--soft)}
th,td{padding:.35rem .8rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:top}
td:first-child{white-space:nowrap}
.soft{color:var(--soft)}
@media(max-width:50rem){.frame{display:block}nav{position:static;max-height:none;border-right:0;
border-bottom:1px solid var(--line)}main{padding:1rem}}
"""

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


def paragraphs(value: str) -> str:
    """Escape paragraphs, and lists whose lines start with a hyphen."""
    return "".join(_block(block) for block in value.strip().split("\n\n"))


def _block(block: str) -> str:
    if not block.startswith("- "):
        return f"<p>{prose(block)}</p>"
    items = "".join(f"<li>{prose(line)}</li>" for line in block.removeprefix("- ").split("\n- "))
    return f"<ul>{items}</ul>"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
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
        return "<p>Needs no API key.</p>"
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
    return table(("field", "value", "meaning"), rows)


def _followed(document: Document, entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the entry, or the component that it refers to."""
    if "$ref" not in entry:
        return entry
    found: Any = document
    for step in entry["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    followed: Mapping[str, Any] = found
    return followed


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
