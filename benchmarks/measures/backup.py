"""How much does a backup of a large database delay publishes?"""

from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.bench import Bench
from benchmarks.failure import BenchmarkFailed
from benchmarks.measures.latency import RATE
from benchmarks.product import Product, Queue
from benchmarks.table import Row, at_most, seen

_PAIRS = 3
_OF_QUIET = 2.0
_MIB = 2**20
_GIGABYTE = 2
"""A million messages take half of it."""


def measure(bench: Bench) -> list[Row]:
    """Two servers on one file in turn: one makes a backup all the time, the other makes none.

    A backup is made by another process, so both have both cores.
    """
    cores = (bench.server_core, bench.load_core)
    with bench.product("backup") as product:
        queue = product.queue()
    bench.fill("backup", queue.id, _GIGABYTE * bench.effort.waiting)
    size = (bench.folder / "backup.db").stat().st_size / _MIB
    folder = bench.folder / "backups"
    folder.mkdir()
    quiet, during = [], []
    for _ in range(_PAIRS):
        with bench.product("backup", cores=cores) as product:
            quiet.append(_p99(bench, product, queue))
        with bench.product("backup", cores=cores, settings={"backup_to": str(folder), "backup_every": 1.0}) as product:
            during.append(_p99(bench, product, queue))
            if not any(_parts(folder)):
                raise BenchmarkFailed("No backup was made meanwhile.")
    name = f"publish at {RATE:,}/s during a backup of {size:,.0f} MiB, p99"
    ratios = [mine / theirs for mine, theirs in zip(during, quiet, strict=True)]
    return [
        seen(name, f"{_shown(during)} ms; quiet {_shown(quiet)} ms"),
        at_most(f"{name} ÷ quiet", median(ratios), _OF_QUIET),
    ]


def _p99(bench: Bench, product: Product, queue: Queue) -> float:
    """An open loop, as in the measure of latencies."""
    with bench.open_loop() as ends:
        listener = product.listener(queue, f"http://127.0.0.1:{ends.hear()['port']}/")
        ends.tell(
            {
                "ports": [product.port],
                "paths": [queue.messages],
                "key": bench.key,
                "rate": RATE,
                "seconds": bench.effort.latency_seconds,
            }
        )
        answers = ends.hear()["answers"]
        product.change(listener, status="disabled")
    return float(answers["p99"])


def _parts(folder: Path) -> Iterator[Path]:
    """Backups, and those that are being made."""
    yield from folder.iterdir()
    yield from folder.parent.glob("backup.db.backup-copy")


def _shown(values: list[float]) -> str:
    return " · ".join(f"{value:.1f}" for value in values)
