"""Markdown to HTML: as much of CommonMark, with tables, as the pages of the documentation use.

The pages are part of the program. Their text is escaped, and HTML in them is dropped, except `<br>`.
"""

import html
import re
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

Lines = deque[str]

_FENCE: Final = "```"
_COMMENT: Final = re.compile(r"<!--.*")
_HEADING: Final = re.compile(r"(#{1,6}) +(.+)")
_DIVIDER: Final = re.compile(r"\|(?: *:?-+:? *\|)+")
_CELL_END: Final = re.compile(r"(?<!\\)\|")
_BULLET: Final = re.compile(r"[-*] +")
_NUMBER: Final = re.compile(r"\d+\. +")
_INLINE: Final = re.compile(
    r"`(?P<code>[^`]+)`"
    r"|\[(?P<text>(?:`[^`]*`|[^\]`])*)\]\((?P<target>[^)\s]*)\)"
    r"|\*\*(?P<strong>(?:`[^`]*`|[^`])+?)\*\*"
    r"|\*(?P<emphasis>[^*`\s](?:[^*`]*[^*`\s])?)\*"
    r"|(?P<newline><br>)"
)
_TAG: Final = re.compile(r"<[^>]*>")
_NOT_IN_ANCHORS: Final = re.compile(r"[^\w -]")


class Section(NamedTuple):
    """A heading, and what is below it up to the next heading."""

    level: int
    anchor: str
    title: str
    """Text without markup."""
    text: str
    """Paragraphs, lists and tables without markup; code blocks are left out."""


class Rendered(NamedTuple):
    """A page as HTML."""

    html: str
    sections: tuple[Section, ...]


def render(source: str, link: Callable[[str], str | None]) -> Rendered:
    """Return a page. `link` turns the target of a link into its `href`; None: only the text of the link is shown."""
    renderer = _Renderer(link)
    content = renderer.blocks(deque(source.splitlines()))
    return Rendered(content, renderer.sections())


