"""How a client finds and calls a service."""

from __future__ import annotations

import math
import os
import random
import re
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from discue_client.errors import ConfigurationError
from discue_client.profiles import DEFAULT, keyring_key, stored_profiles

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

URL_VARIABLE = "DISCUE_URL"
KEY_VARIABLE = "DISCUE_API_KEY"

_VISIBLE = re.compile(r"[\x21-\x7e]+")
_RETRIED = frozenset({408, 425, 429})
_UNCHANGEABLE = frozenset({501, 505})
"""Statuses from 500 on that no repetition changes."""
NEVER_PROCESSED = frozenset({425, 429})
"""Statuses that say that the request had no effect, so that any request may be sent again."""


@dataclass(frozen=True)
class Configuration:
    """The URL of the service, and the key that requests carry."""

    url: str
    api_key: str = field(repr=False)

    @classmethod
    def of(cls, url: str | None, api_key: str | None) -> Configuration:
        """Take what is not given from `DISCUE_URL` and `DISCUE_API_KEY`, or from the profile of `discue login`.

        A stored key is sent to no other URL than the one it was stored with. Raises ConfigurationError.
        """
        url = (url or os.environ.get(URL_VARIABLE, "")).rstrip("/")
        api_key = api_key or os.environ.get(KEY_VARIABLE, "")
        profile = None if url and api_key else stored_profiles().get(DEFAULT)
        if profile is not None and url in ("", profile.url.rstrip("/")):
            url, api_key = profile.url.rstrip("/"), api_key or profile.api_key or keyring_key(DEFAULT)
        if not url:
            raise ConfigurationError(f"The URL of the service is missing: pass url=, or set {URL_VARIABLE}.")
        if not api_key:
            raise ConfigurationError(f"The API key is missing: pass api_key=, or set {KEY_VARIABLE}.")
        if not _VISIBLE.fullmatch(api_key):
            raise ConfigurationError("The API key contains spaces, line breaks or non-ASCII characters.")
        return cls(_checked(url), api_key)


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        more = parts.query or parts.fragment or parts.username or parts.password
        is_valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not more
    except ValueError:
        is_valid = False
    if not is_valid:
        # It may contain a password.
        raise ConfigurationError("The URL of the service must look like https://discue.example.com:3000.")
    return url


@dataclass(frozen=True)
class RetryPolicy:
    """When a failed request is sent again."""

    timeout: float = 15.0
    """Time for each attempt, in seconds."""
    deadline: float = 60.0
    """Time for a request and all its retries, in seconds."""
    attempts: int = 10
    """Maximum number of times that a request is sent."""
    first_wait: float = 0.1
    """Longest wait before the first retry, in seconds. It doubles with each."""
    longest_wait: float = 5.0
    """Longest wait before any retry, unless the service asks for more, in seconds."""
    random: Callable[[], float] = random.random

    def wait(self, attempt: int, elapsed: float, retry_after: float | None) -> float | None:
        """Return how long to wait before the next attempt, or None to give up.

        Gives up rather than wait beyond the deadline, or less than the service asks for.
        """
        if attempt >= self.attempts:
            return None
        limit = min(self.longest_wait, self.first_wait * 2 ** min(attempt - 1, 30))
        jitter = limit * self.random()
        # Clients that were told the same time must not all come back at that moment.
        pause = limit / 2 + jitter / 2 if retry_after is None else retry_after + min(jitter, retry_after / 10 + 0.05)
        return pause if elapsed + pause < self.deadline else None


def is_retried(status: int, code: str | None) -> bool:
    """Return whether another attempt may have another result."""
    if status == 409:
        return code == "request_in_flight"
    return status in _RETRIED or (status >= 500 and status not in _UNCHANGEABLE)


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait that a response asks for: from `Retry-After` in either form."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        seconds = math.nan
    if math.isfinite(seconds):
        return max(seconds, 0.0)
    date, now = _time_of(headers.get("retry-after", "")), _time_of(headers.get("date", ""))
    # By the service's own clock, if it says what that is.
    return None if date is None else max(date - (time.time() if now is None else now), 0.0)


def _time_of(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
