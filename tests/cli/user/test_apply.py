"""`discue apply`: differences, a second run that changes nothing, and what is deleted."""

import errno
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from discue.cli.user import apply, profiles
from discue.cli.user.profiles import write_private
from discue_client import ConnectionFailed, Discue
from tests.cli.commands import REPOSITORY, running
from tests.cli.user.service import Service
from tests.cli.user.test_listen import queue_named
from tests.support.portals import Customer, chosen

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
    queues = ("shop/orders", "shop/refunds", "invoices", "refunds", "customers/acme")
    for path in (*(f"/queues/{quote(each, safe='')}" for each in queues), "/topics/shop"):
        assert service.request("DELETE", f"{service.url}{path}", service.key).status_code in {200, 404}
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


def test_customer_of_a_queue_is_set_at_creation_and_never_changed(service: Service) -> None:
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
        # Only system/events is reserved: other aliases below system/ are the user's.
        queue_named(own, "system%2Fown")
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
    assert preview == (
        "- channel shop/refunds\n- listener shop/orders/billing\n"
        "- queue system/own (listeners: 0, messages published: 0)\n"
        "- queue extra (listeners: 0, messages published: 0)\n"
        "= listener shop/orders/listen/me stays: `discue listen` creates it\n"
        "= queue system/events stays: the service creates it\n"
    )
    assert left == {"shop/orders", "shop/refunds", "system/events"}
    assert listeners == {"worker", "listen/me"}
    # The file does not list schedules: they are not compared.
    assert [each["alias"] for each in schedules] == ["nightly"]


CUSTOMERS = """
queues:
  shop/orders:
    listeners:
  shop/refunds:
"""


