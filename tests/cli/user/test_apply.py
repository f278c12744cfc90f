"""`discue apply`: differences, a second run that changes nothing, and what is deleted."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from discue_client import ConnectionFailed, Discue
from tests.cli.commands import REPOSITORY, running
from tests.cli.user.service import Service
from tests.cli.user.test_listen import queue_named

URL = "http://127.0.0.1:9"

FILE = """
# A shop.
queues:
  shop/orders:
    ordered: true
    retention: 86400
    json_schema:
      type: object
      required: [total]
    listeners:
      billing:
        notify_url: http://127.0.0.1:9/billing
        liveness_url: null
        headers: {x-shop: north}
        filter: {data: {total: {$gte: 100}}}
        retry: [5, 30]
        rate_limit: {per_second: 10}
      worker:
        mode: pull
        lease_seconds: 60
    schedules:
      nightly:
        cron: "0 3 * * *"
        time_zone: Europe/Berlin
        data: {total: 0}
  shop/refunds:
topics:
  shop:
    channels:
      refunds:
        queue: shop/refunds
        pattern: refund.*
"""


@pytest.fixture
def shop(service: Service) -> Service:
    """A service without the resources of the file, and of that on the page."""
    for queue in ("shop/orders", "shop/refunds", "invoices", "refunds", "customers/acme"):
        service.run("queues", "delete", queue)
    service.run("api", "DELETE", "/topics/shop")
    (service.folder / "discue.yaml").write_text(FILE)
    return service


def changes(service: Service, *arguments: str) -> list[tuple[str, str]]:
    found = service.json("apply", "-f", "discue.yaml", *arguments)["changes"]
    return [(each["action"], each["resource"]) for each in found]


def test_second_run_changes_nothing(shop: Service) -> None:
    preview = changes(shop, "--dry-run")
    assert shop.run("queues", "get", "shop/orders").returncode == 1
    made = changes(shop)

    assert (
        made
        == preview
        == [
            ("create", "queue shop/orders"),
            ("create", "listener shop/orders/billing"),
            ("create", "listener shop/orders/worker"),
            ("create", "schedule shop/orders/nightly"),
            ("create", "queue shop/refunds"),
            ("create", "topic shop"),
            ("create", "channel shop/refunds"),
        ]
    )
    assert changes(shop) == []
    assert shop.succeed("apply", "-f", "discue.yaml") == "Nothing differs.\n"
    listener = shop.json("listeners", "get", "shop/orders", "billing")["listener"]
    assert listener["filter"] == {"data": {"total": {"$gte": 100}}}
    assert shop.json("queues", "get", "shop/orders")["queue"]["ordered"] is True


def test_difference_is_shown_by_field_and_made(shop: Service) -> None:
    changes(shop)
    changed = FILE.replace("/billing\n", "/new\n").replace("lease_seconds: 60", "lease_seconds: 90")
    (shop.folder / "discue.yaml").write_text(changed)
    shown = shop.succeed("apply", "-f", "discue.yaml")

    assert shown == (
        "~ listener shop/orders/billing\n"
        '    notify_url: "http://127.0.0.1:9/billing" → "http://127.0.0.1:9/new"\n'
        "~ listener shop/orders/worker\n"
        "    lease_seconds: 60 → 90\n"
    )
    assert changes(shop) == []


def test_customer_of_a_queue_is_made_and_not_changed(service: Service) -> None:
    file = service.folder / "discue.yaml"
    file.write_text("queues: {customers/hooli: {customer: hooli, listeners: {app: {mode: pull}}}}")
    service.succeed("apply", "-f", "discue.yaml")
    assert service.succeed("apply", "-f", "discue.yaml") == "Nothing differs.\n"
    assert service.call("GET", "/queues/customers%2Fhooli/listeners/app")["listener"]["customer"] == "hooli"
    file.write_text("queues: {customers/hooli: {customer: globex}}")
    refused = service.run("apply", "-f", "discue.yaml")
    assert (refused.returncode, "create another queue for that customer" in refused.stderr) == (1, True)


def test_output_is_that_of_the_page(shop: Service) -> None:
    page = (REPOSITORY / "docs" / "apply.md").read_text()
    # Addresses that need no name server.
    page = page.replace("https://old.example.com", "http://127.0.0.1:8").replace("https://billing.example.com", URL)
    (content,) = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (shown,) = re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (shop.folder / "discue.yaml").write_text(content.replace(f"{URL}/hook", "http://127.0.0.1:8/"))
    changes(shop)
    for queue in ("refunds", "customers/acme"):
        shop.succeed("queues", "delete", queue)

    (shop.folder / "discue.yaml").write_text(content)
    assert shop.succeed("apply", "-f", "discue.yaml") == shown
    for queue in ("invoices", "refunds"):
        shop.succeed("queues", "delete", queue)


def test_fields_that_the_file_leaves_out_stay(shop: Service) -> None:
    changes(shop)
    (shop.folder / "discue.yaml").write_text("queues: {shop/orders: {listeners: {billing: {}}}}")

    assert changes(shop) == []
    (shop.folder / "discue.yaml").write_text("queues: {shop/orders: {listeners: {billing: {filter: null}}}}")
    assert changes(shop) == [("change", "listener shop/orders/billing")]
    assert "filter" not in shop.json("listeners", "get", "shop/orders", "billing")["listener"]


def test_password_is_neither_compared_nor_printed(shop: Service) -> None:
    listener = {
        "notify_url": "https://127.0.0.1:9/",
        "authentication": {"type": "basic", "username": "u", "password": "hunter2"},
    }
    content = {"queues": {"shop/orders": {"listeners": {"billing": listener}}}}
    (shop.folder / "discue.yaml").write_text(json.dumps(content))
    shown = shop.succeed("apply", "-f", "discue.yaml")

    assert "hunter2" not in shown
    assert changes(shop) == []


def test_prune_deletes_what_lists_leave_out(tmp_path: Path, service: Service) -> None:
    # All queues are compared: a service of its own.
    (tmp_path / "own").mkdir()
    with running(tmp_path / "own", "serve", "--port", "0", "--allow-private-targets") as server:
        own = Service(server.url, server.key, tmp_path, service.request)
        variables = {"DISCUE_URL": server.url, "DISCUE_API_KEY": server.key}
        (tmp_path / "discue.yaml").write_text(FILE)
        own.succeed("apply", "-f", "discue.yaml", **variables)
        queue_named(own, "extra")
        own.call("PUT", "/queues/shop%2Forders/listeners/listen%2Fme", {"mode": "pull"})
        shorter = "queues: {shop/orders: {listeners: {worker: }}, shop/refunds: }\ntopics: {shop: {channels: {}}}"
        (tmp_path / "discue.yaml").write_text(shorter)
        unanswered = own.run("apply", "-f", "discue.yaml", "--prune", **variables)
        preview = own.succeed("apply", "-f", "discue.yaml", "--prune", "--dry-run", **variables)
        own.succeed("apply", "-f", "discue.yaml", "--prune", "--yes", **variables)
        left = {each["alias"] for each in own.call("GET", "/queues")["queues"]}
        listeners = {each["alias"] for each in own.call("GET", "/queues/shop%2Forders/listeners")["listeners"]}
        schedules = own.call("GET", "/queues/shop%2Forders/schedules")["schedules"]

    assert (unanswered.returncode, "--yes is missing" in unanswered.stderr) == (2, True)
    assert preview == "- channel shop/refunds\n- listener shop/orders/billing\n- queue extra\n"
    assert left == {"shop/orders", "shop/refunds", "system/events"}
    assert listeners == {"worker", "listen/me"}
    # The file does not list schedules: they are not compared.
    assert [each["alias"] for each in schedules] == ["nightly"]


def test_refused_change_says_how_many_are_made(shop: Service) -> None:
    (shop.folder / "discue.yaml").write_text("queues: {shop/orders: {}, shop/refunds: {retentoin: 5}}")
    result = shop.run("apply", "-f", "discue.yaml")

    assert result.returncode == 1
    assert "queue shop/refunds is refused" in result.stderr
    assert "retention" in result.stderr
    assert "1 of 2 changes were made: correct the file, and run the command again." in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [(ConnectionFailed("PUT /queues/shop/refunds: no response."), 5), (KeyboardInterrupt(), 1)],
    ids=["service away", "Ctrl-C"],
)
def test_run_that_ends_in_the_middle_says_how_many_changes_are_made(
    shop: Service, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    (shop.folder / "discue.yaml").write_text("queues: {shop/orders: {}, shop/refunds: {}}")
    request = Discue.request

    def requested(client: Discue, method: str, path: str, **options: Any) -> bytes:
        if method == "PUT" and path.endswith("refunds"):
            raise error
        return request(client, method, path, **options)

    monkeypatch.setattr(Discue, "request", requested)
    result = shop.run("apply", "-f", "discue.yaml")

    assert result.returncode == code
    assert (
        "1 of 2 changes were made, and perhaps that of the queue shop/refunds. Run the command again" in result.stderr
    )
    assert shop.call("GET", "/queues/shop/orders")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("queues: [a", "discue.yaml is not YAML"),
        ("queues: {a: {}, a: {}}", "a occurs twice"),
        ("queus: {}", "unknown entry queus; did you mean queues?\n"),
        ("", "must have one of: queues, topics."),
        ("queues: a", "queues must have an entry for each alias"),
        (
            "queues: []",
            "queues is a list. Its entries must have their alias as key:\n\n  queues:\n    ALIAS_OF_THE_QUEUE:\n",
        ),
        ("queues: [orders]", "  queues:\n    orders:\n"),
        (
            "queues: {shop: {listeners: [{name: app, notify_url: 'https://user:password@a.example'}]}}",
            (
                "discue.yaml: queues.shop.listeners is a list. Its entries must have their alias as key:\n\n"
                "  queues:\n    shop:\n      listeners:\n        app:\n          notify_url: …\n"
            ),
        ),
        ("queues: {no: {}}", "has the alias False. Write it in quotation marks."),
        ("queues: {a: 5}", "queues.a must have fields, or nothing"),
        ("!!python/object/apply:os.system [ls]", "is not YAML"),
    ],
    ids=str,
)
def test_mistake_in_the_file_is_explained(service: Service, content: str, message: str) -> None:
    (service.folder / "discue.yaml").write_text(content)
    result = service.run("apply", "-f", "discue.yaml")

    assert result.returncode == 1
    assert message in result.stderr


def test_channel_to_an_unknown_queue_names_the_queue_before_anything_is_made(shop: Service) -> None:
    (shop.folder / "discue.yaml").write_text("topics: {shop: {channels: {c: {queue: nowhere, pattern: a}}}}")
    result = shop.run("apply", "-f", "discue.yaml")

    assert result.returncode == 1
    assert result.stderr == (
        "discue: channel shop/c: there is no queue nowhere. Add it to the file, or correct its alias.\n"
    )
    assert shop.run("api", "GET", "/topics/shop").returncode == 1


def test_file_without_its_flag_is_wrong_usage(service: Service) -> None:
    misplaced, missing = service.run("apply", "discue.yaml", "--dry-run"), service.run("apply")

    assert (misplaced.returncode, missing.returncode) == (2, 2)
    assert misplaced.stderr == "discue: Name the file with -f: discue apply -f discue.yaml\n"
    assert "-f/--file is required" in missing.stderr


def test_missing_file_is_named(service: Service) -> None:
    assert "Cannot read none.yaml: No such file or directory." in service.run("apply", "-f", "none.yaml").stderr


def test_json_is_accepted(shop: Service) -> None:
    (shop.folder / "discue.json").write_text(json.dumps({"queues": {"shop/orders": {"retention": 86400}}}))

    assert "+ queue shop/orders" in shop.succeed("apply", "-f", "discue.json")
