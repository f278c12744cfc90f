from pathlib import Path

from tests.cli.commands import running
from tests.docs.quickstart import PAGE, Session, blocks, without_what_changes
from tests.support.ports import free_port


def test_quickstart_commands_print_what_the_page_shows(tmp_path: Path) -> None:
    page = blocks(PAGE.read_text())
    assert [block.kind for block in page].count("run") >= 6
    with running(tmp_path, "dev", "--port", "0") as dev:
        dev.out.wait_for('"orders"')
        session = Session(tmp_path, dev, free_port())
        try:
            for block in page:
                shown = session.play(block)
                assert without_what_changes(shown) == without_what_changes(block.text)
        finally:
            session.close()
        assert dev.stop() == 0
