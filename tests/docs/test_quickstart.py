import re
import socket
from pathlib import Path

from tests.cli.commands import running
from tests.docs.quickstart import PAGE, Block, Session, blocks, without_what_changes
from tests.support.ports import free_port

README = Path(__file__).parents[2] / "README.md"


def test_commands_of_the_quickstart_and_the_readme_work_as_pasted(tmp_path: Path) -> None:
    page = blocks(PAGE.read_text())
    assert [block.kind for block in page].count("run") >= 6
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        running(tmp_path, "dev", "--port", str(other.getsockname()[1])) as dev,
    ):
        dev.out.wait_for("is taken by another program: this server uses port")
        dev.out.wait_for('"orders"')
        session = Session(tmp_path, dev, free_port())
        try:
            for block in page:
                shown = session.play(block)
                assert without_what_changes(shown) == without_what_changes(block.text)
            publish, *_ = re.findall(r"^curl .*?(?=^```)", README.read_text(), re.MULTILINE | re.DOTALL)
            session.play(Block("run", "", publish))
            assert '"message":{"id":"' in session.play(Block("prints", "", ""))
            session.play(Block("dev", "", '15:58:51 demo → inbox, signature verified ✓  {"hello": "world"}'))
        finally:
            session.close()
        assert dev.stop() == 0
