"""Processes that take seconds or a minute: started before the first test of a service, checked by later tests."""

from tests.contract.caller import Caller, fresh
from tests.support.receiver import Endpoint, Receiver, Reply


class Begun:
    """In an organization of its own, whose owner can look at it."""

    def __init__(self, operator: Caller, receiver: Receiver, stranger: Caller | None) -> None:
        """`stranger` calls from its own address; None if the service is not on loopback."""
        answer = operator.ask("POST", "/organizations", {"alias": f"org.example.{fresh('begun')}"})
        assert answer.status_code == 200, answer.text
        self.owner = operator.with_key(answer.json()["api_key"]["key"])
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
