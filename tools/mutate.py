"""Changes the domain one place at a time and asks its tests whether they notice: `python -m tools.mutate [--write]`.

A mutant is one small change: a comparison, an operator, a number, a returned value. It is caught if a test of
`tests/domain` that imports the module fails. Mutants are tried in a fixed order that mixes the modules, for as long
as `--minutes` says, with `--jobs` processes. Those caught so far are listed in `tests/domain/mutants.txt`; the run
fails if one of them survives. `--write` adds the newly caught ones to the list.
"""

import argparse
import ast
import hashlib
import importlib
import os
import signal
import sys
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import hypothesis
import pytest

ROOT: Final = Path(__file__).parent.parent
DOMAIN: Final = ROOT / "discue" / "domain"
TESTS: Final = ROOT / "tests" / "domain"
BASELINE: Final = TESTS / "mutants.txt"

_LONGEST_SECONDS: Final = 60
"""A mutant whose tests take longer counts as caught: it loops."""
_EXAMPLES: Final = 20
"""Examples of each property test. More would catch few more mutants, and take most of the time."""
_SWAPS: Final[dict[type[ast.AST], type[ast.AST]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
}
_NAMES: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}
_LIBRARIES: Final = ("cronsim", "httptools", "jsonschema_rs", "msgspec", "hypothesis.strategies")
"""Imported once, before the processes that try mutants are forked: no module of the program may be among them."""
_ANNOTATIONS: Final = frozenset({"annotation", "returns", "decorator_list", "type_params"})


class Mutant(NamedTuple):
    """A change of one place."""

    path: Path
    name: str
    """Names the mutant wherever its line moves: module, function, the change, and its number if there are several."""
    place: int
    """Which place of the module, in the order of `_places`."""


class _Place(NamedTuple):
    function: str
    node: ast.AST
    change: Callable[[], None]


def mutants_of(path: Path) -> Iterator[Mutant]:
    """List the mutants of a module."""
    numbers: Counter[str] = Counter()
    for index, (function, node, change) in enumerate(_places(_parsed(path), "")):
        before = ast.unparse(node)
        change()
        name = f"{_module(path)}:{function}: {_short(before)} -> {_short(ast.unparse(node))}"
        # The tree goes on changed; only the places themselves are taken from it, and their order stays.
        numbers[name] += 1
        yield Mutant(path, name if numbers[name] == 1 else f"{name} #{numbers[name]}", index)


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def _places(node: ast.AST, function: str) -> list[_Place]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        function = f"{function}.{node.name}".lstrip(".")
    places = [_Place(function, node, change) for change in _changes(node)] if function else []
    for name, value in ast.iter_fields(node):
        # What a class statement passes, such as `frozen=True`, is no rule.
        if name not in _ANNOTATIONS and not (name == "keywords" and isinstance(node, ast.ClassDef)):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    places += _places(child, function)
    return places


def _changes(node: ast.AST) -> Iterator[Callable[[], None]]:
    match node:
        case ast.Compare(ops=[operator]) if type(operator) in _SWAPS:
            yield lambda: setattr(node, "ops", [_SWAPS[type(operator)]()])
        case ast.BoolOp(op=operator) | ast.BinOp(op=operator) if type(operator) in _SWAPS:
            yield lambda: setattr(node, "op", _SWAPS[type(operator)]())
        case ast.Constant(value=bool() as value):
            yield lambda: setattr(node, "value", not value)
        case ast.Constant(value=int() as number):
            yield lambda: setattr(node, "value", number + 1)
        case ast.Call(func=ast.Name(id=name)) if name in _NAMES:
            yield lambda: setattr(node, "func", ast.Name(_NAMES[name], ast.Load()))
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield lambda: setattr(node, "value", ast.Constant(None))
        case ast.If(test=test) if not isinstance(test, ast.Compare):
            yield lambda: setattr(node, "test", ast.UnaryOp(ast.Not(), test))


def _short(text: str) -> str:
    first = text.partition("\n")[0]
    return first if len(first) <= 80 else first[:79] + "…"


def tests_of(path: Path) -> list[str]:
    """Return the test files of the domain that import a module, its own first: most mutants get no further."""
    text = f"from {_module(path)} import"
    files = [file for file in TESTS.rglob("test_*.py") if text in file.read_text(encoding="utf-8")]
    return [str(file) for file in sorted(files, key=lambda file: (file.stem != f"test_{path.stem}", file))]


