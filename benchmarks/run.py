"""One run: every measure in its turn, one table at the end."""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.bench import FULL, QUICK, Bench
from benchmarks.cores import two_cores
from benchmarks.failure import BenchmarkFailed, TimeUp
from benchmarks.machine import description
from benchmarks.measures import (
    backlog,
    backup,
    cluster_backlog,
    commands,
    control_plane,
    customers,
    dashboard,
    delays,
    fanout,
    filters,
    first_delivery,
    growth,
    idle,
    isolation,
    kit,
    latency,
    listen,
    metrics,
    ordering,
    origins,
    overload,
    postgres,
    pulls,
    python_client,
    pythons,
    rate_limit,
    recovery,
    sizing,
    takeover,
    throughput,
    traces,
    transports,
    unpinned,
    wake,
    workers,
)
from benchmarks.neighbours import QUIET, Neighbours
from benchmarks.table import Row, at_most, markdown

RESULTS = Path(__file__).with_name("RESULTS.md")
MEASURES = (
    "throughput",
    "transports",
    "unpinned",
    "control-plane",
    "dashboard",
    "fanout",
    "growth",
    "customers",
    "filters",
    "latency",
    "first-delivery",
    "origins",
    "overload",
    "backlog",
    "backup",
    "recovery",
    "isolation",
    "ordering",
    "delays",
    "pulls",
    "listen",
    "metrics",
    "traces",
    "commands",
    "python-client",
    "sizing",
    "pythons",
    "test-kit",
    "postgres",
    "workers",
    "takeover",
    "wake",
    "rate-limit",
    "cluster-backlog",
    "idle",
)

_LONGEST_SECONDS = 3_600
_DISK_BACKED = "/var/tmp"  # noqa: S108 - a folder of our own is made in it


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """What a run was asked for. Exits with 2 for what makes no sense."""
    parser = argparse.ArgumentParser(
        prog="make bench", description="Measure the product on two cores of this machine, in at most an hour."
    )
    parser.add_argument("--quick", action="store_true", help="few repetitions: whether it works, not how fast it is")
    parser.add_argument(
        "--only", nargs="+", choices=MEASURES, default=MEASURES, metavar="MEASURE", help=", ".join(MEASURES)
    )
    parser.add_argument("--folder", type=Path, default=Path(_DISK_BACKED), help="where the databases are made")
    parser.add_argument("--output", type=Path, help=f"where the table is written, besides a whole run's {RESULTS.name}")
    return parser.parse_args(given)


def destination(asked: argparse.Namespace) -> Path | None:
    """Only a whole run replaces the results that are kept."""
    whole = not asked.quick and set(asked.only) == set(MEASURES)
    return asked.output or (RESULTS if whole else None)


class Run:
    """Keeps what was found, so that a run which is cut short still shows it."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._end_to_end_rate: float | None = None
        self.rows: list[Row] = []
        self.broken = False
        self._measures: dict[str, Callable[[], list[Row]]] = {
            "throughput": self._throughput,
            "transports": lambda: transports.measure(bench),
            "unpinned": lambda: unpinned.measure(bench),
            "control-plane": lambda: control_plane.measure(bench),
            "dashboard": lambda: dashboard.measure(bench),
            "fanout": lambda: fanout.measure(bench),
            "growth": lambda: growth.measure(bench),
            "customers": lambda: customers.measure(bench),
            "filters": lambda: filters.measure(bench),
            "latency": lambda: latency.measure(bench),
            "first-delivery": lambda: first_delivery.measure(bench),
            "origins": lambda: origins.measure(bench),
            "overload": lambda: overload.measure(bench),
            "backlog": self._backlog,
            "backup": lambda: backup.measure(bench),
            "recovery": lambda: recovery.measure(bench),
            "isolation": lambda: isolation.measure(bench),
            "ordering": lambda: ordering.measure(bench),
            "delays": lambda: delays.measure(bench),
            "pulls": lambda: pulls.measure(bench),
            "listen": lambda: listen.measure(bench),
            "metrics": lambda: metrics.measure(bench),
            "traces": lambda: traces.measure(bench),
            "commands": lambda: commands.measure(bench),
            "python-client": lambda: python_client.measure(bench),
            "sizing": lambda: sizing.measure(bench),
            "pythons": lambda: pythons.measure(bench),
            "test-kit": lambda: kit.measure(bench),
            "postgres": lambda: postgres.measure(bench),
            "workers": lambda: workers.measure(bench),
            "takeover": lambda: takeover.measure(bench),
            "wake": lambda: wake.measure(bench),
            "rate-limit": lambda: rate_limit.measure(bench),
            "cluster-backlog": lambda: cluster_backlog.measure(bench),
            "idle": lambda: idle.measure(bench),
        }

    def measure(self, name: str) -> None:
        """Raises TimeUp; anything else that fails is a line of the table."""
        print(f"{time.strftime('%H:%M:%S')} measuring {name} …", file=sys.stderr, flush=True)
        try:
            self.rows += self._measures[name]()
        except TimeUp:
            self._broke(name, "not measured: time was up")
            raise
        except (BenchmarkFailed, OSError) as error:
            self._broke(name, str(error))

    def _broke(self, name: str, why: str) -> None:
        self.broken = True
        self.rows.append(Row(name, why, "", met=False))

    def _throughput(self) -> list[Row]:
        found, rows = throughput.measure(self._bench)
        self._end_to_end_rate = found.end_to_end.rate
        return rows

    def _backlog(self) -> list[Row]:
        if self._end_to_end_rate is None:
            self._throughput()
        assert self._end_to_end_rate is not None
        return backlog.measure(self._bench, self._end_to_end_rate)


def main(given: Sequence[str] | None = None) -> int:
    """0 when everything was measured, whatever the numbers are."""
    asked = arguments(sys.argv[1:] if given is None else given)
    _stop_in_time()
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="discue-bench-", dir=asked.folder) as folder:
            run = _run(Path(folder), asked)
    except BenchmarkFailed as error:
        print(error, file=sys.stderr)
        return 1
    text = _report(run.rows, asked, time.monotonic() - began)
    print(text)
    output = destination(asked)
    if output is not None:
        output.write_text(text)
    return int(run.broken)


def _run(folder: Path, asked: argparse.Namespace) -> Run:
    cores = two_cores()
    os.sched_setaffinity(0, {cores[1]})
    neighbours = Neighbours(cores)
    bench = Bench(folder, cores, QUICK if asked.quick else FULL)
    run = Run(bench)
    with bench:
        try:
            for name in asked.only:
                run.measure(name)
        except TimeUp as error:
            print(error, file=sys.stderr)
    run.rows.append(at_most("other programs, of both cores", neighbours.share() * 100, QUIET * 100, " %"))
    return run


def _stop_in_time() -> None:
    """Whoever asks us to stop, and the clock: what was started is ended on the way out."""

    def time_up(_number: int, _frame: object) -> None:
        raise TimeUp("The run took too long and was stopped.")

    signal.signal(signal.SIGALRM, time_up)
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))
    signal.alarm(_LONGEST_SECONDS)


def _report(rows: Sequence[Row], asked: argparse.Namespace, seconds: float) -> str:
    machine = "".join(f"- {name}: {value}\n" for name, value in description(asked.folder).items())
    kind = "A quick run: too short for conclusions." if asked.quick else "A full run."
    return (
        "# Results of the benchmarks\n\n"
        f"{kind} It took {seconds / 60:.1f} minutes. `docs/benchmarks.md` says what is measured and what is noise.\n\n"
        f"{machine}\n{markdown(rows)}"
    )


if __name__ == "__main__":
    sys.exit(main())
