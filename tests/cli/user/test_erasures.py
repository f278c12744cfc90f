"""`erasures` on a real service."""

import re

from tests.cli.user.service import Service


def test_erasure_is_created_shown_and_listed(service: Service) -> None:
    service.succeed("queues", "set", "orders")
    for key in ("customer-7", "customer-7", "customer-8"):
        service.succeed("publish", "orders", "1", "--key", key)
    shown = service.succeed("erasures", "create", "orders", "customer-7")
    assert re.search(r"^erased +2$", shown, re.MULTILINE)
    assert re.search(r"^delivered +none$", shown, re.MULTILINE)
    [listed] = service.json("erasures", "list", "orders")["erasures"]
    assert (listed["key"], listed["state"], listed["erased"]) == ("customer-7", "done", 2)
    assert re.search(
        rf"^{listed['id']} +customer-7 +done +2 ", service.succeed("erasures", "list", "orders"), re.MULTILINE
    )
    assert service.succeed("erasures", "get", "orders", listed["id"]) == shown
    assert len(service.json("messages", "list", "orders")["messages"]) == 1


def test_key_that_is_too_long_is_refused_with_the_rule(service: Service) -> None:
    service.succeed("queues", "set", "orders")
    refused = service.run("erasures", "create", "orders", "x" * 256)
    assert (refused.returncode, "must have 1 to 255 characters" in refused.stderr) == (1, True)
