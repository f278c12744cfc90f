"""The commands of docs/portal.md, as pasted, and what their sessions show."""

import re
from pathlib import Path

import httpx

from tests.cli.commands import PATIENCE_SECONDS, running
from tests.docs.quickstart import Session, blocks, without_what_changes
from tests.support.ports import free_port

PAGE = Path(__file__).parents[2] / "docs" / "portal.md"


def test_commands_of_the_page_open_the_portal_for_the_queue_of_the_customer(tmp_path: Path) -> None:
    page = blocks(PAGE.read_text())
    assert [block.kind for block in page].count("run") == 8
    with running(tmp_path, "dev", "--port", "0") as dev:
        dev.out.wait_for('"orders"')
        session, urls = Session(tmp_path, dev, free_port()), list[str]()
        try:
            for block in page:
                shown = session.play(block)
                assert without_what_changes(shown) == without_what_changes(block.text)
                urls += re.findall(r'"url":"([^"]*)"', shown) if block.kind == "prints" else []
            with httpx.Client(timeout=PATIENCE_SECONDS, follow_redirects=True) as browser:
                opened = browser.get(urls[0])
                assert opened.status_code == 200, opened.text
                # The endpoint in the shared queue is not in the session for the customer's queues.
                assert ("No endpoints yet" in opened.text, "Add an endpoint" in opened.text) == (True, True)
                types = browser.get(f"{str(opened.url).rstrip('/')}/event-types").text
                assert ">order.paid</h2>" in types
        finally:
            session.close()
        assert dev.stop() == 0
