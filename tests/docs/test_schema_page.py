"""The page about the schema names every table."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCHEMA = (ROOT / "discue" / "store" / "migrations" / "0001_schema.sql").read_text(encoding="utf-8")


def test_page_names_every_table() -> None:
    page = (ROOT / "docs" / "architecture" / "schema.md").read_text(encoding="utf-8")
    tables = re.findall(r"^CREATE TABLE (\w+)", SCHEMA, re.MULTILINE)
    groups = page[page.index("| group |") :].split("\n\n")[0]
    rows = groups.splitlines()
    named = set(re.findall(r"`(\w+)`", "\n".join(row.split("|")[2] for row in rows)))
    assert len(tables) > 30
    assert set(tables) | {"meta"} == named
