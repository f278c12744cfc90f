"""Closed-loop load by `wrk`: so many connections, each with one request under way."""

import subprocess
from pathlib import Path

import msgspec

from benchmarks.failure import BenchmarkFailed

_SCRIPT = Path(__file__).parent / "scripts" / "post.lua"
_GRACE_SECONDS = 30


class Answers(msgspec.Struct, frozen=True):
    """What a load saw. The last four are counted on demand; `unexplained` are `503` without Retry-After."""

    requests: int
    seconds: float
    not_fine: int
    lost: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    answered: int
    refused: int
    unexplained: int
    other: int


class Load(msgspec.Struct, frozen=True):
    """Posts `body` to `url` for whole seconds, or gets it if there is none.

    `counting` looks at each answer; `once` sends an idempotency key with each request.
    """

    url: str
    body: bytes
    key: str = "-"
    connections: int = 64
    counting: bool = False
    once: bool = False


class Loads:
    """Runs loads on one core, one at a time."""

    def __init__(self, folder: Path, core: int) -> None:
        self._body = folder / "body.json"
        self._core = core

    def run(self, load: Load, seconds: int) -> Answers:
        """Raises BenchmarkFailed when answers are lost, and unless `counting`, when one is not 200."""
        self._body.write_bytes(load.body)
        done = subprocess.run(
            self._command(load, seconds), capture_output=True, check=False, timeout=seconds + _GRACE_SECONDS
        )
        if done.returncode != 0 or b"\n{" not in done.stdout:
            raise BenchmarkFailed(f"wrk failed: {(done.stderr or done.stdout).decode()}")
        answers = msgspec.json.decode(b"{" + done.stdout.rpartition(b"\n{")[2], type=Answers)
        if answers.lost or (answers.not_fine and not load.counting):
            raise BenchmarkFailed(f"{load.url} did not answer as it should: {answers}")
        return answers

    def _command(self, load: Load, seconds: int) -> list[str]:
        wrk = ["taskset", "--cpu-list", str(self._core), "wrk", "--threads", "1", "--timeout", "20s"]
        wrk += ["--connections", str(load.connections), "--duration", f"{seconds}s", "--script", str(_SCRIPT)]
        wanted = [word for word, is_wanted in (("count", load.counting), ("once", load.once)) if is_wanted]
        return [*wrk, load.url, "--", str(self._body), load.key, *wanted]
