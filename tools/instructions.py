"""Counts the processor instructions that a message costs: `python -m tools.instructions [--against FOLDER]`.

A message is published, stored in SQLite, handed to its lane, sent by a sender that sends nothing, and settled. Valgrind
counts the instructions, so the figure is the same on a busy machine and on a quiet one, within about one percent: it
shows what a change adds to the hot path. It is no speed: waiting, caches and the network cost no instructions.
"""

import argparse
import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tools.running import Program, running, use_tree

ROOT: Final = Path(__file__).parent.parent

_FEW, _MANY = 320, 1_280
"""Messages of the two runs. What starting and stopping costs is in both, and not in their difference."""
_AT_ONCE: Final = 32
_COLLECTED: Final = re.compile(r"Collected : (\d+)")


def instructions_per_message(tree: Path) -> float:
    """Return how many instructions a message costs in the program of a folder."""
    return (_instructions(tree, _MANY) - _instructions(tree, _FEW)) / (_MANY - _FEW)


def _instructions(tree: Path, messages: int) -> int:
    program = (sys.executable, "-m", "tools.instructions", "--deliver", str(messages), "--tree", str(tree))
    with tempfile.TemporaryDirectory() as folder:
        ended = subprocess.run(
            ("valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/callgrind", *program),
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
    collected = _COLLECTED.search(ended.stderr)
    if ended.returncode != 0 or collected is None:
        raise RuntimeError(f"The program failed in {tree}:\n{ended.stderr}")
    return int(collected[1])


async def deliver(folder: Path, messages: int) -> None:
    """Publish messages with a database in a folder, and wait until each is sent."""
    async with running(folder) as program:
        queue = (await program.ask("POST", "/queues", {"alias": "orders"}))["queue"]["id"]
        urls = {"notify_url": "http://127.0.0.1:9/notify", "liveness_url": "http://127.0.0.1:9/live"}
        await program.ask("POST", f"/queues/{queue}/listeners", urls)
        for first in range(0, messages, _AT_ONCE):
            await _round(program, queue, range(first, first + _AT_ONCE))


async def _round(program: Program, queue: str, numbers: range) -> None:
    sent, all_sent = 0, asyncio.Event()

    def on_send() -> None:
        nonlocal sent
        sent += 1
        if sent == len(numbers):
            all_sent.set()

    program.sender.on_send = on_send
    orders = (program.ask("POST", f"/queues/{queue}/messages", {"data": {"order": number}}) for number in numbers)
    await asyncio.gather(*orders)
    await all_sent.wait()


def main(arguments: list[str]) -> int:
    """Print the figure, and its ratio to the one of another version."""
    parser = argparse.ArgumentParser(prog="python -m tools.instructions", description=__doc__)
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="folder with another version of the program")
    parser.add_argument("--deliver", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--tree", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.deliver is not None:
        use_tree(options.tree)
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(deliver(Path(folder), options.deliver))
        return 0
    if shutil.which("valgrind") is None:
        print("valgrind is missing: install it with the machine's package manager.", file=sys.stderr)
        return 1
    here = instructions_per_message(ROOT)
    print(f"{here:,.0f} instructions a message")
    if options.against is not None:
        there = instructions_per_message(options.against)
        print(f"{there:,.0f} in {options.against}; ratio {here / there:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
