"""Print names that lead nowhere or to two places: `python -m tools.references`. The exit code is 1 if there are any.

They are paths and links on pages, words of the glossary, constants that nothing reads, and public classes with one
name.
"""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]

_CODE: Final = ("discue", "docs", "tests", "tools", "benchmarks", "clients", "examples")
_PAGES: Final = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**/*.md", "examples/**/*.md")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CLASS: Final = re.compile(r"^class ([A-Z]\w*)", re.MULTILINE)
_CONSTANT: Final = re.compile(r"_?[A-Z][A-Z0-9_]*")
_PATH: Final = re.compile(
    r"`((?:\.?[A-Za-z0-9_*-]+/)*\.?[A-Za-z0-9_*.-]+(?:\.(?:py|sql|md|toml|txt|in|json|ya?ml)|/))`"
)
_ROOTED: Final = re.compile(r"`((?:discue|docs|tests|tools|benchmarks|clients|deploy|requirements|\.ci)/[^`\s{}]*)`")
_LINK: Final = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)[^)]*\)")
_OF_USERS: Final = frozenset({"discue.toml", "app.py", "config.toml", "orders.py", "test_app.py", ".discue/"})
"""Files of users that pages name."""


def duplicate_classes(program: Mapping[str, str]) -> Iterator[str]:
    """Find public classes of the program with one name. `program` has the texts of its files by path."""
    first: dict[str, str] = {}
    for path, text in program.items():
        for name in _CLASS.findall(text):
            if first.setdefault(name, path) != path:
                yield f"{path}: `{name}` is also defined in {first[name]}"


def unused_constants(program: Mapping[str, str], texts: Iterable[str]) -> Iterator[str]:
    """Find constants of modules that nothing reads, in the texts of all files."""
    words = Counter(word for text in texts for word in _WORD.findall(text))
    constants = {path: _constants(text) for path, text in program.items()}
    definitions = Counter(name for names in constants.values() for name in names)
    for path, names in constants.items():
        own = Counter(_WORD.findall(program[path]))
        for name in names:
            if own[name] == 1 and (name.startswith("_") or words[name] == definitions[name]):
                yield f"{path}: `{name}` is never read"


def _constants(text: str) -> list[str]:
    """Return the names in upper case that a module assigns."""
    assigned = [node for node in ast.parse(text).body if isinstance(node, ast.Assign | ast.AnnAssign)]
    stored = [node for each in assigned for node in ast.walk(each) if isinstance(node, ast.Name)]
    return [node.id for node in stored if isinstance(node.ctx, ast.Store) and _CONSTANT.fullmatch(node.id)]


def glossary(program: Mapping[str, str]) -> Iterator[str]:
    """Find words of the glossary that neither the code nor the contract pages have.

    Of an entry with a name of the code in parentheses, that name must be there.
    """
    contract = [page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs" / "reference").glob("*.md"))]
    text = _plain(" ".join([*program.values(), *contract]))
    for number, line in enumerate((ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").splitlines(), 1):
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 4 or cells[1] in {"word", "term"} or set(cells[1]) <= {"-", " ", ":"}:
            continue
        words, _, name = cells[1].partition(" (`")
        for term in [name.partition("`")[0]] if name else re.split(r",\s*|\s+/\s+", re.sub(r"[`*]", "", words)):
            plain = _plain(term).strip()
            if plain and not re.search(rf"\b{re.escape(plain)}", text):
                yield f"docs/glossary.md:{number}: `{term}` is neither in the code nor in docs/reference/"


def _plain(text: str) -> str:
    return re.sub(r"[_\W]+", " ", _CAMEL.sub(" ", text)).lower()


def paths(page: Path, files: Iterable[str]) -> Iterator[str]:
    """Find paths and links on a page that lead nowhere. A path may leave out its first folders."""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        for target in _LINK.findall(line):
            if not page.parent.joinpath(target).exists():
                yield f"{page}:{number}: the link `{target}` leads nowhere"
        for target in sorted({*_PATH.findall(line), *_ROOTED.findall(line)} - _OF_USERS):
            if not _exists(target, files):
                yield f"{page}:{number}: `{target}` does not exist"


def _exists(target: str, files: Iterable[str]) -> bool:
    regex = re.escape(target).replace(r"\*", "[^/]*")
    pattern = re.compile(rf"(?:^|/){regex}" + ("" if target.endswith("/") else "(?:/|$)"))
    return any(pattern.search(file) for file in files)


def main() -> int:
    python = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for top in _CODE
        for path in sorted((ROOT / top).rglob("*.py"))
    }
    program = {path: text for path, text in python.items() if path.startswith("discue/")}
    tops = (*_CODE, "requirements", "deploy", ".ci")
    found = [*ROOT.glob("*"), *(path for top in tops for path in (ROOT / top).rglob("*"))]
    files = [path.relative_to(ROOT).as_posix() + ("/" if path.is_dir() else "") for path in found]
    hits = [*duplicate_classes(program), *unused_constants(program, python.values()), *glossary(program)]
    hits += [hit for pattern in _PAGES for page in sorted(ROOT.glob(pattern)) for hit in paths(page, files)]
    print("\n".join([*hits, f"{len(hits)} names lead nowhere or to two places"]))
    return 1 if hits else 0


if __name__ == "__main__":
    sys.exit(main())
