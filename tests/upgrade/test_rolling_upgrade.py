"""The previous version of the program is replaced by this one under load, and comes back, and nothing is lost.

The clients of the load try again what is not answered, or is answered with `503` and `Retry-After`. Any other refusal
fails the run, and so does every message that is lost or sent twice.
"""

import json
import random
import zipfile
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from discue import __version__
from tests.faults.conftest import Tell
from tests.faults.fleet import LEASE_SECONDS, Fleet, fleet_of
from tests.faults.history import History
from tests.faults.load import Load
from tests.faults.plan import LoadPlan, Site
from tests.faults.product import Product
from tests.faults.receiver import Receiver
from tests.faults.recorder import Recorder
from tests.faults.running import MAX_IN_FLIGHT, TIMEOUT_SECONDS, checked, new_seed, run_under_load
from tests.faults.stocktaking import take_stock
from tests.support.postgres.cluster import Cluster
from tests.support.postgres.fixtures import new_database

(WHEEL,) = (Path(__file__).parent / "previous").glob("*.whl")
PREVIOUS = WHEEL.name.split("-")[1]
"""The version of the program in the wheel."""

LOAD = LoadPlan(
    queues=1,
    producers=4,
    batch_producers=1,
    listeners=("steady", "slow", "lossy", "picky"),
    pause_seconds=0.2,
    brief_listeners=2,
    ordered_producers=1,
    pullers=1,
    deletes=True,
)
LIMITS: dict[str, Any] = {
    "listener_max_in_flight": MAX_IN_FLIGHT,
    "delivery_timeout_seconds": TIMEOUT_SECONDS,
    "drain_timeout_seconds": 10,
}
_MOST_OWED = 2_000
_EVENTS_OF_A_VERSION = 1_000
_PATIENCE_SECONDS = 30.0
_LONGEST_SECONDS = 240.0

pytestmark = [pytest.mark.torture, pytest.mark.xdist_group("upgrade")]


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the previous version of the program."""
    folder = tmp_path_factory.mktemp("previous")
    with zipfile.ZipFile(WHEEL) as archive:
        archive.extractall(folder)
    return folder


async def under_load(site: Site, work: Callable[[Load], Coroutine[Any, Any, None]], history: History) -> None:
    """Run `work` under load, then let everything arrive."""
    choices = random.Random(new_seed())  # noqa: S311 - choices that can be made again
    load = Load(LOAD, site, Recorder(history, _MOST_OWED), choices)
    async with Receiver(load.respond, load.probed, keep=False) as receiver:
        await load.prepare(receiver.url)
        await run_under_load(load, work(load), _PATIENCE_SECONDS)
        await load.until_nothing_waits(_PATIENCE_SECONDS)


async def upgrade_one_process(database: Path, previous: Path, history: History) -> list[str]:
    """Replace a server on SQLite by the next version, by the previous one, and by the next one again."""

    async def work(load: Load) -> None:
        for program in (None, previous, None):
            await load.recorder.until_more(_EVENTS_OF_A_VERSION)
            with load.recorder.fault("change of version"):
                assert await product.stop() == 0, "".join(product.lines)
                product.program = program
                await product.start()
        await load.recorder.until_more(_EVENTS_OF_A_VERSION)

    product = Product(database, **LIMITS)
    product.program = previous
    async with product:
        await under_load(product, work, history)
        assert await product.stop() == 0, "".join(product.lines)
    await take_stock(f"sqlite:///{product.database}", history)
    return versions_in(product.lines)


async def upgrade_worker_by_worker(
    folder: Path, cluster: Cluster, database: str, previous: Path, history: History
) -> list[str]:
    """Replace two workers on PostgreSQL one after another: by the next version, the previous one, and the next one."""

    async def work(load: Load) -> None:
        for program in (None, previous, None):
            for worker in fleet.members:
                await load.recorder.until_more(_EVENTS_OF_A_VERSION)
                # It touches no worker: nothing may be repeated, and no message may wait.
                with load.recorder.fault("change of version", ()):
                    assert await worker.product.stop() == 0, "".join(worker.product.lines)
                    worker.product.program = program
                    await worker.start()
                    await worker.until_ready()
        await load.recorder.until_more(_EVENTS_OF_A_VERSION)

    fleet = Fleet(folder, [cluster.port], database.rpartition("/")[2], workers=2, lease_seconds=LEASE_SECONDS, **LIMITS)
    fleet.program = previous
    async with fleet_of(fleet):
        await under_load(fleet, work, history)
        await fleet.stop()
    history.said = {worker.number: list(worker.product.lines) for worker in fleet.members}
    await take_stock(database, history)
    first, second = (versions_in(worker.product.lines) for worker in fleet.members)
    assert first == second
    return first


def versions_in(lines: Iterable[str]) -> list[str]:
    """Return the versions that served, as the log says."""
    return [json.loads(line)["version"] for line in lines if '"server_started"' in line]


def judge(run: Callable[[History], Coroutine[Any, Any, list[str]]], tell: Tell) -> None:
    """Run, and check that all four versions served and kept every promise."""
    served: list[str] = []

    async def noting(history: History) -> None:
        served.extend(await run(history))

    result = checked(noting, new_seed(), _LONGEST_SECONDS, is_broken=False)
    tell(f"{result.table}\n{result.summary}")
    assert served == [PREVIOUS, __version__, PREVIOUS, __version__]
    assert not result.broken, "\n".join(result.broken)
    assert result.duplicates == 0
    assert result.messages > 100


def test_server_on_sqlite_is_upgraded_and_taken_back(tmp_path: Path, previous: Path, tell: Tell) -> None:
    judge(partial(upgrade_one_process, tmp_path, previous), tell)


def test_workers_on_postgresql_are_upgraded_and_taken_back_one_after_another(
    tmp_path: Path, postgres_cluster: Cluster, previous: Path, tell: Tell
) -> None:
    with new_database(postgres_cluster) as database:
        judge(partial(upgrade_worker_by_worker, tmp_path, postgres_cluster, database, previous), tell)
