"""Test kit: discue itself in the process of a test, with a clock that can be moved.

With pytest, ask for the fixture `discue`. Elsewhere: `with discue.testing.serve() as discue:`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from discue.domain.providers import HmacOptions
    from discue.testing.applications import signed_headers
    from discue.testing.kit import Kit, KitClock, KitClosed, NotSettled
    from discue.testing.listeners import ApplicationListener, KitListener, ScriptedListener
    from discue.testing.providers import provider_headers
    from discue.testing.receiver import Received, Reply
    from discue.testing.serving import ServerPool, connect, serve

__all__ = [
    "ApplicationListener",
    "HmacOptions",
    "Kit",
    "KitClock",
    "KitClosed",
    "KitListener",
    "NotSettled",
    "Received",
    "Reply",
    "ScriptedListener",
    "ServerPool",
    "connect",
    "provider_headers",
    "serve",
    "signed_headers",
]

CLIENT = "discue_client"
CLIENT_REMEDY = (
    "needs the Python client, which is not installed. The client is not on a package index: run "
    "`pip install ./clients/python` in a clone of the repository."
)
"""The rest of a sentence. It does not name the package: anyone could register that name on a package index."""

_MODULES = {
    **dict.fromkeys(("Kit", "KitClock", "KitClosed", "NotSettled"), "kit"),
    **dict.fromkeys(("ApplicationListener", "KitListener", "ScriptedListener"), "listeners"),
    **dict.fromkeys(("HmacOptions", "provider_headers"), "providers"),
    **dict.fromkeys(("Received", "Reply"), "receiver"),
    **dict.fromkeys(("ServerPool", "connect", "serve"), "serving"),
    "signed_headers": "applications",
}
"""The module of each name. pytest imports this package in every run, so nothing is imported before it is used."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_MODULES[name]}")
    except ModuleNotFoundError as error:
        if error.name == CLIENT:
            raise ModuleNotFoundError(f"The test kit {CLIENT_REMEDY}", name=CLIENT) from None
        raise
    found = globals()[name] = getattr(module, name)
    return found
