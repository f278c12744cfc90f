"""The diagrams of states on the architecture pages are those of the code."""

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest

import discue.dispatch

ROOT = Path(__file__).parents[2]
PAGES = sorted(chain((ROOT / "docs").glob("*.md"), (ROOT / "docs" / "architecture").glob("*.md")))
DELIVERY = "States of a delivery"
TABLES = {
    DELIVERY: "DELIVERY_TRANSITIONS",
    "States of a lane": "LANE_TRANSITIONS",
    "Circuit breaker": "BREAKER_TRANSITIONS",
    "Check of the store": "CHECK_TRANSITIONS",
    "States of a lease": "LEASE_TRANSITIONS",
}
"""The transition table of each diagram, by the heading above it."""
FROM_ANY_STATE = "From any state, "
"""Begins the sentence on a page that names transitions which a diagram leaves out."""

Table = Mapping[Enum, frozenset[Enum]]


class Diagram(NamedTuple):
    """A diagram of states, with the text that follows it up to the next heading."""

    states: frozenset[str]
    transitions: frozenset[tuple[str, str]]
    text: str


def diagrams() -> Iterator[tuple[str, Diagram]]:
    """Yield the diagrams of all pages with the headings above them."""
    for page in PAGES:
        for section in re.split(r"^#+ ", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
            for block in re.finditer(r"```mermaid\nstateDiagram-v2\n(.*?)```", section, flags=re.DOTALL):
                found = re.findall(r"^\s*(\S+) --> (\w+|\[\*\])", block[1], flags=re.MULTILINE)
                transitions = frozenset((start, end) for start, end in found if "[*]" not in (start, end))
                states = frozenset(chain.from_iterable(found)) - {"[*]"}
                yield section.partition("\n")[0], Diagram(states, transitions, section[block.end() :])


def tables() -> dict[str, Table]:
    """Return the transition tables of the code by their names."""
    names = [module.name for module in pkgutil.walk_packages(discue.dispatch.__path__, "discue.dispatch.")]
    modules = map(importlib.import_module, names)
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if name.endswith("_TRANSITIONS") and isinstance(value, Mapping)
    }


DIAGRAMS = dict(diagrams())


def test_each_diagram_has_a_table_and_each_table_a_diagram() -> None:
    assert DIAGRAMS.keys() == TABLES.keys()
    assert tables().keys() == set(TABLES.values())


@pytest.mark.parametrize("heading", TABLES)
def test_diagram_has_the_states_and_transitions_of_its_table(heading: str) -> None:
    diagram, table = DIAGRAMS[heading], tables()[TABLES[heading]]
    states = {state.name.lower() for state in type(next(iter(table)))}
    transitions = {(start.name.lower(), end.name.lower()) for start, ends in table.items() for end in ends}

    assert diagram.states == states
    assert diagram.transitions <= transitions
    assert {end for _, end in transitions - diagram.transitions} <= reachable_from_any(diagram)


def reachable_from_any(diagram: Diagram) -> set[str]:
    """Return the states that the text below a diagram says can follow any other."""
    _, _, rest = " ".join(diagram.text.split()).partition(FROM_ANY_STATE)
    return set(re.findall(r"`(\w+)`", re.split(r"[;.]", rest, maxsplit=1)[0]))


@pytest.mark.parametrize("name", sorted(tables()))
def test_transition_table_has_an_entry_for_each_state_and_each_can_be_reached(name: str) -> None:
    table = tables()[name]
    first, *others = type(next(iter(table)))

    assert table.keys() == {first, *others}
    assert {first, *others} >= set().union(*table.values()) >= set(others)


def test_states_of_a_delivery_are_stored_as_the_page_says() -> None:
    diagram = DIAGRAMS[DELIVERY]
    rows = [line.split("|")[1:3] for line in diagram.text.splitlines() if line.startswith("| ")][2:]
    described = {name.strip().replace(" ", "_") for names, _ in rows for name in names.split(",")}
    stored = {state for _, text in rows for state in re.findall(r"row `(\w+)`|; `(\w+)` once", text) for state in state}
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "discue" / "store").rglob("*.py"))

    assert described == diagram.states
    assert [state for state in stored - {""} if f"'{state}'" not in code and f'"{state}"' not in code] == []
