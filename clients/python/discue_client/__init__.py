"""Client for discue: publish messages, consume them, verify webhooks."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from discue_client.errors import (
    APIError,
    BadRequest,
    ConfigurationError,
    Conflict,
    ConnectionFailed,
    DiscueError,
    FieldError,
    Forbidden,
    Gone,
    NotFound,
    PreconditionFailed,
    QuotaExceeded,
    RateLimited,
    ServerError,
    TimedOut,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnexpectedResponse,
    ValidationFailed,
)
from discue_client.responses import DoNotRetry, Duplicate, Reject, Retry, Unsubscribe
from discue_client.version import VERSION

if TYPE_CHECKING:
    from discue_client._async.client import AsyncDiscue
    from discue_client._async.consumer import AsyncDelivery
    from discue_client._sync.client import Discue
    from discue_client._sync.consumer import Delivery
    from discue_client.webhook import DataInvalid, Event, Reason, SignatureInvalid, Webhook

__all__ = [
    "APIError",
    "AsyncDelivery",
    "AsyncDiscue",
    "BadRequest",
    "ConfigurationError",
    "Conflict",
    "ConnectionFailed",
    "DataInvalid",
    "Delivery",
    "Discue",
    "DiscueError",
    "DoNotRetry",
    "Duplicate",
    "Event",
    "FieldError",
    "Forbidden",
    "Gone",
    "NotFound",
    "PreconditionFailed",
    "QuotaExceeded",
    "RateLimited",
    "Reason",
    "Reject",
    "Retry",
    "ServerError",
    "SignatureInvalid",
    "TimedOut",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "UnexpectedResponse",
    "Unsubscribe",
    "ValidationFailed",
    "Webhook",
    "__version__",
]

__version__ = VERSION

_ON_DEMAND = {
    "AsyncDiscue": "discue_client._async.client",
    "AsyncDelivery": "discue_client._async.consumer",
    "Discue": "discue_client._sync.client",
    "Delivery": "discue_client._sync.consumer",
    **dict.fromkeys(("DataInvalid", "Event", "Reason", "SignatureInvalid", "Webhook"), "discue_client.webhook"),
}
"""Modules that are imported when somebody asks for the name: most programs use one half."""


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_ON_DEMAND[name]), name)
    return found


def __dir__() -> list[str]:
    return __all__
