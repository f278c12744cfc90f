"""`/stats/messages`."""

from collections.abc import Mapping

from discue.api import wire
from discue.api.links import link_to
from discue.api.route import Call, Needs, Route
from discue.control import usage

_READ = Needs("stats", "read")


async def get(call: Call) -> wire.Statistics:
    found = await usage.event_counts(call.control, call.principal)
    windows = wire.UsageWindows(
        last_24_hours=_shown(found.last_24_hours),
        last_1_hours=_shown(found.last_1_hours),
        today_so_far=_shown(found.today_so_far),
    )
    return wire.Statistics(aggregated_api_usage_events=windows, links=link_to(call.url))


def _shown(counts: Mapping[str, int]) -> wire.UsageCounts:
    return wire.UsageCounts(**{name: counts.get(name, 0) for name in wire.UsageCounts.__struct_fields__})


ROUTES = (
    Route(
        methods=("GET",),
        path="/stats/messages",
        handler=get,
        response=wire.Statistics,
        needs=_READ,
        summary="Count what happened",
        description=(
            "Counts go by periods of five minutes: a window begins with the period that its start is in. "
            "Today begins at midnight UTC."
        ),
    ),
)
