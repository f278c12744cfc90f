"""Pages of the documentation as HTML, from Markdown: CommonMark and tables.

HTML in a page is shown as text, except `<br>`, which cells of tables need; comments between blocks are left out.
"""

import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from itertools import chain, count
from typing import Final, NamedTuple

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

_NOT_IN_ANCHORS: Final = re.compile(r"[^\w -]")
_ANCHOR: Final = ' <a class="anchor" href="#{}" aria-label="Link to this section">#</a>'


class Section(NamedTuple):
    """A heading, and what is below it up to the next heading."""

    level: int
    anchor: str
    title: str
    """Text without markup."""
    text: str
    """Paragraphs, lists and tables without markup; code blocks are left out."""
    names: frozenset[str] = frozenset()
    """Code in the first column of tables, in lower case: what the rows explain."""


class Rendered(NamedTuple):
    """A page as HTML."""

    html: str
    sections: tuple[Section, ...]


def render(source: str, link: Callable[[str], str | None]) -> Rendered:
    """Return a page. `link` turns the target of a link into its `href`; None: only the text of the link is shown."""
    # Not shared: the rules of a parser are compiled at its first use, which another thread must not see half done.
    parser = MarkdownIt("commonmark", {"xhtmlOut": False}).enable("table")
    renderer = RendererHTML()
    shown: list[Token] = []
    sections: list[Section] = []
    for token in parser.parse(source):
        if token.type == "inline":
            token.children = list(_inline(token.children or [], link))
            words = " ".join(renderer.renderInlineAsText(token.children, parser.options, {}).split())
            if (heading := shown[-1]).type == "heading_open":
                level, anchor = int(heading.tag[1:]), _anchor(words, {section.anchor for section in sections})
                heading.attrs["id"] = anchor
                token.children += [_html(_ANCHOR.format(anchor))] if level > 1 else []
                sections.append(Section(level, anchor, words, ""))
            elif sections:
                section, is_first = sections[-1], [each.type for each in shown[-2:]] == ["tr_open", "td_open"]
                names = section.names | _code_in(token.children) if is_first else section.names
                sections[-1] = section._replace(text=f"{section.text} {words}".lstrip(), names=names)
        shown += _block(token)
    html = renderer.render(shown, parser.options, {})
    # A table's corner names no column: as a heading, it would be read aloud as an empty one.
    return Rendered(html.replace("<th></th>", "<td></td>"), tuple(sections))


def _block(token: Token) -> Iterator[Token]:
    """Yield what is shown of a block, or of the start or end of one."""
    if token.type == "html_block":
        token.type = "text"
        if token.content.startswith("<!--"):
            return
    elif token.type == "fence":
        # A box that scrolls must be reachable with the keyboard. The language of the code is not shown.
        token.type, token.attrs = "code_block", {"tabindex": 0}
    if token.type == "table_open":
        # It scrolls if it is wider than the screen, also with the keyboard.
        yield _html('<div class="wide" tabindex="0">')
    yield token
    if token.type == "table_close":
        yield _html("</div>")


def _inline(tokens: Sequence[Token], link: Callable[[str], str | None]) -> Iterator[Token]:
    """Yield what is shown of a text with markup."""
    href: str | None = None
    for token in tokens:
        if token.type == "link_open":
            href = link(str(token.attrs["href"]))
            token.attrs["href"] = href or ""
        elif token.type == "html_inline":
            token.type = "hardbreak" if token.content == "<br>" else "text"
        # The end of a link belongs to the last start: links contain no links.
        if token.tag != "a" or href is not None:
            yield token


def _code_in(tokens: Iterable[Token]) -> frozenset[str]:
    return frozenset(token.content.lower() for token in tokens if token.type == "code_inline")


def _anchor(title: str, taken: Container[str]) -> str:
    """Return the anchor of a heading: as on GitHub, with a number if an earlier heading has the same one."""
    base = _NOT_IN_ANCHORS.sub("", title.lower()).replace(" ", "-")
    numbered = (f"{base}-{number}" for number in count(1))
    return next(anchor for anchor in chain([base], numbered) if anchor not in taken)


def _html(content: str) -> Token:
    return Token("html_inline", "", 0, content=content)