def in_order() -> list[Mutant]:
    """Return all mutants of modules that have tests, in an order that does not depend on the modules."""
    paths = [path for path in sorted(DOMAIN.rglob("*.py")) if tests_of(path)]
    found = [mutant for path in paths for mutant in mutants_of(path)]
    return sorted(found, key=lambda mutant: hashlib.sha256(mutant.name.encode()).digest())


def _import_changed(mutant: Mutant) -> None:
    """Import the module of a mutant with its place changed, so that the tests find it imported."""
    tree = _parsed(mutant.path)
    _places(tree, "")[mutant.place].change()
    name = _module(mutant.path)
    module = types.ModuleType(name)
    sys.modules[name] = module
    package, _, attribute = name.rpartition(".")
    setattr(importlib.import_module(package), attribute, module)
    exec(compile(ast.fix_missing_locations(tree), mutant.path, "exec"), module.__dict__)  # noqa: S102 - the domain


def _test(files: Sequence[str], mutant: Mutant | None) -> int:
    """Run test files in a new process, with a changed module if there is a mutant; returns its id."""
    if pid := os.fork():
        return pid
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    code = 1
    try:
        if mutant is not None:
            signal.alarm(_LONGEST_SECONDS)
            _import_changed(mutant)
        # The domain is pure, so its tests need no fixtures and no plugins, which take longer to load than the tests.
        flags = ["-x", "-q", "--noconftest", "-p", "no:cacheprovider", f"--rootdir={ROOT}"]
        code = int(any(pytest.main([*flags, file]) for file in files))
    finally:
        os._exit(code)


def run(mutants: Sequence[Mutant], seconds: float, jobs: int) -> dict[str, bool]:
    """Try mutants until the time is up; returns for each that was tried whether it was caught."""
    ends_at = time.monotonic() + seconds
    waiting, running, results = list(reversed(mutants)), dict[int, Mutant](), dict[str, bool]()
    while running or (waiting and time.monotonic() < ends_at):
        while waiting and len(running) < jobs and time.monotonic() < ends_at:
            mutant = waiting.pop()
            running[_test(tests_of(mutant.path), mutant)] = mutant
        pid, status = os.wait()
        # A signal, too, is a failure: the tests ran for too long.
        results[running.pop(pid).name] = status != 0
    return results


def _baseline() -> list[str]:
    lines = BASELINE.read_text(encoding="utf-8").splitlines() if BASELINE.exists() else []
    return [line for line in lines if line and not line.startswith("#")]


def _write(caught: Sequence[str]) -> None:
    header = "# Mutants of discue/domain that its tests catch, as far as they were tried: `make mutate`.\n"
    BASELINE.write_text(header + "".join(f"{name}\n" for name in sorted(caught)), encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Try mutants and compare them with the list."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutate", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(arguments)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    for library in _LIBRARIES:
        importlib.import_module(library)
    hypothesis.settings.register_profile(
        "mutate",
        database=None,
        deadline=None,
        derandomize=True,
        max_examples=_EXAMPLES,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    hypothesis.settings.load_profile("mutate")
    known = set(_baseline())
    mutants = in_order()
    # What was caught before comes first: whether it still is, is the question. To find more, it comes last.
    mutants.sort(key=lambda mutant: (mutant.name in known) == options.write)
    _, status = os.waitpid(_test([str(TESTS)], None), 0)
    if status != 0:
        print("The tests fail without a mutant.")
        return 2
    results = run(mutants, options.minutes * 60, options.jobs)
    survived = sorted(name for name, is_caught in results.items() if not is_caught)
    print("\n".join(f"survived: {name}" for name in survived))
    caught = {name for name, is_caught in results.items() if is_caught}
    print(f"{len(caught)} of {len(results)} caught; there are {len(mutants)}.")
    if gone := known - {mutant.name for mutant in mutants}:
        print(f"{len(gone)} of the list do not exist any more.")
    lost = known.intersection(survived)
    if options.write:
        _write([*(known - lost), *(caught - known)])
        return 0
    print("".join(f"caught before: {name}\n" for name in sorted(lost)), end="")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
