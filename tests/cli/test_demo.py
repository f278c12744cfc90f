"""`discue demo`: a shop whose past has everything that the pages can show, and goes on."""

import re
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.commands import PATIENCE_SECONDS, Running, request, run, running

LINK = re.compile(r"Dashboard: (http://\S+)/dashboard(/open\?code=\S+)")
KEY = re.compile(r"API key: (\S+)")


class Shop:
    """A running demo, as people see it."""

    def __init__(self, server: Running) -> None:
        self.url, self._link = server.out.wait_for(LINK.pattern).groups()
        self._key = server.out.wait_for(KEY.pattern)[1]

    def get(self, path: str) -> dict[str, Any]:
        answer = request("GET", self.url + path, self._key)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def listeners(self, queue: str) -> dict[str, dict[str, Any]]:
        return {each["alias"]: each for each in self.get(f"/queues/{queue}/listeners")["listeners"]}

    def page_behind_the_link(self) -> str:
        with httpx.Client(timeout=PATIENCE_SECONDS) as browser:
            opened = browser.get(f"{self.url}/dashboard{self._link}")
            assert opened.status_code == 303, opened.text
            return browser.get(f"{self.url}/dashboard").text


@pytest.mark.torture
def test_demo_has_a_past_with_problems_and_goes_on(tmp_path: Path) -> None:
    with running(tmp_path, "demo", "--port", "0", "--hours", "3", "--speed", "20") as server:
        shop = Shop(server)
        page = shop.page_behind_the_link()
        assert "Overview" in page
        assert "crm-sync" in page

        orders = shop.listeners("orders")
        counts = {alias: each["messages"] for alias, each in orders.items()}
        assert orders["old-shop"]["status"] == "disabled"
        assert counts["tax-report"]["missed_count"] > 0
        assert counts["crm-sync"]["pending_count"] > 0
        assert counts["erp"]["acknowledged_count"] > 20
        assert counts["analytics"]["acknowledged_count"] > 0
        assert shop.listeners("invoices")["accounting"]["messages"]["pending_count"] >= 3
        of_acme, of_globex = (shop.get(f"/listeners?customer={each}")["listeners"] for each in ("acme", "globex"))
        assert of_acme[0]["messages"]["missed_count"] > 0 < of_globex[0]["messages"]["acknowledged_count"]
        [queue] = shop.get("/queues?customer=acme")["queues"]
        assert (queue["alias"], of_acme[0]["customer"]) == ("customers/acme", "acme")
        feed = f"/queues/{queue['id']}/listeners/{of_acme[0]['id']}"
        [redelivery] = shop.get(f"{feed}/redeliveries")["redeliveries"]
        assert redelivery["state"] in {"waiting", "running"}
        windows = shop.get("/stats/messages")["aggregated_api_usage_events"]
        assert windows["last_24_hours"]["message_added"] > windows["last_1_hours"]["message_added"] > 0

        before = counts["erp"]["acknowledged_count"]
        while shop.listeners("orders")["erp"]["messages"]["acknowledged_count"] == before:
            pass
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(PATIENCE_SECONDS) == 0
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_the_past_at_once(tmp_path: Path) -> None:
    with running(tmp_path, "demo", "--port", "0", "--hours", "72") as server:
        server.out.wait_for("lives through 72 hours")
        server.signal(signal.SIGINT)
        assert server.ended() == 0
        assert "Dashboard" not in server.out.text
        assert server.log.text == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--speed", "-1"), "--speed must be from 0 to 200"),
        (("--speed", "nan"), "--speed must be from 0 to 200"),
        (("--hours", "73"), "--hours must be from 0 to 72"),
    ],
)
def test_impossible_traffic_is_refused(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    ended = run(tmp_path, "demo", "--port", "0", *arguments)
    assert ended.returncode == 2
    assert told in ended.stderr


def test_database_of_another_service_is_not_filled(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/own.db"
    assert run(tmp_path, "init", "--database", database).returncode == 0
    ended = run(tmp_path, "demo", "--port", "0", "--database", database)
    assert ended.returncode == 1
    assert "it must be a new database" in ended.stderr
