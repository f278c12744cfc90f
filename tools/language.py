"""Print vague wording in code and on pages: `python -m tools.language`. The exit code is 1 if it finds any.

Phrases are searched in pages, comments and strings; the others are rules for docstrings and names of tests.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]

_PHRASES: Final[dict[str, str]] = {
    r"the same,": "name the subject",
    r"(?<![\w,;:] )of which": "name the subject",
    r"who(?:m)?ever": "name the subject",
    r"anew": "again",
    r"beside": "next to; in addition to",
    r"under way": "in flight; running",
    r"without a word": "silently; without a response",
    r"(?:is|are|was|were|be) another ones?": "changed; differs",
    r"(?:has|have|had|having) to do with": "concerns",
    r"(?:brought|brings?|bringing) about": "caused",
    r"became of": "the outcome of; the state of",
    r"(?:has|have|had) no wish to": "does not want to",
    r"what (?:is|was|are|were) (?:not )?there": "name the thing that exists",
    r"of (?:theirs|ours|yours|his|hers)": "name the owner",
    r"whose turn": "next",
    r"(?:keeps?|keeping|kept) house|housekeep(?:er|ing)": "runs on the leader",
    r"takes?n? (?:itself|themselves) for": "assumes that it is",
    r"(?:(?<=[.!?] )|^)(?:one that|so (?:many|much|long)|since when|those (?!\w+s )\w+)": "name the subject first",
    r"guests?|incarnations?|turnstiles?": "a word of the dictionary",
}
"""Regular expressions of whole words, each with what to write instead. `^` is the start of a text."""
_COMPILED: Final = [
    (re.compile(rf"(?<![\w'’-])(?:{regex})(?![\w-])", re.IGNORECASE), advice) for regex, advice in _PHRASES.items()
]
_ANY_PHRASE: Final = re.compile("|".join(f"(?:{pattern.pattern})" for pattern, _ in _COMPILED), re.IGNORECASE)
_OPENING: Final = re.compile(
    r"(?:Of|As|One|Those|Its|And|The same|What|Which|Who|Whose|Whom|Whoever|Whatever|Why|Where|That|So|Or|But|Such"
    r"|Their|Else|Also|Nor|Because|There|Since when|At whose|For whom|For which|To whom|With which)\b(?![-'’])"
)
_FUNCTION_OPENING: Final = re.compile(
    r"(?:The|A|An|All|Each|Every|No|Nothing|Everything|It|They|He|This|These|Both|Only|Until|After|Before|In|On|At|By|To"
    r"|From|With|Without|For|How|When|Some|Something|Somebody|Nobody|Anything|Another|Other|None|Not|Now)\b(?![-'’])"
)
_TEST_NAME: Final = re.compile(
    r"test_(?:what|who|whom|whose|whoever|which|those|it|its|he|they|one_that|the_same|of|as|nothing|nobody|somebody"
    r"|something|everything|where|that|so|and|there|this|here|else|whatever)_|test_[a-z]+$"
)
_PROPERTIES: Final = {"property", "cached_property", "fixture", "setter"}
_CODE: Final = re.compile(r"(?ms:^ *(```|~~~).*?^ *\1)|``[^`]+``|`[^`\n]+`|\]\([^)]*\)|<[a-z/][^>]*>|https?://\S+")
_COMMENTS: Final = re.compile(r"(?m:^ *#.*\n)+|(?<=  )#.*")
_PARAGRAPHS: Final = re.compile(r"\n\s*\n|\n(?=\s*(?:[|#>]|[-*] |\d+\. ))|(?<= )\|(?= )")
_CHECKED: Final = ("discue", "docs", "tests", "clients", "examples", "README.md", "CHANGELOG.md", "CONTRIBUTING.md")
_SKIPPED: Final = (
    # Generated from the OpenAPI document and from the async half, whose texts are checked.
    "clients/python/discue_client/_async/resources.py",
    "clients/python/discue_client/_sync/",
    "clients/python/discue_client/models.py",
    "clients/typescript/node_modules/",
    # Contains examples of all rules.
    "tests/tools/test_language.py",
)


class Hit(NamedTuple):
    """A place that breaks a rule, and what to write instead."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


