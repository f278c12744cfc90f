"""Client for discue: publish messages, consume them, verify webhooks."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from discue_client.errors import APIError as APIError
from discue_client.errors import BadRequest as BadRequest
from discue_client.errors import ConfigurationError as ConfigurationError
from discue_client.errors import Conflict as Conflict
from discue_client.errors import ConnectionFailed as ConnectionFailed
from discue_client.errors import DiscueError as DiscueError
from discue_client.errors import FieldError as FieldError
from discue_client.errors import Forbidden as Forbidden
from discue_client.errors import Gone as Gone
from discue_client.errors import NotFound as NotFound
from discue_client.errors import PreconditionFailed as PreconditionFailed
from discue_client.errors import QuotaExceeded as QuotaExceeded
from discue_client.errors import RateLimited as RateLimited
from discue_client.errors import ServerError as ServerError
from discue_client.errors import TimedOut as TimedOut
from discue_client.errors import TooLarge as TooLarge
from discue_client.errors import Unauthorized as Unauthorized
from discue_client.errors import Unavailable as Unavailable
from discue_client.errors import UnexpectedResponse as UnexpectedResponse
from discue_client.errors import ValidationFailed as ValidationFailed
from discue_client.responses import DoNotRetry as DoNotRetry
from discue_client.responses import Duplicate as Duplicate
from discue_client.responses import Reject as Reject
from discue_client.responses import Retry as Retry
from discue_client.responses import Unsubscribe as Unsubscribe
from discue_client.version import VERSION

if TYPE_CHECKING:
    from discue_client._async.client import AsyncDiscue as AsyncDiscue
    from discue_client._async.consumer import AsyncDelivery as AsyncDelivery
    from discue_client._sync.client import Discue as Discue
    from discue_client._sync.consumer import Delivery as Delivery
    from discue_client.webhook import DataInvalid as DataInvalid
    from discue_client.webhook import Event as Event
    from discue_client.webhook import Reason as Reason
    from discue_client.webhook import SignatureInvalid as SignatureInvalid
    from discue_client.webhook import Webhook as Webhook

__version__ = VERSION

_ON_DEMAND = {
    "AsyncDiscue": "discue_client._async.client",
    "AsyncDelivery": "discue_client._async.consumer",
    "Discue": "discue_client._sync.client",
    "Delivery": "discue_client._sync.consumer",
    **dict.fromkeys(("DataInvalid", "Event", "Reason", "SignatureInvalid", "Webhook"), "discue_client.webhook"),
}
"""Modules that are imported when a program first uses the name: most programs use one half."""


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_ON_DEMAND[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_ON_DEMAND})
