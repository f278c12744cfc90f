"""`event-types`, and examples of the catalogue in `trigger` and `apply`, on a real service."""

import json
import re

import pytest

from tests.cli.user.service import Service

EVENT_TYPE = ("--description", "An order was paid.", "--example", '{"order": 17}')


def test_event_type_is_set_shown_and_deleted(service: Service) -> None:
    service.succeed("event-types", "set", "order.paid", *EVENT_TYPE, "--json-schema", '{"type": "object"}')
    made = service.json("event-types", "get", "order.paid")["event_type"]
    assert (made["type"], made["example"], made["json_schema"]) == ("order.paid", {"order": 17}, {"type": "object"})
    listed = service.succeed("event-types", "list")
    assert re.search(rf"^order\.paid +{made['id']} +enabled +An order was paid\.$", listed, re.MULTILINE)
    changed = service.json("event-types", "set", "order.paid", "--status", "deprecated", "--json-schema", "null")
    assert (changed["event_type"]["status"], "json_schema" in changed["event_type"]) == ("deprecated", False)
    assert re.search(r'^example +\{"order": ?17\}$', service.succeed("event-types", "get", "order.paid"), re.MULTILINE)
    service.succeed("event-types", "delete", "order.paid")
    missing = service.run("event-types", "get", "order.paid")
    assert missing.returncode == 1
    assert 'Event type "order.paid" not found. `discue event-types list` lists the event types.' in missing.stderr


@pytest.mark.parametrize("event_type", ["order:paid", "order@2/paid", "x" * 70])
def test_every_type_can_be_set_and_applied(service: Service, event_type: str) -> None:
    service.succeed("event-types", "set", event_type, "--description", "First.")
    (service.folder / "type.yaml").write_text(json.dumps({"event_types": {event_type: {"description": "Second."}}}))
    assert [each["action"] for each in service.json("apply", "-f", "type.yaml")["changes"]] == ["change"]
    assert service.json("event-types", "get", event_type)["event_type"]["description"] == "Second."
    refused = service.run("event-types", "set", "order..paid")
    assert (refused.returncode, "'order..paid' is not a type: it must be words" in refused.stderr) == (2, True)


def test_deletion_names_the_listeners_that_have_the_type(service: Service) -> None:
    service.succeed("queues", "set", "billing")
    for number in range(7):
        service.succeed("listeners", "set", "billing", f"app-{number}", "--pull", "--types", "order.gone order.left")
    for event_type, having in (
        (
            "order.gone",
            "order.gone: billing/app-6, billing/app-5, billing/app-4, billing/app-3, billing/app-2 and 2 more.",
        ),
        ("order.alone", ""),
    ):
        service.succeed("event-types", "set", event_type)
        deleted = service.run("event-types", "delete", event_type)
        assert (deleted.returncode, deleted.stdout) == (0, f"Event type {event_type} is deleted.\n")
        assert deleted.stderr == (f"discue: Listeners still have the type {having}\n" if having else "")


def test_trigger_publishes_the_example_of_an_event_type(service: Service) -> None:
    service.succeed("event-types", "set", "order.sent", "--example", '{"order": 17}')
    service.succeed("event-types", "set", "order.lost", "--json-schema", '{"const": "lost"}')
    service.succeed("queues", "set", "with-types", "--json-schema", '{"enum": ["of the queue", "lost", {"order": 18}]}')
    trigger = ("trigger", "with-types", "--dry-run")
    assert json.loads(service.succeed(*trigger, "--type", "order.sent")) == {"order": 17}
    assert json.loads(service.succeed(*trigger, "--type", "order.lost")) == "lost"
    assert json.loads(service.succeed(*trigger, "--type", "order.unknown")) == "of the queue"
    service.succeed("trigger", "with-types", "--type", "order.sent", "--set", "order=18")
    [message] = service.json("messages", "list", "with-types")["messages"]
    assert message["type"] == "order.sent"


def test_apply_makes_event_types(service: Service) -> None:
    file = service.folder / "types.yaml"
    file.write_text("event_types: {invoice.paid: {description: Paid., example: {invoice: 1}}, invoice.sent: }")
    apply = ("apply", "-f", "types.yaml")
    made = [each["resource"] for each in service.json(*apply)["changes"]]
    assert made == ["event_type invoice.paid", "event_type invoice.sent"]
    assert service.json(*apply)["changes"] == []
    file.write_text("event_types: {invoice.paid: {description: Paid in full.}, invoice.sent: }")
    assert [each["action"] for each in service.json(*apply)["changes"]] == ["change"]
    assert service.json("event-types", "get", "invoice.paid")["event_type"]["description"] == "Paid in full."
