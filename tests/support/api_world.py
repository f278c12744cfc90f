"""A resource of every kind, to fill the paths of all routes with."""

import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from discue.api.route import Route
from discue.api.structs import EXAMPLE_IDS
from discue.dashboard.users.api import InvitationBody
from tests.support.served_api import Cast

# A new request type, or a new name in braces, must be added here before its route passes.
BODIES: dict[str, dict[str, Any]] = {
    "OrganizationBody": {},
    "ApiKeyBody": {},
    "DomainBody": {"hostname": "localhost", "port": 1_031},
    "QueueBody": {},
    "ListenerBody": {"notify_url": "http://127.0.0.1:9/", "liveness_url": "http://127.0.0.1:9/"},
    "SecretBody": {},
    "AcknowledgementsBody": {"acknowledge": ["0" * 21 + "1"]},
    "FilterTestBody": {"filter": {"key": "x"}, "data": "hello"},
    "DeliveryTestBody": {},
    "TransformTestBody": {"transform": "data"},
    "MessageBody": {"data": "hello"},
    "TopicBody": {},
    "EventTypeBody": {"type": "order.paid"},
    "SourceBody": {"provider": "github", "queue_id": EXAMPLE_IDS["queue_id"], "secrets": ["secret"]},
    "ChannelBody": {"queue_id": EXAMPLE_IDS["queue_id"]},
    "BatchBody": {"messages": [{"data": "hello"}]},
    "MessageChangeBody": {},
    "UserBody": {"email": "ada@example.com", "role": "viewer"},
    "RedeliveryBody": {"all": True},
    "ScheduleBody": {"cron": "@daily", "data": "hello"},
    "ReplayBody": {"from_at": 0},
    "ErasureBody": {"key": "customer-7"},
    "PortalSettingsBody": {"frame_ancestors": ["https://app.example.com"]},
    "PortalSessionBody": {"customer": "acme"},
    "InvitationBody": {"password": "correct horse battery"},
}

PULLED = ("/listeners/{listener_id}/messages", "/listeners/{listener_id}/acknowledgements")
"""Paths for listeners in pull mode."""


class World:
    """A resource of alice's for every name that a path can have in braces, created when it is first needed."""

    def __init__(self, cast: Cast) -> None:
        self.cast = cast
        self._ids: dict[str, str] = {}
        self._makers: dict[str, Callable[[], str]] = {
            "organization_id": lambda: cast.organization_id,
            "api_key_id": lambda: cast.create("/api_keys", {}),
            "queue_id": cast.queue,
            "listener_id": lambda: cast.listener(self["queue_id"]),
            "puller_id": lambda: cast.listener(self["queue_id"], mode="pull"),
            "secret_id": lambda: cast.secret(self["queue_id"], self["listener_id"]),
            "redelivery_id": lambda: cast.redelivery(self["queue_id"], self["listener_id"]),
            "schedule_id": lambda: cast.schedule(self["queue_id"]),
            "replay_id": lambda: cast.replay(self["queue_id"], self["listener_id"]),
            "erasure_id": lambda: cast.create(f"/queues/{self['queue_id']}/erasures", {"key": "customer-7"}),
            "domain_id": cast.domain,
            "message_id": lambda: cast.message(self["queue_id"], data={"order": 1}),
            "topic_id": cast.topic,
            "source_id": lambda: cast.create(
                "/sources", {"provider": "github", "queue_id": self["queue_id"], "secrets": ["secret"]}
            ),
            "event_type_id": lambda: cast.create("/event_types", {"type": f"order.sent{secrets.token_hex(6)}"}),
            "channel_id": lambda: cast.channel(self["topic_id"], self["queue_id"]),
            "schema_id": lambda: cast.schema(self["queue_id"]),
            "portal_session_id": lambda: cast.portal_session(self["queue_id"]),
            "user_id": lambda: cast.invited()["user"]["id"],
            "attempt_id": lambda: cast.attempt(self["listener_id"], self["message_id"]),
            "code": lambda: "not_found",
            "part": lambda: "reference",
            "page": lambda: "pulling",
        }

    def __getitem__(self, name: str) -> str:
        if name not in self._ids:
            self._ids[name] = self._makers[name]()
        return self._ids[name]

    def path(self, template: str) -> str:
        if template.endswith(PULLED):
            template = template.replace("{listener_id}", "{puller_id}")
        return re.sub(r"\{(\w+)\}", lambda match: self[match[1]], template)

    def body(self, route: Route) -> dict[str, Any] | None:
        if route.request is InvitationBody:
            return {**BODIES[route.request.__name__], "token": self.cast.invited()["invitation"]["token"]}
        return None if not route.takes_body else self.filled(BODIES[route.request.__name__])

    def filled(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the body with the id of an existing queue instead of the example's."""
        existing: dict[str, Any] = {"queue_id": self["queue_id"], "queues": [self["queue_id"]]}
        return {**body, **{name: existing[name] for name in body.keys() & existing.keys()}}
