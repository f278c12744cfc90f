"""The dashboard on a port of its own."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from discue.api.app import dashboard_hint, metrics_hint
from discue.config.settings import Settings
from tests.support.ports import free_port
from tests.support.served_process import KEY, served_process


def test_dashboard_is_served_on_its_own_port_only(tmp_path: Path) -> None:
    port = free_port()
    own = f"http://127.0.0.1:{port}"
    with (
        served_process(f"sqlite:///{tmp_path}/discue.db", dashboard_port=port) as server,
        httpx.Client(trust_env=False) as client,
    ):
        absent = client.get(f"{server.url}/dashboard/sign-in")
        assert (absent.status_code, absent.json()["code"]) == (404, "no_route")
        assert (
            absent.json()["detail"] == "The dashboard has a port of its own: the setting `dashboard_port` says which."
        )
        assert client.get(server.url, headers={"accept": "text/html,*/*"}).json()["name"] == "discue"
        assert '<a href="../dashboard" hidden>' in client.get(f"{server.url}/docs/delivery").text

        assert client.get(own, headers={"accept": "text/html,*/*"}).headers["location"] == "dashboard"
        assert '<a href="../dashboard">' in client.get(f"{own}/docs/delivery").text
        assert client.get(f"{own}/queues", headers={"x-api-key": KEY}).status_code == 404
        assert f"URL={server.url}\n" in client.get(f"{own}/docs/api").text

        invited = {"email": "grace@example.com", "role": "viewer", "invite": True}
        made = client.post(f"{server.url}/users", headers={"x-api-key": KEY}, json=invited).json()
        assert made["invitation"]["url"].startswith(f"{own}/dashboard/invitation#")
        ended = client.get(f"{own}/dashboard/open?code=unknown")
        assert (ended.status_code, "Sign in with an email address" in ended.text) == (403, True)
        assert "discue users create" not in ended.text
        fields = {"email": "ada@example.com", "password": "correct horse battery"}
        client.post(f"{server.url}/users", headers={"x-api-key": KEY}, json={**fields, "role": "owner"})
        signed_in = client.post(f"{own}/dashboard/sign-in", data=fields, headers={"sec-fetch-site": "same-origin"})
        assert signed_in.headers["location"] == "../dashboard", signed_in.text
        commands = re.findall(r"curl (http://\S+)/topics", client.get(f"{own}/dashboard/topics").text)
        assert commands == [server.url]
        refused = client.get(f"{own}/dashboard/nothing", headers={"accept": "application/json"}).json()
        assert refused["type"] == f"{server.url}/docs/errors/not_found"
        assert client.get(refused["type"]).status_code == 200


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({}, ""),
        ({"dashboard_port": 4000, "dashboard": False}, ""),
        ({"dashboard_port": 4000, "role": "dispatch"}, ""),
        ({"dashboard_port": 4000}, "The dashboard has a port of its own: the setting `dashboard_port` says which."),
        (
            {"dashboard_port": 4000, "dashboard_url": "https://board.example.com/"},
            "The dashboard is at https://board.example.com/dashboard.",
        ),
    ],
)
def test_api_names_the_dashboard_that_has_a_url_of_its_own(settings: dict[str, Any], hint: str) -> None:
    assert dashboard_hint(Settings(**settings)) == hint


def test_api_names_the_settings_of_metrics_that_it_does_not_serve() -> None:
    assert metrics_hint(Settings()) == "No metrics are served. Set `metrics_key` or `metrics_port`."
    assert "a port of their own" in metrics_hint(Settings(metrics_port=9_000))
    assert metrics_hint(Settings(metrics_key="k" * 16)) == ""
