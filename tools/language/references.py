"""The rules for the project as a whole: duplicate and unused names, layers, the glossary, and paths on pages."""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tools.language.hit import Hit
from tools.language.source import Source

_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PATH: Final = re.compile(
    r"`((?:\.?[A-Za-z0-9_*-]+/)*\.?[A-Za-z0-9_*.-]+(?:\.(?:py|sql|md|toml|txt|in|json|ya?ml)|/))`"
)
_LINK: Final = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)[^)]*\)")
_ROOTED: Final = re.compile(r"`((?:discue|docs|tests|tools|benchmarks|clients|deploy|requirements|\.ci)/[^`\s{}]*)`")
_OTHERS: Final = frozenset({"discue.toml", "app.py", "config.toml", "orders.py", "test_app.py"})
"""Files of users that pages name."""


def duplicate_classes(sources: Mapping[str, Source]) -> Iterator[Hit]:
    """Find public classes of `discue/` with one name."""
    places: dict[str, list[tuple[str, int]]] = {}
    for path, source in sources.items():
        for line, name in source.classes:
            places.setdefault(name, []).append((path, line))
    for name, found in sorted(places.items()):
        for path, line in found[1:]:
            yield Hit(path, line, "duplicate-class", f"`{name}` is also defined in {found[0][0]}")


def unused_constants(sources: Mapping[str, Source], all_python: Mapping[str, str]) -> Iterator[Hit]:
    """Find constants of modules that nothing reads."""
    words = Counter(word for text in all_python.values() for word in _WORD.findall(text))
    definitions = Counter(name for source in sources.values() for _, name in source.constants)
    for path, source in sources.items():
        own = Counter(_WORD.findall(all_python[path]))
        for line, name in source.constants:
            used = own[name] > 1 or (not name.startswith("_") and words[name] > definitions[name])
            if not used and words[name] <= definitions[name]:
                yield Hit(path, line, "unused-constant", f"`{name}` is never read")


def layers(root: Path) -> Iterator[Hit]:
    """Compare the layers of the import contract with the packages of `discue/`."""
    contracts = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    contract = next(one for one in contracts if one["type"] == "layers" and one.get("containers") == ["discue"])
    named = {name for layer in contract["layers"] for name in re.findall(r"[a-z_]+", layer)} - {"__main__"}
    packages = {init.parent.name for init in (root / "discue").glob("*/__init__.py")}
    modules = {path.stem for path in (root / "discue").glob("*.py")} - {"__init__", "__main__"}
    for name in sorted(named - packages):
        yield Hit("pyproject.toml", 1, "layers", f"the layer `{name}` is no package of discue/")
    for name in sorted(packages - named):
        yield Hit("pyproject.toml", 1, "layers", f"the package `{name}` is in no layer")
    for name in sorted(modules):
        yield Hit(f"discue/{name}.py", 1, "layers", "a module outside of all packages")
    if not contract.get("exhaustive"):
        yield Hit("pyproject.toml", 1, "layers", "the contract of layers is not exhaustive")
    if any("(" in layer for layer in contract["layers"]):
        yield Hit("pyproject.toml", 1, "layers", "a layer is optional")


def glossary(root: Path, code: Mapping[str, str]) -> Iterator[Hit]:
    """Find words of the glossary that neither the code nor the contract pages have.

    Of an entry with a name of the code in parentheses, that name must be there.
    """
    path = "docs/glossary.md"
    contract = [page.read_text(encoding="utf-8") for page in sorted((root / "docs" / "reference").glob("*.md"))]
    text = re.sub(r"[_\W]+", " ", _CAMEL.sub(" ", " ".join([*code.values(), *contract]))).lower()
    for number, line in enumerate((root / path).read_text(encoding="utf-8").splitlines(), 1):
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 4 or cells[1] in {"word", "---", "term"} or set(cells[1]) <= {"-", " ", ":"}:
            continue
        words, _, code_name = cells[1].partition(" (`")
        terms = [code_name.partition("`")[0]] if code_name else re.split(r",\s*|\s+/\s+", re.sub(r"[`*]", "", words))
        for term in terms:
            pattern = re.sub(r"[_\W]+", " ", _CAMEL.sub(" ", term)).strip().lower()
            if pattern and not re.search(rf"\b{re.escape(pattern)}", text):
                yield Hit(path, number, "glossary", f"`{term}` is neither in the code nor in docs/reference/")


def paths(root: Path, page: str, content: str, files: frozenset[str]) -> Iterator[Hit]:
    """Find paths and links on a page that lead nowhere. A path may leave out its first folders."""
    for number, line in enumerate(content.splitlines(), 1):
        for target in _LINK.findall(line):
            if not (root / page).parent.joinpath(target).exists():
                yield Hit(page, number, "path", f"the link `{target}` leads nowhere")
        for target in {*_PATH.findall(line), *_ROOTED.findall(line)}:
            if target not in _OTHERS and not target.startswith("/") and not _exists(target, files):
                yield Hit(page, number, "path", f"`{target}` does not exist")


def _exists(target: str, files: frozenset[str]) -> bool:
    regex = re.escape(target).replace(r"\*", "[^/]*")
    pattern = re.compile(rf"(?:^|/){regex}" + ("" if target.endswith("/") else "(?:/|$)"))
    return any(pattern.search(file) for file in files)
