"""Markdown as the pages of the documentation use it."""

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from discue.api.guides.markdown import Section, render

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
REFERENCE = MarkdownIt("commonmark").enable("table")

_OURS = re.compile(r' id="[^"]*"| tabindex="0"| <a class="anchor".*?</a>|</?div[^>]*>')
_THEIRS = re.compile(r'<!--.*?-->| class="language-\w+"', re.DOTALL)


def html_of(source: str) -> str:
    return render(source, lambda target: target).html


def plain(html: str) -> str:
    """Return HTML without what has no meaning: space between elements, and how quotes are written."""
    spaced = re.sub(r"\s+", " ", html.replace("&#x27;", "'").replace("&quot;", '"'))
    return re.sub(r" ?(</?(?:p|h\d|ul|ol|li|pre|table|t[hdr]|thead|tbody)\b[^>]*>) ?", r"\1", spaced).strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_looks_as_another_implementation_shows_it(page: Path) -> None:
    source = page.read_text()
    assert plain(_OURS.sub("", html_of(source))) == plain(_THEIRS.sub("", REFERENCE.render(source)))


def test_html_and_scripts_in_a_page_are_text() -> None:
    assert html_of("a <script>alert(1)</script> `<b>` [x](javascript:'\")") == (
        '<p>a &lt;script&gt;alert(1)&lt;/script&gt; <code>&lt;b&gt;</code> <a href="javascript:&#x27;&quot;">x</a></p>'
    )


def test_link_to_something_that_is_not_served_is_text() -> None:
    assert render("See [the `code`](../x.py).", lambda _: None).html == "<p>See the <code>code</code>.</p>"


def test_sections_have_anchors_of_their_own_and_text_without_code_blocks() -> None:
    source = (
        "# A *title*\n\nOne `x`.\n\n## `GET` it\n\n```sh\ncurl\n```\n\n- a\n\n## GET it\n\n| a |\n| --- |\n| b<br>c |"
    )
    assert render(source, lambda target: target).sections == (
        Section(1, "a-title", "A title", "One x."),
        Section(2, "get-it", "GET it", "a"),
        Section(2, "get-it-1", "GET it", "a b c"),
    )
