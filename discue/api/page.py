"""Pages for people: plain HTML in one piece, with nothing to fetch and nothing to run."""

import base64
import hashlib
import html
import re
from collections.abc import Sequence

HTML = "text/html; charset=utf-8"

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
    (
        "content-security-policy",
        _POLICY,
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
)
"""Nothing but our own style: no script, no image, no other host."""


def page(title: str, body: str) -> bytes:
    """A whole document. `body` is HTML already."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{text(title)}</title><style>{_STYLE}</style></head><body>{body}</body></html>\n"
    ).encode()


def text(value: object) -> str:
    """Text as HTML."""
    return html.escape(str(value))


def prose(value: str) -> str:
    """A sentence or more: what stands in backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text(value))


def paragraphs(value: str) -> str:
    """Several of them, and lists whose lines begin with a hyphen."""
    return "".join(_block(block) for block in value.strip().split("\n\n"))


def _block(block: str) -> str:
    if not block.startswith("- "):
        return f"<p>{prose(block)}</p>"
    items = "".join(f"<li>{prose(line)}</li>" for line in block.removeprefix("- ").split("\n- "))
    return f"<ul>{items}</ul>"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are HTML already; nothing where there are no rows."""
    if not rows:
        return ""
    head = "".join(f"<th>{text(name)}</th>" for name in heads)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{lines}</table></div>'
