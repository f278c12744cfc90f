"""Bounds of all tables: the quota, number or setting that keeps tenants and strangers from filling each of them."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from discue.control.jobs import MAX_OPEN_REPLAYS
from discue.control.schedules import SCHEDULES_A_QUEUE
from discue.dashboard.portal.rules import MOST_THEMES, SESSIONS_OF_A_CUSTOMER
from discue.dashboard.users.identity_table import IDENTITIES_OF_A_USER
from discue.dashboard.users.session_table import SESSIONS_OF_A_USER
from discue.domain.causes import MOST_CAUSES
from discue.domain.event_types import MAX_TYPES
from discue.domain.quotas import QuotaName
from discue.store import feed, lockouts, tallies
from discue.store.events import MOST_A_PERIOD
from discue.store.replays import REPLAYS_AT_ONCE
from discue.store.sources import MAX_PER_ORGANIZATION
from discue.store.topics import MAX_PER_TOPIC


class Bound(NamedTuple):
    """The limits of a table's rows. At least one field is set."""

    quotas: tuple[QuotaName, ...] = ()
    """Quotas of the organization that, together with the retention of the rows, limit their number."""
    most: int = 0
    """The largest number of rows: in all, or for each row of the table `of`."""
    of: str = ""
    """A bounded table. Without `most`, only the retention limits the number for each of its rows."""
    setting: str = ""
    """The setting of the operator that limits it."""


BOUNDS: Final[Mapping[str, Bound]] = {
    # The installation
    "meta": Bound(most=100),
    "worker": Bound(setting="workers"),
    "feed": Bound(most=feed.CHANGES_KEPT),
    "feed_head": Bound(most=1),
    "lockout": Bound(most=lockouts.MOST_SUBJECTS),
    "allowance": Bound(most=tallies.MOST_BUDGETS),
    # Organizations and what they configure
    "organization": Bound(setting="tenant_organizations"),
    "api_key": Bound(("api_keys",)),
    "organization_user": Bound(("users",)),
    "user_identity": Bound(of="organization_user", most=IDENTITIES_OF_A_USER),
    "second_factor": Bound(of="organization_user", most=1),
    "session": Bound(of="organization_user", most=SESSIONS_OF_A_USER),
    "sign_in_code": Bound(of="organization_user", most=1),
    "portal": Bound(of="organization", most=1),
    "portal_theme": Bound(of="organization", most=MOST_THEMES),
    "portal_session": Bound(("portal_sessions", "creations_a_day"), most=SESSIONS_OF_A_CUSTOMER),
    "domain": Bound(("domains",)),
    "queue": Bound(("queues", "creations_a_day")),
    "listener": Bound(("listeners", "creations_a_day")),
    "liveness": Bound(of="listener", most=1),
    "topic": Bound(("topics",)),
    "channel": Bound(of="topic", most=MAX_PER_TOPIC),
    "source": Bound(of="organization", most=MAX_PER_ORGANIZATION),
    "event_type": Bound(of="organization", most=MAX_TYPES),
    "schedule": Bound(("bytes_stored", "creations_a_day"), of="queue", most=SCHEDULES_A_QUEUE),
    "job": Bound(("creations_a_day",)),
    "redelivery": Bound(("creations_a_day",)),
    "replay": Bound(("creations_a_day",)),
    "erasure": Bound(("creations_a_day",)),
    "replay_slot": Bound(of="organization", most=REPLAYS_AT_ONCE),
    # Messages
    "queue_head": Bound(of="queue", most=1),
    "log": Bound(("messages_a_day", "bytes_stored")),
    "erased_message": Bound(("messages_a_day",)),
    "body": Bound(of="log", most=1),
    "scheduled": Bound(of="log", most=1),
    "idempotency_response": Bound(("bytes_stored",)),
    "idempotency_key": Bound(("bytes_stored",)),
    # Deliveries: at most one row for each message and listener, and retries
    "cursor": Bound(of="listener", most=1 + MAX_OPEN_REPLAYS),
    "delivery": Bound(("messages_a_day", "listeners")),
    "missed_range": Bound(("messages_a_day", "listeners")),
    "missed_cause": Bound(of="listener", most=MOST_CAUSES),
    "missed_report": Bound(of="listener", most=1),
    "attempt": Bound(("messages_a_day", "listeners", "creations_a_day")),
    "attempt_detail": Bound(setting="attempt_details_bytes_per_hour"),
    # Counts and events
    "tally": Bound(of="organization"),
    "listener_history": Bound(of="listener"),
    "listener_tally": Bound(of="listener"),
    "event": Bound(("creations_a_day", "api_keys", "users", "portal_sessions"), most=MOST_A_PERIOD),
}
"""The bound of each table. A table without one fails a test.

The quota for creations also bounds rows of deleted queues and listeners, and the jobs that clean up after them.
"""
