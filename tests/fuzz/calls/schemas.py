"""Calls that are about schemas: set, changed and cleared through a queue, and kept to by what is published."""

from typing import Any

from hypothesis import strategies as st

from tests.fuzz.calls.collection import Calls, call, need, require, require_refused, which, who
from tests.fuzz.model.collection import Item
from tests.fuzz.model.schemas import FIELDS, SCHEMAS, refused

_CLEARING: tuple[dict[str, Any], ...] = ({"schema": None}, {"json_schema": None}, {"schema": None, "json_schema": None})

changes = st.sampled_from(SCHEMAS + _CLEARING)
values = st.sampled_from([None, 1, 2, "", "ab", "abc", [], [1, 0], {"text": "ab", "more": 1}, {"text": "a"}, {}])
data = st.dictionaries(st.sampled_from(["number", "text", "inner", "list"]), values, max_size=2) | st.sampled_from(
    [5, [], "text", '{"number": 1}', '{"text": "ab"}', "[1", True]
)


class SchemaCalls(Calls):
    def _queue(self, organization: int, number: int) -> Item:
        items = self.models[organization].queues.items
        need(items)
        return items[number % len(items)]

    @call(organization=who, number=which, body=changes)
    def set_a_schema(self, organization: int, number: int, body: dict[str, Any]) -> None:
        """The one before is found no more, unless it is the same."""
        model, queue = self.models[organization], self._queue(organization, number)
        before = queue.details.get("schema_id")
        answer = self.clients[organization].put(f"/queues/{queue.id}", json=body)
        if places := model.refusals(model.queues, body, queue):
            require_refused(answer, places)
        else:
            model.queues.set(queue, body)
            model.queues.require_shown(queue, require(answer, 200)["queue"])
        self._reads(organization, model.queues, queue)
        if before and before != queue.details.get("schema_id"):
            require(self.clients[organization].get(f"/queues/{queue.id}/schemas/{before}"), 404)

    @call(organization=who, number=which)
    def read_a_schema(self, organization: int, number: int) -> None:
        queue = self._queue(organization, number)
        need(queue.details)
        client, path = self.clients[organization], f"/queues/{queue.id}/schemas/{queue.details['schema_id']}"
        answer = client.get(path)
        shown = require(answer, 200)
        assert shown["schema"] == queue.details[FIELDS[shown["language"]]]
        assert (shown["id"], shown["queue_id"]) == (queue.details["schema_id"], queue.id)
        assert client.get(path, headers={"if-none-match": answer.headers["etag"]}).status_code == 304
        require(self.clients[1 - organization].get(path), 404)

    @call(organization=who, number=which, value=data)
    def publish(self, organization: int, number: int, value: Any) -> None:
        """Publish a value: an invalid one is not stored, and every violation is named."""
        model, queue = self.models[organization], self._queue(organization, number)
        messages, body = model.collections[f"/queues/{queue.id}/messages"], {"data": value}
        answer = self.clients[organization].post(messages.path, json=body)
        self._created(organization, messages, body, answer)
        if "schema" in queue.details and answer.status_code == 422:
            assert {error["pointer"] for error in answer.json()["errors"]} == refused(queue, value)

    @call(organization=who, number=which, batch=st.lists(data, min_size=1, max_size=3))
    def publish_a_batch(self, organization: int, number: int, batch: list[Any]) -> None:
        """All or none."""
        model, queue = self.models[organization], self._queue(organization, number)
        messages = model.collections[f"/queues/{queue.id}/messages"]
        answer = self.clients[organization].post(
            f"{messages.path}/batch", json={"messages": [{"data": each} for each in batch]}
        )
        places = {f"/messages/{place}{fault}" for place, each in enumerate(batch) for fault in refused(queue, each)}
        if places:
            require_refused(answer, places)
        else:
            for shown in require(answer, 200)["messages"]:
                model.created(messages, Item(shown["id"], shown["alias"]))
