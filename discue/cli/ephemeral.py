"""`discue dev --ephemeral`: a server for the tests of programs in any language."""

import dataclasses
import tempfile
from pathlib import Path

import uvloop

from discue import __version__
from discue.cli.command import Invocation
from discue.cli.output import say, say_json
from discue.cli.serve import until_stopped
from discue.server.process import prepare_process
from discue.server.signals import stop_on_signal


def run(invocation: Invocation) -> None:
    """Serve a new database until a signal comes. Raises SettingsInvalid if the port is in use."""
    prepare_process()
    settings = dataclasses.replace(invocation.settings, role="all")
    with tempfile.TemporaryDirectory(prefix="discue-") as folder:
        uvloop.run(_serve(dataclasses.replace(invocation, settings=settings), Path(folder)))


async def _serve(invocation: Invocation, folder: Path) -> None:
    # Imported here: other commands do without it.
    from discue.testing.ephemeral import ephemeral  # noqa: PLC0415

    stop = stop_on_signal(invocation.log)
    async with ephemeral(invocation.settings, folder, invocation.log) as server:
        if invocation.arguments.json:
            say_json({"url": server.url, "api_key": server.key})
        else:
            say(f"discue {__version__} is ready at {server.url} with the API key {server.key}. Press Ctrl-C to stop.")
        await until_stopped(stop, server)