@pytest.fixture
def customers(tmp_path: Path, service: Service) -> Iterator[Service]:
    """A service of its own, with listeners of customers that the file leaves out."""
    (tmp_path / "own").mkdir()
    with (
        running(tmp_path / "own", "serve", "--port", "0", "--allow-private-targets") as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("DISCUE_URL", server.url)
        patch.setenv("DISCUE_API_KEY", server.key)
        own = Service(server.url, server.key, tmp_path, service.request)
        (tmp_path / "discue.yaml").write_text(CUSTOMERS)
        own.succeed("apply", "-f", "discue.yaml")
        for queue, listener, customer in (
            ("shop/orders", "hook", "acme"),
            ("north", "hook", "north"),
            ("rest", "a", None),
        ):
            queue_named(own, queue)
            body = {"notify_url": URL, "customer": customer}
            own.call("PUT", f"/queues/{queue.replace('/', '%2F')}/listeners/{listener}", body)
        yield own


LEFT = (
    "= listener shop/orders/hook stays: it belongs to the customer acme\n"
    "= queue north stays: its listener hook belongs to the customer north\n"
    "= queue system/events stays: the service creates it\n"
)


def test_prune_leaves_what_belongs_to_customers(customers: Service) -> None:
    for number in range(2):
        customers.call("POST", "/queues/rest/messages", {"data": number})
    preview = customers.succeed("apply", "-f", "discue.yaml", "--prune", "--dry-run")
    customers.succeed("apply", "-f", "discue.yaml", "--prune", "--yes")
    again = customers.succeed("apply", "-f", "discue.yaml", "--prune")
    left = customers.json("apply", "-f", "discue.yaml", "--prune", "--dry-run")["left"]

    assert preview == f"- queue rest (listeners: 1, messages published: 2)\n{LEFT}"
    assert again == f"Nothing differs.\n{LEFT}"
    assert left[0] == {"resource": "listener shop/orders/hook", "reason": "it belongs to the customer acme"}
    kept = customers.call("GET", "/listeners")["listeners"]
    assert {each["customer"] for each in kept} == {"acme", "north"}


def test_endpoint_that_is_created_in_the_portal_is_left(customers: Service) -> None:
    organization = customers.call("GET", "/organizations")["organizations"][0]["id"]
    queue = customers.call("PUT", "/queues/south", {"customer": "south"})["queue"]["id"]
    session = customers.call("POST", f"/organizations/{organization}/portal_sessions", {"customer": "south"})
    with Customer(customers.url) as browser:
        url = session["portal_session"]["url"]
        assert browser.get(url.removeprefix(f"{customers.url}/portal")).status_code == 303
        assert browser.act("/endpoints/new", notify_url=URL, **chosen(queue)).status_code in {200, 303}
    without_queue = customers.succeed("apply", "-f", "discue.yaml", "--prune", "--dry-run")
    (customers.folder / "discue.yaml").write_text("queues: {south: {listeners: {}}}")
    without_listener = customers.succeed("apply", "-f", "discue.yaml", "--prune", "--dry-run")

    assert "= queue south stays: it belongs to the customer south\n" in without_queue
    stays = re.findall("^= listener south/.* stays: it belongs to the customer south$", without_listener, re.MULTILINE)
    assert len(stays) == 1


def test_channel_to_the_queue_of_a_customer_is_left(customers: Service) -> None:
    customers.call("PUT", "/topics/shop", {})
    for queue in ("north", "rest"):
        found = customers.call("GET", f"/queues/{queue}")["queue"]["id"]
        customers.call("PUT", f"/topics/shop/channels/{queue}", {"queue_id": found})
    (customers.folder / "discue.yaml").write_text("topics: {shop: {channels: {}}}")

    assert customers.succeed("apply", "-f", "discue.yaml", "--prune", "--dry-run") == (
        "- channel shop/rest\n= channel shop/north stays: it leads to the queue north of the customer north\n"
    )


def test_endpoint_that_a_customer_adds_after_the_difference_is_left(
    customers: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def agreed(_: str) -> bool:
        customers.call("PUT", "/queues/rest/listeners/late", {"notify_url": URL, "customer": "late"})
        return True

    monkeypatch.setattr(apply, "is_confirmed", agreed)
    result = customers.run("apply", "-f", "discue.yaml", "--prune")

    assert result.stderr == (
        "queue rest stays: its listener late belongs to the customer late.\n0 changes were made.\n"
    )
    assert customers.call("GET", "/queues/rest")


def test_deletion_with_json_needs_yes(customers: Service) -> None:
    result = customers.run("apply", "-f", "discue.yaml", "--prune", "--json")

    assert (result.returncode, result.stdout) == (2, "")
    assert "--yes is missing: with --json" in result.stderr


def verifies(service: Service, path: str, secret: str) -> bool:
    """Whether the service has this secret for a listener."""
    try:
        service.call("POST", f"{path}/secrets", {"secret": secret})
    except AssertionError as error:
        return "already_exists" in str(error)
    return False


BILLING = "/queues/shop%2Forders/listeners/billing"


def test_secrets_of_new_listeners_are_printed_once(shop: Service) -> None:
    preview = shop.succeed("apply", "-f", "discue.yaml", "--dry-run")
    shown = shop.succeed("apply", "-f", "discue.yaml")
    (secret,) = re.findall(r"^secret shop/orders billing (whsec_\S+)$", shown, re.MULTILINE)

    assert "whsec_" not in preview
    assert shown.count("whsec_") == 1
    assert verifies(shop, BILLING, secret)
    shop.succeed("listeners", "delete", "shop/orders", "billing")
    found = shop.json("apply", "-f", "discue.yaml")
    assert verifies(shop, BILLING, found["secrets"]["shop/orders"]["billing"])
    assert found["secrets"].keys() == {"shop/orders"}
    assert "secrets" not in shop.json("apply", "-f", "discue.yaml", "--dry-run")


def test_secrets_are_written_into_a_private_file(shop: Service) -> None:
    file = shop.folder / "secrets.json"
    shop.succeed("apply", "-f", "discue.yaml", "--dry-run", "--secrets", "secrets.json")
    assert not file.exists()
    shown = shop.succeed("apply", "-f", "discue.yaml", "--secrets", "secrets.json")
    first = json.loads(file.read_text())

    assert "whsec_" not in shown
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert verifies(shop, BILLING, first["shop/orders"]["billing"])
    more = {"queues": {"shop/orders": {"listeners": {"second": {"notify_url": URL}}}, "shop/refunds": {}}}
    (shop.folder / "more.yaml").write_text(json.dumps(more))
    shown = json.dumps(shop.json("apply", "-f", "more.yaml", "--secrets", "secrets.json"))
    merged = json.loads(file.read_text())
    assert "whsec_" not in shown
    assert merged == {"shop/orders": {**first["shop/orders"], "second": merged["shop/orders"]["second"]}}
    assert [path.name for path in shop.folder.glob("secrets*")] == ["secrets.json"]


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda file: (file.write_text("{}"), file.chmod(0o640)), "Other users can read or change "),
        (lambda file: (file.write_text('["a"]'), file.chmod(0o600)), "is not a file of secrets from `discue apply`"),
        (lambda file: (file.write_text("a: b"), file.chmod(0o600)), "is not a file of secrets from `discue apply`"),
        (lambda file: file.mkdir(), "is not a regular file"),
        (lambda file: file.parent.write_text("no folder"), "Cannot write "),
    ],
    ids=["readable", "list", "text", "folder", "no folder"],
)
def test_unusable_file_of_secrets_fails_before_anything_is_changed(
    shop: Service, prepare: Callable[[Path], object], reason: str
) -> None:
    file = shop.folder / "below" / "secrets.json"
    if reason != "Cannot write ":
        file.parent.mkdir()
    prepare(file)
    result = shop.run("apply", "-f", "discue.yaml", "--secrets", str(file))

    assert (result.returncode, result.stdout.count("whsec_")) == (1, 0)
    assert reason in result.stderr
    assert shop.run("queues", "get", "shop/orders").returncode == 1


