"""What needs no key: the service's name and its health."""

from discue import __version__
from discue.api import wire
from discue.api.links import LinkTarget, link_to, links_of
from discue.api.route import Call, Route
from discue.domain.errors import Unavailable

_COLLECTIONS = (
    "api_clients",
    "organizations",
    "users",
    "api_keys",
    "queues",
    "listeners",
    "messages",
    "topics",
    "domains",
    "events",
    "limits",
)


async def root(call: Call) -> wire.ServiceShown:
    places = [LinkTarget(path, path, f"{call.base}/{path}") for path in _COLLECTIONS]
    health = [
        LinkTarget("live", "health/live", f"{call.base}/health/live"),
        LinkTarget("ready", "health/ready", f"{call.base}/health/ready"),
    ]
    pages = [
        LinkTarget("openapi", "openapi.json", f"{call.base}/openapi.json"),
        LinkTarget("docs", "docs", f"{call.base}/docs"),
    ]
    return wire.ServiceShown(name="discue", version=__version__, links=links_of(call.url, places + health + pages))


async def live(call: Call) -> wire.Health:
    return wire.Health(status="live", links=link_to(call.url))


async def ready(call: Call) -> wire.Health:
    """Raises Unavailable while starting, while draining, and while the store cannot take writes."""
    obstacle = call.services.readiness.obstacle
    if obstacle is not None:
        raise Unavailable(obstacle)
    return wire.Health(status="ready", links=link_to(call.url))


ROUTES = (
    Route(
        methods=("GET",),
        path="/",
        handler=root,
        response=wire.ServiceShown,
        needs=None,
        summary="Say what this is",
    ),
    Route(
        methods=("GET",),
        path="/health/live",
        handler=live,
        response=wire.Health,
        needs=None,
        summary="Say that the process is alive",
    ),
    Route(
        methods=("GET",),
        path="/health/ready",
        handler=ready,
        response=wire.Health,
        needs=None,
        statuses=(503,),
        summary="Say whether requests are served",
        description="503 while the service starts, drains, or cannot store.",
    ),
)
