"""Markdown with links, anchors and sections as the pages of the documentation need them."""

import subprocess
import sys

from discue.guides.markdown import Section, render


def html_of(source: str) -> str:
    return render(source, lambda target: target).html.strip()


def test_html_in_a_page_is_text_except_line_breaks() -> None:
    assert html_of("a <script>alert(1)</script> `<b>`<br>c") == (
        "<p>a &lt;script&gt;alert(1)&lt;/script&gt; <code>&lt;b&gt;</code><br>\nc</p>"
    )
    assert html_of("<script>\nalert(1)\n</script>") == "&lt;script&gt;\nalert(1)\n&lt;/script&gt;"
    assert html_of("```<b>\n<b>\n```") == '<pre tabindex="0"><code>&lt;b&gt;\n</code></pre>'


def test_comment_is_not_shown() -> None:
    assert html_of("<!-- run\n- - - -->\n\na") == "<p>a</p>"


def test_link_has_the_target_that_it_is_given_and_no_script() -> None:
    assert (
        render("[a](b.md#c)", lambda target: f"../{target}?\"'").html == '<p><a href="../b.md#c?&quot;\'">a</a></p>\n'
    )
    assert html_of("[x](javascript:alert(1))") == "<p>[x](javascript:alert(1))</p>"


def test_link_to_something_that_is_not_served_is_text() -> None:
    def served(target: str) -> str | None:
        return target if target == "y" else None

    assert render("See [the `code`](../x.py) [y](y) [z](z).", served).html == (
        '<p>See the <code>code</code> <a href="y">y</a> z.</p>\n'
    )


def test_sections_have_anchors_of_their_own_and_text_without_code_blocks() -> None:
    source = (
        "# A *title*\n\nOne `x`\n[more](y).\n\n## `GET` it\n\n```sh\ncurl\n```\n\n- a\n\n## GET it\n\n"
        "| a |\n| --- |\n| b<br>c |\n\n## GET it"
    )
    rendered = render(source, lambda target: target)
    assert rendered.sections == (
        Section(1, "a-title", "A title", "One x more."),
        Section(2, "get-it", "GET it", "a"),
        Section(2, "get-it-1", "GET it", "a b c"),
        Section(2, "get-it-2", "GET it", ""),
    )
    assert [f'<h2 id="{each.anchor}">' in rendered.html for each in rendered.sections[1:]] == [True, True, True]
    assert rendered.html.startswith('<h1 id="a-title">A <em>title</em></h1>')


def test_wide_table_scrolls_in_a_box() -> None:
    assert html_of("| a |\n| - |").startswith('<div class="wide" tabindex="0"><table>')
    assert html_of("| a |\n| - |").endswith("</table>\n</div>")


def test_program_starts_without_the_parser() -> None:
    """Imports take a large part of the time of a command."""
    script = "import sys, discue.cli.serve, discue.server.worker; sys.exit('markdown_it' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
