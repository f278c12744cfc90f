"""An organization with one resource of each kind, for requests that change nothing."""

import re
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from time import monotonic
from typing import Any

import pytest

from tests.contract.caller import Caller, client_at, fresh, some_address

NOWHERE = {"notify_url": "http://127.0.0.1:9/notify", "liveness_url": "http://127.0.0.1:9/live"}
"""URLs at which no server listens."""


PULLED = ("/listeners/{listener_id}/messages", "/listeners/{listener_id}/acknowledgements")
"""Paths that only a pull listener supports."""


_SURELY_LOCKED_SECONDS = 30.0
_SURELY_UNEXPIRED_SECONDS = 30.0


class World:
    """Everything in it is made when it is first asked for."""

    def __init__(self, operator: Caller) -> None:
        self.operator = operator
        self.closing = ExitStack()
        self._ids: dict[str, str] = {}
        self._locked: tuple[float, Caller] | None = None
        self._portal_session_from = 0.0
        self._makers: dict[str, Callable[[], str]] = {
            "organization_id": lambda: self._organization[0],
            "api_key_id": lambda: self._made("/api_keys"),
            "user_id": lambda: self._made("/users", email=f"{fresh()}@example.com", role="viewer"),
            "domain_id": lambda: self._made("/domains", hostname="localhost", port=1031),
            "queue_id": lambda: self._made("/queues", schema={"n": {"type": "number"}}),
            "schema_id": lambda: str(self.owner.shown(self.path("/queues/{queue_id}"))["schema_id"]),
            "secret_id": self._secret,
            "listener_id": self._listener,
            "message_id": self._message,
            "puller_id": lambda: self._made(self.path("/queues/{queue_id}/listeners"), mode="pull"),
            "attempt_id": self._attempt,
            "redelivery_id": self._redelivery,
            "schedule_id": lambda: self._made(self.path("/queues/{queue_id}/schedules"), cron="@yearly", data={"n": 1}),
            "replay_id": self._replay,
            "erasure_id": lambda: self._made(self.path("/queues/{queue_id}/erasures"), key="customer-7"),
            "topic_id": lambda: self._made("/topics"),
            "source_id": lambda: self._made(
                "/sources", provider="github", queue_id=self["queue_id"], secrets=["secret"]
            ),
            "event_type_id": lambda: self._made("/event_types", type=f"order.{fresh()}"),
            "channel_id": lambda: self._made(self.path("/topics/{topic_id}/channels"), queue_id=self["queue_id"]),
            "portal_session_id": lambda: self._made(
                self.path("/organizations/{organization_id}/portal_sessions"),
                customer="acme",
            ),
            "code": lambda: "not_found",
            "part": lambda: "reference",
            "page": lambda: "pulling",
        }

    def _secret(self) -> str:
        """Not the only one: it may be ended."""
        path = self.path("/queues/{queue_id}/listeners/{listener_id}/secrets")
        made = self._made(path)
        self._made(path)
        return made

    @cached_property
    def _organization(self) -> tuple[str, str]:
        answer = self.operator.ask("POST", "/organizations", {"alias": f"org.example.{fresh('world')}"}).json()
        return answer["organization"]["id"], answer["api_key"]["key"]

    @cached_property
    def owner(self) -> Caller:
        return self.operator.with_key(self._organization[1])

    @cached_property
    def other(self) -> Caller:
        """The owner of another organization, in which there is nothing."""
        answer = self.operator.ask("POST", "/organizations", {"alias": f"org.example.{fresh('other')}"}).json()
        return self.operator.with_key(answer["api_key"]["key"])

    @cached_property
    def powerless(self) -> Caller:
        """Has a key of this organization that may do nothing."""
        return self.operator.with_key(self.owner.create("/api_keys", scopes={})["key"])

    @property
    def locked_out(self) -> Caller:
        """Has tried wrong keys lately, from an address of its own: the lock ends after a minute."""
        if self._locked is None or monotonic() - self._locked[0] > _SURELY_LOCKED_SECONDS:
            self._locked = (monotonic(), self._lock_out())
        return self._locked[1]

    def _lock_out(self) -> Caller:
        if not self.operator.installation.urls[0].startswith("http://127."):
            pytest.skip("Only on loopback a test has an address of its own.")
        client = self.closing.enter_context(client_at(some_address()))
        caller = Caller(self.operator.installation, client, "dsk_" + "0" * 53)
        caller.until_status(403, "/queues")
        return caller

    @cached_property
    def limited(self) -> Caller:
        """Has a key of an organization whose requests of this minute are used up."""
        fields = {"alias": f"org.example.{fresh('limited')}", "rate_limit": 1}
        answer = self.operator.ask("POST", "/organizations", fields).json()
        limited = self.operator.with_key(answer["api_key"]["key"])
        for _ in range(8):
            limited.ask("GET", "/queues")
        return limited

    def _redelivery(self) -> str:
        """Create a redelivery and wait until it has finished, so that it no longer changes."""
        path = self.path("/queues/{queue_id}/listeners/{listener_id}/redeliveries")
        made = self._made(path, all=True)
        self.owner.until(f"{path}/{made}", lambda shown: shown["state"] == "done")
        return made

    def _replay(self) -> str:
        """Create a replay of no messages, which has finished."""
        path = self.path("/queues/{queue_id}/listeners/{listener_id}/replays")
        made = self._made(path, from_at=0, until_at=100_000_000_000)
        self.owner.until(f"{path}/{made}", lambda shown: shown["state"] == "done")
        return made

    def path(self, template: str) -> str:
        if template.endswith(PULLED):
            template = template.replace("{listener_id}", "{puller_id}")
        return re.sub(r"\{(\w+)\}", lambda match: self[match[1]], template)

    def __getitem__(self, name: str) -> str:
        if name == "portal_session_id":
            self._forget_expiring_portal_session()
        if name not in self._ids:
            self._ids[name] = self._makers[name]()
        return self._ids[name]

    def _forget_expiring_portal_session(self) -> None:
        """Make another session in time: one that nobody opens expires after a minute."""
        if monotonic() - self._portal_session_from > _SURELY_UNEXPIRED_SECONDS:
            self._portal_session_from = monotonic()
            self._ids.pop("portal_session_id", None)

    def _listener(self) -> str:
        """With the message at once: when its liveness was probed a few times it would get none any more."""
        made = self._made(self.path("/queues/{queue_id}/listeners"), **NOWHERE)
        self._ids["message_id"] = self._made(self.path("/queues/{queue_id}/messages"), data={"n": 1})
        return made

    def _message(self) -> str:
        self.path("{listener_id}")
        return self._ids["message_id"]

    def _attempt(self) -> str:
        """Return an attempt of the message for the listener."""
        path = self.path("/queues/{queue_id}/messages/{message_id}")
        self.owner.until(path, lambda shown: shown["deliveries"][0]["attempts"] > 0)
        return str(self.owner.get(f"{path}/attempts")["attempts"][-1]["id"])

    def _made(self, path: str, **fields: object) -> str:
        return str(self.owner.create(path, **fields)["id"])


def one_missed(owner: Caller) -> str:
    """The address of a listener that has missed a message: its only attempt failed."""
    queue = f"/queues/{owner.create('/queues')['id']}"
    path = f"{queue}/listeners/{owner.create(f'{queue}/listeners', retry={'attempts': 1}, **NOWHERE)['id']}"
    owner.create(f"{queue}/messages", data="x", type="order.paid")
    owner.until(path, lambda shown: shown["messages"]["missed_count"] == 1)
    return path


def stopped_redelivery(owner: Caller) -> dict[str, Any]:
    """A redelivery whose trial has failed."""
    path = one_missed(owner)
    made = owner.create(f"{path}/redeliveries", all=True, trial=1)
    return owner.until(f"{path}/redeliveries/{made['id']}", lambda shown: shown["state"] == "stopped")
