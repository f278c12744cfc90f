"""A worker's wall clock is an hour wrong. It touches nothing: nothing may be repeated for it."""

from tests.faults.nemesis.field import Field

_HOUR_SECONDS = 3_600
_UNDER_WAY_SECONDS_IN_LEASES = 0.4


async def ahead(field: Field) -> None:
    """Meanwhile nobody fails: the next attempt would be due when the clock says so, and a lease be over, in an hour."""
    field.load.is_gentle = True
    try:
        await field.lasts(_UNDER_WAY_SECONDS_IN_LEASES, _UNDER_WAY_SECONDS_IN_LEASES)
        await _be_wrong(field, "clock ahead", _HOUR_SECONDS)
        await field.lasts(_UNDER_WAY_SECONDS_IN_LEASES, _UNDER_WAY_SECONDS_IN_LEASES)
    finally:
        field.load.is_gentle = False


async def behind(field: Field) -> None:
    await _be_wrong(field, "clock behind", -_HOUR_SECONDS)


async def _be_wrong(field: Field, kind: str, wrong_by_seconds: int) -> None:
    with field.a_worker() as worker, field.fault_of(kind):
        worker.set_clock(wrong_by_seconds)
        try:
            await field.lasts(1, 2)
        finally:
            worker.set_clock(0)
