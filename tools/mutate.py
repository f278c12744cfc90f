"""Changes the domain one place at a time and asks its tests whether they notice: `python -m tools.mutate [--write]`.

A mutant is one small change: a comparison, an operator, a number, a returned value. It is caught if a test of
`tests/domain` that imports the module fails. Mutants are tried in a fixed order that mixes the modules, for as long
as `--minutes` says, with `--jobs` processes. Those caught so far are listed in `tests/domain/mutants.txt`; the run
fails if one of them survives. `--write` adds the newly caught ones to the list.
"""

import argparse
import ast
import contextlib
import hashlib
import importlib.abc
import importlib.machinery
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).parent.parent
DOMAIN: Final = ROOT / "discue" / "domain"
TESTS: Final = ROOT / "tests" / "domain"
BASELINE: Final = TESTS / "mutants.txt"

_LONGEST_SECONDS: Final = 60
"""A mutant whose tests take longer counts as caught: it loops."""
_BROKEN: Final = 99
"""The exit code of a process that could not start pytest."""
_RESULTS: Final = frozenset({pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED})
"""Exit codes that say whether tests failed. A module that cannot be imported interrupts the collection."""
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
_LIBRARIES: Final = ("apsw", "asyncpg", "cronsim", "cryptography", "httptools", "httpx", "jsonschema_rs")
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
    tree = ast.parse(path.read_text(encoding="utf-8"))
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for index, (function, node, change) in enumerate(_places(tree)):
        before = ast.unparse(node)
        change()
        name = f"{module}:{function}: {_short(before)} -> {_short(ast.unparse(node))}"
        # The tree goes on changed; only the places themselves are taken from it, and their order stays.
        numbers[name] += 1
        yield Mutant(path, name if numbers[name] == 1 else f"{name} #{numbers[name]}", index)


def mutated(path: Path, index: int) -> ast.Module:
    """Return the tree of a module with one place changed."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    place = next(place for at, place in enumerate(_places(tree)) if at == index)
    place.change()
    return ast.fix_missing_locations(tree)


def _places(tree: ast.Module) -> list[_Place]:
    places: list[_Place] = []
    _collect(tree, "", places)
    return places


def _collect(node: ast.AST, function: str, places: list[_Place]) -> None:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        function = f"{function}.{node.name}".lstrip(".")
    if function:
        places.extend(_Place(function, node, change) for change in _changes(node))
    for name, value in ast.iter_fields(node):
        if name not in _ANNOTATIONS:
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    _collect(child, function, places)


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


class _Finder(importlib.abc.MetaPathFinder):
    """Loads one module from a changed tree."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        self._name = ".".join(mutant.path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")

    def find_spec(self, name: str, _path: object, _target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name != self._name:
            return None
        is_package = self._mutant.path.name == "__init__.py"
        loader = _Loader(name, str(self._mutant.path), self._mutant.place)
        specification = importlib.machinery.ModuleSpec(
            name, loader, origin=str(self._mutant.path), is_package=is_package
        )
        if is_package:
            specification.submodule_search_locations = [str(self._mutant.path.parent)]
        return specification


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, index: int) -> None:
        super().__init__(name, path)
        self._index = index

    def get_code(self, _name: str) -> CodeType:
        tree = mutated(Path(self.path), self._index)
        code: CodeType = compile(tree, self.path, "exec", dont_inherit=True)
        return code


def tests_of(path: Path) -> list[str]:
    """Return the test files of the domain that import a module."""
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    package, _, name = module.rpartition(".")
    imports = (f"from {module} import", f"import {module}", f"from {package} import {name}")
    files = [file for file in sorted(TESTS.rglob("test_*.py")) if any(text in file.read_text() for text in imports)]
    return [str(file) for file in files]


def in_order() -> list[Mutant]:
    """Return all mutants of modules that have tests, in an order that does not depend on the modules."""
    paths = [path for path in sorted(DOMAIN.rglob("*.py")) if tests_of(path)]
    found = [mutant for path in paths for mutant in mutants_of(path)]
    return sorted(found, key=lambda mutant: hashlib.sha256(mutant.name.encode()).digest())


def _test(files: Sequence[str], mutant: Mutant | None) -> int:
    """Run test files in a new process, with a changed module if there is a mutant; returns its id."""
    pid = os.fork()
    if pid:
        return pid
    with contextlib.suppress(BaseException):
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        if mutant is not None:
            signal.alarm(_LONGEST_SECONDS)
            sys.meta_path.insert(0, _Finder(mutant))
        flags = ["-x", "-q", "--no-header", "-p", "no:cacheprovider", "--hypothesis-seed=0", "-n", "0"]
        os._exit(pytest.main([*flags, f"--rootdir={ROOT}", *files]))
    os._exit(_BROKEN)


def _fails(files: Sequence[str]) -> bool:
    """Return whether tests fail without a mutant: they would catch everything."""
    _, status = os.waitpid(_test(files, None), 0)
    return status != 0


def run(mutants: Sequence[Mutant], seconds: float, jobs: int) -> dict[str, bool]:
    """Try mutants until the time is up; returns for each that was tried whether it was caught."""
    ends_at = time.monotonic() + seconds
    waiting, running, results = list(reversed(mutants)), dict[int, Mutant](), dict[str, bool]()
    while running or (waiting and time.monotonic() < ends_at):
        while waiting and len(running) < jobs and time.monotonic() < ends_at:
            mutant = waiting.pop()
            running[_test(tests_of(mutant.path), mutant)] = mutant
        pid, status = os.wait()
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) not in _RESULTS:
            raise RuntimeError(f"the tests of {running[pid].name} could not be run")
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
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(arguments)
    for library in _LIBRARIES:
        importlib.import_module(library)
    known = set(_baseline())
    mutants = in_order()
    # What was caught before comes first: whether it still is, is the question.
    mutants.sort(key=lambda mutant: mutant.name not in known and not options.write)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = folder
        if _fails([str(TESTS)]):
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
