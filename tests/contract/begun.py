"""Processes that take seconds or a minute: started before the first test of a service, checked by later tests."""

from time import sleep, time
from typing import NamedTuple

from tests.contract.caller import Caller, fresh
from tests.contract.world import NOWHERE
from tests.support.receiver import Endpoint, Receiver, Reply

_EXPIRE_IN_SECONDS = 10
"""Long enough for the requests of this module on a busy machine, and over when most tests look."""
_BEHIND_SECONDS = 0.5
"""More than a worker's clock is behind that of the tests."""


class Expiring(NamedTuple):
    """Messages that a disabled listener has not received when they expire."""

    owner: Caller
    listener: str
    """The address of the listener."""
    messages: list[str]
    expires_at: int

    def enable(self) -> None:
        """Let the listener miss the messages, once they have expired."""
        sleep(max(0.0, self.expires_at / 1_000 + _BEHIND_SECONDS - time()))
        self.owner.change(self.listener, status="enabled")

    def missed(self) -> str:
        """The address of the listener, once it has missed them."""
        self.enable()
        self.owner.until(self.listener, lambda shown: shown["messages"]["missed_count"] == len(self.messages))
        return self.listener


class Begun:
    """In an organization of its own, whose owner can look at it."""

    def __init__(self, operator: Caller, receiver: Receiver, stranger: Caller | None) -> None:
        """`stranger` calls from its own address; None if the service is not on loopback."""
        self.owner = _owner(operator)
        self.failing_once = receiver.endpoint(Reply(500), Reply(200))
        queue, _ = self._listening(self.failing_once)
        self.owner.create(f"{queue}/messages", data="x")
        _, self.alive = self._listening(receiver.endpoint())
        self.lifeless = receiver.endpoint()
        self.lifeless.liveness_status = 503
        self.left_alone, self.inactive = self._listening(self.lifeless)
        self.post_only = receiver.endpoint()
        self.post_only.liveness_status = 405
        self.of_post_only, self.without_liveness = self._listening(self.post_only)
        self.every_minute = receiver.endpoint()
        queue, _ = self._listening(self.every_minute)
        self.of_schedule = f"{queue}/messages"
        self.minutely = self.owner.create(f"{queue}/schedules", cron="* * * * *", data={"tick": True}, key="k")
        self.expires_at = int(time() * 1_000) + _EXPIRE_IN_SECONDS * 1_000
        self.expiring_key = self.owner.create("/api_keys", expires_at=self.expires_at)
        self.redelivered, self.replayed, self.grouped = (self._expiring(self.owner, 1) for _ in range(3))
        # In an organization of its own, where nothing else is reported.
        self.reported = self._expiring(_owner(operator), 3)
        self.guesser = None
        if stranger is not None:
            key = self.owner.create("/api_keys")["key"]
            self.guesser = stranger.with_key(key[:-1] + ("a" if key[-1] != "a" else "b"))
            self.guesser.until_status(403, "/queues")

    def _listening(self, endpoint: Endpoint) -> tuple[str, str]:
        """The addresses of a queue and of its listener."""
        queue = f"/queues/{self.owner.create('/queues')['id']}"
        urls = {"notify_url": endpoint.url, "liveness_url": endpoint.url}
        return queue, f"{queue}/listeners/{self.owner.create(f'{queue}/listeners', **urls)['id']}"

    def _expiring(self, owner: Caller, count: int) -> Expiring:
        queue = f"/queues/{owner.create('/queues')['id']}"
        listener = owner.create(f"{queue}/listeners", status="disabled", **NOWHERE)["id"]
        fields = {"data": "x", "expires_at": self.expires_at}
        messages = [owner.create(f"{queue}/messages", **fields)["id"] for _ in range(count)]
        return Expiring(owner, f"{queue}/listeners/{listener}", messages, self.expires_at)


def _owner(operator: Caller) -> Caller:
    """Has the first key of a new organization."""
    answer = operator.ask("POST", "/organizations", {"alias": f"org.example.{fresh('begun')}"})
    assert answer.status_code == 200, answer.text
    return operator.with_key(answer.json()["api_key"]["key"])