class _Renderer:
    def __init__(self, link: Callable[[str], str | None]) -> None:
        self._link = link
        self._headings: list[tuple[int, str, str]] = []
        self._texts: list[list[str]] = [[]]
        """The texts below each heading; the first entry is for those above all of them."""

    def sections(self) -> tuple[Section, ...]:
        return tuple(
            Section(*heading, " ".join(texts)) for heading, texts in zip(self._headings, self._texts[1:], strict=True)
        )

    def blocks(self, lines: Lines, *, tight: bool = False) -> str:
        """Return the lines, which are used up, as HTML. In a `tight` list item, a paragraph has no element."""
        found = []
        while lines:
            line = lines[0]
            if not line.strip():
                lines.popleft()
            elif line.startswith("<!--"):
                _skip_comment(lines)
            elif line.startswith(_FENCE):
                found.append(_code(lines))
            elif heading := _HEADING.fullmatch(line):
                lines.popleft()
                found.append(self._heading(len(heading[1]), heading[2]))
            elif line.startswith("|") and len(lines) > 1 and _DIVIDER.fullmatch(lines[1].rstrip()):
                found.append(self._table(lines))
            elif marker := _BULLET.match(line) or _NUMBER.match(line):
                found.append(self._list(lines, _BULLET if marker.re is _BULLET else _NUMBER))
            else:
                content = self._inline(_paragraph(lines))
                found.append(content if tight else f"<p>{content}</p>")
        return "".join(found)

    def _heading(self, level: int, source: str) -> str:
        content = self._inline(source, is_heading=True)
        anchor = base = _NOT_IN_ANCHORS.sub("", source.lower()).replace(" ", "-")
        taken = {anchor for _, anchor, _ in self._headings}
        number = 0
        while anchor in taken:
            number += 1
            anchor = f"{base}-{number}"
        self._headings.append((level, anchor, _plain(content)))
        self._texts.append([])
        link = f' <a class="anchor" href="#{anchor}" aria-label="Link to this section">#</a>' if level > 1 else ""
        return f'<h{level} id="{anchor}">{content}{link}</h{level}>'

    def _table(self, lines: Lines) -> str:
        head = self._row(lines.popleft(), "th")
        lines.popleft()
        rows = []
        while lines and lines[0].startswith("|"):
            rows.append(self._row(lines.popleft(), "td"))
        body = f"<tbody>{''.join(rows)}</tbody>" if rows else ""
        return f'<div class="wide"><table><thead>{head}</thead>{body}</table></div>'

    def _row(self, line: str, element: str) -> str:
        cells = _CELL_END.split(line.strip()[1:-1])
        shown = (self._inline(cell.strip().replace("\\|", "|")) for cell in cells)
        return f"<tr>{''.join(f'<{element}>{cell}</{element}>' for cell in shown)}</tr>"

    def _list(self, lines: Lines, marker: re.Pattern[str]) -> str:
        items = []
        while lines and (found := marker.match(lines[0])):
            width = found.end()
            item = deque([lines.popleft()[width:]])
            # Lines that are indented as far as the text of the item belong to it.
            while lines and (lines[0][:width].strip() == "" if lines[0].strip() else _goes_on(lines, width)):
                item.append(lines.popleft()[width:])
            items.append(item)
            # Items with empty lines between them are one list.
            while lines and not lines[0].strip() and marker.match(_following(lines)):
                item.append(lines.popleft())
        is_tight = all(line.strip() for item in items for line in item)
        element = "ul" if marker is _BULLET else "ol"
        content = "".join(f"<li>{self.blocks(item, tight=is_tight)}</li>" for item in items)
        return f"<{element}>{content}</{element}>"

    def _inline(self, source: str, *, is_heading: bool = False) -> str:
        content = self._marked_up(source)
        if not is_heading:
            self._texts[-1].append(_plain(content))
        return content

    def _marked_up(self, source: str) -> str:
        parts, at = [], 0
        for found in _INLINE.finditer(source):
            parts += [_escaped(source[at : found.start()]), self._element(found)]
            at = found.end()
        return "".join([*parts, _escaped(source[at:])])

    def _element(self, found: re.Match[str]) -> str:
        match found.lastgroup:
            case "code":
                return f"<code>{_escaped(found['code'].strip())}</code>"
            case "strong" | "emphasis" as name:
                element = "strong" if name == "strong" else "em"
                return f"<{element}>{self._marked_up(found[name])}</{element}>"
            case "newline":
                return "<br>"
        shown, href = self._marked_up(found["text"]), self._link(found["target"])
        return shown if href is None else f'<a href="{_escaped(href)}">{shown}</a>'


def _skip_comment(lines: Lines) -> None:
    while "-->" not in lines.popleft() and lines:
        pass


def _code(lines: Lines) -> str:
    lines.popleft()
    code = []
    while lines and (line := lines.popleft()) != _FENCE:
        code.append(line)
    # A box that scrolls must be reachable with the keyboard.
    return f'<pre tabindex="0"><code>{_escaped(chr(10).join(code))}\n</code></pre>'


def _paragraph(lines: Lines) -> str:
    """Remove and return the lines up to the next block, as one."""
    found = [lines.popleft().strip()]
    while lines and lines[0].strip() and not _ends_paragraph(lines[0]):
        found.append(lines.popleft().strip())
    return " ".join(found)


def _ends_paragraph(line: str) -> bool:
    # Of numbered lists, only one that starts at 1 does: a line may begin with another number by chance.
    return line.startswith((_FENCE, "<!--", "#", "1. ")) or _BULLET.match(line) is not None


def _goes_on(lines: Lines, width: int) -> bool:
    """Return whether a list item goes on after its empty lines."""
    following = _following(lines)
    return following[:width].strip() == "" and following != ""


def _following(lines: Lines) -> str:
    """Return the next line that is not empty; "" if there is none."""
    return next((line for line in lines if line.strip()), "")


def _escaped(text: str) -> str:
    return html.escape(text)


def _plain(content: str) -> str:
    return html.unescape(_TAG.sub("", content.replace("<br>", " "))).strip()
