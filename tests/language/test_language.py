"""The rules of language, names and references. `make check` applies them to the project."""

from pathlib import Path

import pytest

from tools.language import references, rules
from tools.language.source import read_source


def hits_of(folder: Path, text: str, *, is_test: bool = False) -> list[str]:
    path = folder / "module.py"
    path.write_text(text, encoding="utf-8")
    return [hit.rule for hit in rules.source_hits("discue/module.py", read_source(path), is_test=is_test)]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('"""The same, for others."""', "opening"),
        ('"""Of several workers one."""', "opening"),
        ('"""What is known of a caller."""', "opening"),
        ('class C:\n    """One that sends."""', "opening"),
        ('LIMIT = 1\n"""As many as fit."""', "opening"),
        ('def f():\n    """The row, or None."""', "opening"),
        ("# It is under way.", "phrase"),
        ("x = 1  # read anew", "phrase"),
        ('raise E("Somebody else keeps house.")', "phrase"),
        ('raise E(f"{name} is another one.")', "phrase"),
        ('"""Counts guests."""', "word"),
        ("def look_for_guests(): ...", "identifier"),
        ("class Turnstile: ...", "identifier"),
        ("self._surroundings = 1", "identifier"),
        ("def f(incarnation): ...", "identifier"),
    ],
)
def test_banned_text_is_found(tmp_path: Path, text: str, rule: str) -> None:
    assert rule in hits_of(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        'def f():\n    """Whether the lane is idle."""',
        'def f():\n    """Return the row, or None."""',
        'class C:\n    @property\n    def f(self):\n        """The row, or None."""',
        '"""Requests in flight."""',
        'LIMIT = 1\n"""Most requests in flight."""',
        "_SQL = 'SELECT incarnation FROM worker WHERE house = 1'",
        "def look_up(): ...",
        "class QuotaGate: ...",
    ],
)
def test_plain_text_is_accepted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "module.py"
    path.write_text(text, encoding="utf-8")
    found = [hit.rule for hit in rules.source_hits("discue/module.py", read_source(path), is_test=False)]

    assert [rule for rule in found if "QuotaGate" not in text] == []


@pytest.mark.parametrize(
    "name", ["test_what_is_rendered_is_read_back", "test_nobody_waits", "test_lane_keeps_its_guests", "test_it_works"]
)
def test_vague_test_name_is_found(tmp_path: Path, name: str) -> None:
    assert hits_of(tmp_path, f"def {name}(): ...", is_test=True) == ["test-name"]


def test_code_on_a_page_is_no_text() -> None:
    page = "It is `under way`.\n\n```python\n# under way\n```\n"

    assert list(rules.page_hits("docs/page.md", page)) == []


def test_phrase_over_two_lines_of_a_page_is_found() -> None:
    (hit,) = rules.page_hits("docs/page.md", "# Title\n\nA request that is under\nway ends.\n")

    assert (hit.line, hit.rule) == (3, "phrase")


def test_path_and_link_on_a_page_must_exist(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    files = frozenset({"discue/", "discue/store/", "discue/store/engine.py"})
    page = "`store/engine.py`, `discue/store/`, `discue/*/engine.py`, `gone.py`, [a](gone.md), `/queues`"

    found = [hit.text for hit in references.paths(tmp_path, "docs/page.md", page, files)]

    assert found == ["the link `gone.md` leads nowhere", "`gone.py` does not exist"]


def test_constant_that_nothing_reads_is_found(tmp_path: Path) -> None:
    text = "USED = 1\nUNUSED = 2\n_OWN = USED\n"
    path = tmp_path / "module.py"
    path.write_text(text, encoding="utf-8")

    found = references.unused_constants({"discue/module.py": read_source(path)}, {"discue/module.py": text})

    assert [hit.text for hit in found] == ["`UNUSED` is never read", "`_OWN` is never read"]


def test_class_that_two_modules_define_is_found(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("class Queue: ...\nclass _Private: ...\n", encoding="utf-8")
    source = read_source(path)

    (hit,) = references.duplicate_classes({"discue/a.py": source, "discue/b.py": source})

    assert hit.path == "discue/b.py"


def test_raised_texts_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text('raise E("The file is missing.")\nx = "No error here."\n', encoding="utf-8")

    assert [text.is_error for text in read_source(path).texts] == [True, False]
