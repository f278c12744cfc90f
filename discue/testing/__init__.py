"""Test kit: discue itself in the process of a test, with a clock that can be moved.

With pytest, ask for the fixture `discue`. Elsewhere: `with discue.testing.serve() as discue:`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from discue.testing.errors import KitClosed, NotSettled
    from discue.testing.kit import Kit, KitClock
    from discue.testing.listeners import ApplicationListener, KitListener, ScriptedListener
    from discue.testing.pool import ServerPool
    from discue.testing.requests import Received, Reply
    from discue.testing.serving import connect, serve
    from discue.testing.signatures import signed_headers

__all__ = [
    "ApplicationListener",
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
    "serve",
    "signed_headers",
]

_MODULES = {
    **dict.fromkeys(("KitClosed", "NotSettled"), "errors"),
    **dict.fromkeys(("Kit", "KitClock"), "kit"),
    **dict.fromkeys(("ApplicationListener", "KitListener", "ScriptedListener"), "listeners"),
    **dict.fromkeys(("Received", "Reply"), "requests"),
    **dict.fromkeys(("connect", "serve"), "serving"),
    "ServerPool": "pool",
    "signed_headers": "signatures",
}
"""The module of each name. pytest imports this package in every run, so nothing is imported before it is used."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_MODULES[name]}")
    except ModuleNotFoundError as error:
        from discue.testing.client_missing import CLIENT, REMEDY  # noqa: PLC0415 - only errors need it

        if error.name == CLIENT:
            raise ModuleNotFoundError(f"The test kit {REMEDY}", name=CLIENT) from None
        raise
    found = globals()[name] = getattr(module, name)
    return found
