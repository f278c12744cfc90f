"""The core starts, accepts messages and delivers them where nothing of the edge can be imported."""

import subprocess
import sys
from pathlib import Path

_EDGE = ("discue.backup", "discue.cli", "discue.dashboard", "discue.guides", "discue.product", "discue.testing")

_HIDING = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.startswith({edge!r}):
            raise ModuleNotFoundError(f"{{name}} is hidden")

sys.meta_path.insert(0, Hidden())
"""

_DELIVERING = """
import asyncio, json
from urllib.request import Request, urlopen
from discue.config.settings import Settings
from discue.control.encryption import ensure_encryption
from discue.control.organizations import ensure_operator
from discue.domain.clock import SystemClock
from discue.observability.logs import Log
from discue.server.http import Address
from discue.server.installation import open_installation
from discue.server.worker import Worker, served

async def main():
    received = asyncio.Event()

    async def listen(reader, writer):
        await reader.readuntil(b"\\r\\n\\r\\n")
        writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
        await writer.drain()
        writer.close()
        received.set()

    listener = await asyncio.start_server(listen, "127.0.0.1", 0)
    target = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    settings = Settings(port=0, database="sqlite:///" + sys.argv[1], allow_private_targets=True)
    clock, log = SystemClock(), Log()
    async with open_installation(settings, clock, log) as control:
        await ensure_encryption(control, log)
        _, key = await ensure_operator(control, settings.organization, None)
        async with served(Worker(control, log), Address("127.0.0.1", 0)) as server:
            def post(path, body):
                headers = {"X-API-KEY": key, "Content-Type": "application/json"}
                return json.load(urlopen(Request(server.address.url + path, json.dumps(body).encode(), headers)))

            await asyncio.to_thread(post, "/queues", {"alias": "orders"})
            await asyncio.to_thread(post, "/queues/orders/listeners", {"notify_url": target})
            await asyncio.to_thread(post, "/queues/orders/messages", {"data": {"order": 17}})
            async with asyncio.timeout(20):
                await received.wait()
    listener.close()

asyncio.run(main())
"""


def test_core_delivers_without_the_edge(tmp_path: Path) -> None:
    program = _HIDING.format(edge=_EDGE) + _DELIVERING
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "discue.db")], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_import_of_the_edge_fails_while_it_is_hidden() -> None:
    program = _HIDING.format(edge=_EDGE) + "import discue.product"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "discue.product is hidden" in result.stderr
