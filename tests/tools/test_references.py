"""Names that lead nowhere or to two places. `make check` looks for them in the project."""

from pathlib import Path

from tools.references import duplicate_classes, paths, unused_constants


def test_path_and_link_on_a_page_must_exist(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("`store/engine.py`, `discue/store/`, `discue/*/engine.py`, `gone.py`, [a](gone.md), `/queues`")
    found = paths(page, ["discue/", "discue/store/", "discue/store/engine.py"])

    assert [hit.partition(": ")[2] for hit in found] == ["the link `gone.md` leads nowhere", "`gone.py` does not exist"]


def test_constant_that_nothing_reads_is_found() -> None:
    program = {"discue/module.py": "USED = 1\nUNUSED = 2\n_OWN = USED\nFAR: int = 3\n"}
    found = unused_constants(program, [*program.values(), "print(FAR)"])

    assert [hit.partition(": ")[2] for hit in found] == ["`UNUSED` is never read", "`_OWN` is never read"]


def test_class_that_two_modules_define_is_found() -> None:
    text = "class Queue: ...\nclass _Private: ...\n"

    assert list(duplicate_classes({"discue/a.py": text, "discue/b.py": text})) == [
        "discue/b.py: `Queue` is also defined in discue/a.py"
    ]
