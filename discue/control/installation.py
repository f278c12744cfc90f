"""The installation that all organizations share: its workers and settings, for the operator's own users."""

import os
from collections.abc import Sequence

import msgspec

from discue.config.settings import SETTINGS, Setting
from discue.config.sources import describe
from discue.control.context import ControlContext
from discue.domain.errors import Forbidden
from discue.domain.scopes import Principal
from discue.observability.metrics import Histogram
from discue.store.engine import WorkerRow


class DatabaseFiles(msgspec.Struct, frozen=True):
    """The sizes of a SQLite database, in bytes."""

    database: int
    write_ahead_log: int
    free: int
    """Free bytes on the disk, for unprivileged users."""


class Commits(msgspec.Struct, frozen=True):
    """Transactions of this worker since its start, of one kind."""

    kind: str
    count: int
    half_ms: float
    """The median of their durations, rounded up to a bound of the histogram; infinite beyond the largest bound."""
    most_ms: float
    """The 99th percentile of their durations, rounded like `half_ms`."""


class InstallationState(msgspec.Struct, frozen=True):
    """The workers on the database, and what this one has measured."""

    workers: Sequence[WorkerRow]
    """Workers that are not declared dead, by slot."""
    commits: Sequence[Commits]
    files: DatabaseFiles | None
    """None with PostgreSQL."""
    loop_lag_ms: float
    """The 99th percentile of the delay with which this worker's event loop ran what was due."""
    leases_lost: int
    takeovers: int


class SettingInEffect(msgspec.Struct, frozen=True):
    """A setting with its value in this process."""

    setting: Setting
    value: str
    """Without secrets."""
    origin: str
    """The flag, variable or line that it comes from; "" for a default."""


def may_see_installation(principal: Principal) -> bool:
    """Return whether a user manages the installation, which other organizations share."""
    return principal.is_operator and principal.may("api_clients", "read")


def require_installation(principal: Principal) -> None:
    """Raise Forbidden unless `may_see_installation`."""
    if not may_see_installation(principal):
        raise Forbidden("Only owners and admins of the operator's organization can see the installation.")


async def state(control: ControlContext, principal: Principal) -> InstallationState:
    """Return the state of the installation. Raises Forbidden."""
    require_installation(principal)
    measures, found = control.store.measures, await control.store.poll(())
    return InstallationState(
        sorted((each for each in found.members if not each.dead), key=lambda each: each.slot),
        [
            Commits(kind, sum(each.counts), quantile(each, 0.5) * 1_000, quantile(each, 0.99) * 1_000)
            for kind, each in measures.commit_seconds.items()
        ],
        files_of(control),
        quantile(measures.loop_lag, 0.99) * 1_000,
        measures.leases_lost,
        measures.takeovers,
    )


def settings_in_effect(control: ControlContext, principal: Principal) -> Sequence[SettingInEffect]:
    """Return all settings of this process. Raises Forbidden."""
    require_installation(principal)
    settings = control.settings
    return [
        SettingInEffect(each, _shown(each, getattr(settings, each.name)), settings.origins.get(each.name, ""))
        for each in SETTINGS
    ]


def _shown(setting: Setting, value: object) -> str:
    if setting.secret and value is not None:
        return "[secret]"
    return describe(setting.type.shown(value))


def quantile(observed: Histogram, share: float) -> float:
    """Return the bound of the bucket in which the share of observations ends; 0 without any."""
    wanted = share * sum(observed.counts)
    if not wanted:
        return 0.0
    reached = 0
    for bound, count in zip((*observed.bounds, float("inf")), observed.counts, strict=True):
        reached += count
        if reached >= wanted:
            return bound
    return float("inf")


def files_of(control: ControlContext) -> DatabaseFiles | None:
    """Return the sizes of the SQLite database; None with PostgreSQL."""
    path = control.settings.database_path
    if path is None:
        return None
    database, log = (file.stat().st_size if file.exists() else 0 for file in (path, path.with_name(f"{path.name}-wal")))
    disk = os.statvfs(path.parent)
    return DatabaseFiles(database, log, disk.f_bavail * disk.f_frsize)
