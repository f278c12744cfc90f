"""Closed-loop load: by `wrk` with one request in flight on each connection, or by `h2load` over HTTP/2 with several."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.failure import BenchmarkFailed

_SCRIPT = Path(__file__).parent / "scripts" / "post.lua"
_GRACE_SECONDS = 30
_STREAMS = 16
"""Requests in flight on each connection of HTTP/2."""
_H2LOAD = re.compile(r"finished in ([0-9.]+)s.*status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", re.DOTALL)


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

    `counting` looks at each answer; `once` sends an idempotency key with each request. Requests go to `paths` in turn,
    if given, instead of the path of `url`.
    """

    url: str
    body: bytes
    key: str = "-"
    connections: int = 64
    counting: bool = False
    once: bool = False
    paths: tuple[str, ...] = ()


class Loads:
    """Runs loads on given cores, one at a time."""

    def __init__(self, folder: Path, *cores: int) -> None:
        self._body = folder / "body.json"
        self._paths = folder / "paths.txt"
        self._pinned = ["taskset", "--cpu-list", ",".join(map(str, cores))]

    def run(self, load: Load, seconds: int) -> Answers:
        """Raises BenchmarkFailed when answers are lost, and unless `counting`, when one is not 200."""
        done = self._done(load, seconds, self._wrk(load, seconds))
        if done.returncode != 0 or b"\n{" not in done.stdout:
            raise BenchmarkFailed(f"wrk failed: {(done.stderr or done.stdout).decode()}")
        answers = msgspec.json.decode(b"{" + done.stdout.rpartition(b"\n{")[2], type=Answers)
        if answers.lost or (answers.not_fine and not load.counting):
            raise BenchmarkFailed(f"{load.url} did not answer as it should: {answers}")
        return answers

    def run_http2(self, load: Load, seconds: int) -> tuple[int, float]:
        """Run over HTTP/2, with 16 requests at once on each connection. Returns the number of requests and the time.

        Raises BenchmarkFailed when a response is not 200.
        """
        done = self._done(load, seconds, self._h2load(load, seconds))
        found = _H2LOAD.search(done.stdout.decode())
        if found is None or found.groups()[2:] != ("0", "0", "0"):
            raise BenchmarkFailed(f"{load.url} over HTTP/2: {(done.stderr or done.stdout).decode()}")
        return int(found[2]), float(found[1])

    def _done(self, load: Load, seconds: int, command: Sequence[str]) -> "subprocess.CompletedProcess[bytes]":
        self._body.write_bytes(load.body)
        try:
            return subprocess.run(
                [*self._pinned, *command], capture_output=True, check=False, timeout=seconds + _GRACE_SECONDS
            )
        except OSError as error:
            raise BenchmarkFailed(f"{command[0]} is needed.") from error

    def _wrk(self, load: Load, seconds: int) -> list[str]:
        wrk = ["wrk", "--threads", "1", "--timeout", "20s"]
        wrk += ["--connections", str(load.connections), "--duration", f"{seconds}s", "--script", str(_SCRIPT)]
        wanted = [word for word, is_wanted in (("count", load.counting), ("once", load.once)) if is_wanted]
        if load.paths:
            self._paths.write_text("\n".join(load.paths))
            wanted.append(str(self._paths))
        return [*wrk, load.url, "--", str(self._body), load.key, *wanted]

    def _h2load(self, load: Load, seconds: int) -> list[str]:
        h2load = ["h2load", "--clients", str(load.connections), "--max-concurrent-streams", str(_STREAMS)]
        h2load += ["--duration", str(seconds), "--warm-up-time", "0", "--data", str(self._body)]
        return [*h2load, "-H", f"x-api-key: {load.key}", "-H", "content-type: application/json", load.url]