def test_file_of_secrets_that_cannot_be_written_fails_before_anything_is_changed(
    shop: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(profiles, "write_private", full)
    result = shop.run("apply", "-f", "discue.yaml", "--secrets", "secrets.json")

    assert result.returncode == 1
    assert "secrets.json: No space left on device. Name another file." in result.stderr
    assert shop.run("queues", "get", "shop/orders").returncode == 1


def test_secret_that_cannot_be_written_any_more_is_printed(shop: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> None:
        if "whsec_" in text:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_private(path, text)

    monkeypatch.setattr(profiles, "write_private", full)
    result = shop.run("apply", "-f", "discue.yaml", "--secrets", "secrets.json")
    (secret,) = re.findall(r"^secret shop/orders billing (whsec_\S+)$", result.stdout, re.MULTILINE)

    assert (result.returncode, "No space left on device" in result.stderr) == (1, True)
    assert verifies(shop, BILLING, secret)


def test_secrets_of_a_run_that_fails_later_are_printed(shop: Service) -> None:
    listeners = {"first": {"notify_url": URL}, "second": {"notify_url": "ftp://"}}
    (shop.folder / "discue.yaml").write_text(json.dumps({"queues": {"shop/orders": {"listeners": listeners}}}))
    result = shop.run("apply", "-f", "discue.yaml")
    (secret,) = re.findall(r"^secret shop/orders first (whsec_\S+)$", result.stdout, re.MULTILINE)

    assert (result.returncode, "2 of 3 changes were made" in result.stderr) == (1, True)
    assert verifies(shop, BILLING.replace("billing", "first"), secret)


def test_lost_response_with_a_secret_is_reported(shop: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    request = Discue.request

    def repeated(client: Discue, method: str, path: str, **options: Any) -> bytes:
        if method == "PUT":
            request(client, method, path, **options)
        return request(client, method, path, **options)

    monkeypatch.setattr(Discue, "request", repeated)
    result = shop.run("apply", "-f", "discue.yaml")
    monkeypatch.undo()

    assert result.returncode == 1
    (remedy,) = re.findall(r"The secret of the listener shop/orders/billing did not arrive\. .*: (.*)", result.stderr)
    assert remedy == f"discue api POST {BILLING}/secrets --data '{{}}'"


def test_refused_change_says_how_many_are_made(shop: Service) -> None:
    (shop.folder / "discue.yaml").write_text("queues: {shop/orders: {}, shop/refunds: {retentoin: 5}}")
    result = shop.run("apply", "-f", "discue.yaml")

    assert result.returncode == 1
    assert "queue shop/refunds was refused" in result.stderr
    assert "retention" in result.stderr
    assert "1 of 2 changes were made. Correct the file, and run the command again." in result.stderr


def test_error_for_a_channel_without_a_queue_names_the_field_of_the_file(shop: Service) -> None:
    (shop.folder / "discue.yaml").write_text("topics: {shop: {channels: {c: {pattern: a}}}}")
    result = shop.run("apply", "-f", "discue.yaml")

    assert result.returncode == 1
    assert "channel shop/c was refused: PUT /topics/shop/channels/c: 400 missing_field: " in result.stderr
    assert "The value at /queue is missing." in result.stderr


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
        ("", "must have one of: event_types, queues, topics."),
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