def hits_in(path: str, content: str) -> Iterator[Hit]:
    """Check a file of Python or a page of Markdown."""
    if path.endswith(".md"):
        for line, text in _paragraphs(content):
            yield from _phrases(path, line, text)
    else:
        yield from _hits_in_python(path, content)


def _hits_in_python(path: str, content: str) -> Iterator[Hit]:
    is_test = path.startswith("tests/")
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _phrases(path, node.lineno, _CODE.sub(_blank, node.value))
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            needs_verb = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _is_property(node)
            yield from _openings(path, node.body, needs_verb=needs_verb and not is_test)
            name = getattr(node, "name", "")
            if is_test and _TEST_NAME.match(name):
                yield Hit(path, node.body[0].lineno - 1, f"`{name}`: name the subject first, and state a fact")
    for found in _COMMENTS.finditer(content):
        text = re.sub(r"\n? *#:? ?", " ", found[0])
        yield from _phrases(path, content.count("\n", 0, found.start()) + 1, _CODE.sub(_blank, text))


def _is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(name.id in _PROPERTIES for each in node.decorator_list for name in _names(each))


def _names(decorator: ast.expr) -> Iterator[ast.Name]:
    for node in ast.walk(decorator):
        if isinstance(node, ast.Name):
            yield node
        elif isinstance(node, ast.Attribute):
            yield ast.Name(node.attr)


def _openings(path: str, body: list[ast.stmt], *, needs_verb: bool) -> Iterator[Hit]:
    """Check how the docstring of a module, class or function begins, and those of its fields."""
    for at, statement in enumerate(body):
        match statement:
            case ast.Expr(value=ast.Constant(value=str() as text)):
                if found := _OPENING.match(text.strip()):
                    yield Hit(path, statement.lineno, f'a docstring does not begin with "{found[0]}"')
                elif at == 0 and needs_verb and _FUNCTION_OPENING.match(text.strip()):
                    yield Hit(path, statement.lineno, "the docstring of a function begins with a verb")


def _phrases(path: str, line: int, text: str) -> Iterator[Hit]:
    flat = " ".join(text.split())
    if not _ANY_PHRASE.search(flat):
        return
    for pattern, advice in _COMPILED:
        for found in pattern.finditer(flat):
            around = flat[max(0, found.start() - 30) : found.end() + 30]
            yield Hit(path, line, f'"{found[0]}" in "{around}": {advice}')


def _paragraphs(content: str) -> Iterator[tuple[int, str]]:
    """Yield the paragraphs, list items and table cells of a page with their first lines, without code."""
    text = _CODE.sub(lambda found: re.sub(r"[^\n]", "x", found[0]), content)
    line = 1
    for paragraph in re.split(rf"({_PARAGRAPHS.pattern})", text):
        begin = len(paragraph) - len(paragraph.lstrip())
        yield line + paragraph.count("\n", 0, begin), paragraph.lstrip(" \n#>*-0123456789.|")
        line += paragraph.count("\n")


def _blank(found: re.Match[str]) -> str:
    return "x" * len(found[0])


def _checked_files() -> Iterator[tuple[str, str]]:
    """Yield the relative paths of all files that are checked, with their content."""
    for top in _CHECKED:
        place = ROOT / top
        for file in [place] if place.is_file() else sorted(place.rglob("*")):
            path = file.relative_to(ROOT).as_posix()
            if file.suffix in {".py", ".md"} and not path.startswith(_SKIPPED):
                yield path, file.read_text(encoding="utf-8")


def main() -> int:
    hits = {hit for path, content in _checked_files() for hit in hits_in(path, content)}
    print("\n".join([*map(str, sorted(hits)), f"{len(hits)} hits"]))
    return 1 if hits else 0


if __name__ == "__main__":
    sys.exit(main())
