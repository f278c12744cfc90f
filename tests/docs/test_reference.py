"""The API reference: its examples run, and it covers every operation."""

import re
from pathlib import Path

import pytest

from discue.product import ROUTES
from tests.cli.commands import running
from tests.docs.quickstart import Session, blocks, without_what_changes
from tests.support.ports import free_port

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = DOCS / "reference"
INDEX = REFERENCE / "README.md"
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def pages_with_examples() -> list[Path]:
    """Return the pages with examples. The index is first: it contains the file that the others import."""
    others = sorted(page for page in REFERENCE.glob("*.md") if page != INDEX and blocks(page.read_text()))
    return [INDEX, *others]


@pytest.mark.torture
def test_examples_of_the_reference_print_what_the_pages_show(tmp_path: Path) -> None:
    with running(tmp_path, "dev", "--port", "0") as dev:
        dev.out.wait_for('"orders"')
        session = Session(tmp_path, dev, free_port(), has_fixed_url=True)
        try:
            for page in pages_with_examples():
                for block in blocks(page.read_text()):
                    shown = session.play(block)
                    assert without_what_changes(shown) == without_what_changes(block.text), page.name
        finally:
            session.close()
        assert dev.stop() == 0


def test_index_links_to_every_page() -> None:
    assert {page.name for page in REFERENCE.glob("*.md")} - set(_LINK.findall(INDEX.read_text())) == {"README.md"}


def test_every_operation_is_on_a_page() -> None:
    text = "".join(page.read_text() for page in REFERENCE.glob("*.md"))
    missing = {f"{method} {route.path}" for route in ROUTES for method in route.methods}
    assert sorted(name for name in missing if f"`{name}`" not in text and name.partition(" ")[2] not in text) == []
