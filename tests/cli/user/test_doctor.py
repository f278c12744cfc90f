"""`discue doctor`: each check with the sentence that a person sees."""

import json
import re
from pathlib import Path

import pytest

from discue_client import SignatureInvalid, Webhook
from tests.cli.commands import run, running, serving
from tests.cli.user.local_server import LocalServer, local_server
from tests.cli.user.test_listen import SECRET
from tests.support.ports import free_port


def verifying(local: LocalServer) -> None:
    """Let a server accept only requests that are signed with the secret."""

    def respond(message_id: str, body: bytes) -> tuple[int, bytes]:
        try:
            Webhook(SECRET).verify(body, local.headers_of(message_id))
        except SignatureInvalid:
            return 401, b""
        return 204, b""

    local.respond = respond


@pytest.fixture(autouse=True)
def no_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing names a service: no variable, no profile."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    for name in ("DISCUE_URL", "DISCUE_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def findings(folder: Path, *arguments: str) -> tuple[int, dict[str, tuple[str, str]]]:
    result = run(folder, "doctor", *arguments, "--json")
    found = json.loads(result.stdout)["findings"]
    return result.returncode, {each["check"]: (each["level"], each["detail"]) for each in found}


def test_receiver_that_verifies_signatures_is_fine(tmp_path: Path) -> None:
    with local_server() as local:
        verifying(local)
        code, found = findings(tmp_path, local.url, "--secret", SECRET)
        text = run(tmp_path, "doctor", local.url).stdout

    assert code == 0
    assert found["response"] == ("ok", "It accepts a signed test request (204).")
    assert found["forgery"] == ("ok", "It refuses a request with a wrong signature (401).")
    assert found["clock"][0] == found["latency"][0] == "ok"
    assert found["address"] == (
        "warning",
        "127.0.0.1 is refused by a service (loopback), unless its operator sets allow_private_targets.",
    )
    assert "✓ response  It refuses an unknown signature. Give --secret to test with the right one.\n" in text
    assert {each.headers["discue-test"] for each in local.received} == {"true"}


def test_receiver_that_accepts_forged_requests_has_a_problem(tmp_path: Path) -> None:
    with local_server() as local:
        code, found = findings(tmp_path, local.url)

    assert code == 1
    assert found["forgery"] == ("problem", "It accepts a request with a wrong signature: verify signatures there.")


def test_wrong_secret_is_a_problem(tmp_path: Path) -> None:
    with local_server() as local:
        verifying(local)
        code, found = findings(tmp_path, local.url, "--secret", SECRET.replace("MDEy", "MDEz"))

    assert code == 1
    assert found["response"][1].startswith("It refuses the signature (401). Its secret differs")


@pytest.mark.parametrize(
    ("response", "check", "detail"),
    [
        (b"HTTP/1.1 301 x\r\nlocation: https://a.example/\r\n", "response", "It redirects to https://a.example/;"),
        (b"HTTP/1.1 404 x\r\n", "response", "It has no handler for POST at this path (404)."),
        (b"HTTP/1.1 503 x\r\n", "response", "The listener responded with 503"),
        (b"HTTP/1.1 204 x\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n", "clock", "differ by "),
    ],
    ids=["redirect", "missing", "failing", "clock"],
)
def test_wrong_response_is_explained(tmp_path: Path, response: bytes, check: str, detail: str) -> None:
    whole = response + b"content-length: 0\r\nconnection: close\r\n\r\n"
    with local_server(raw=whole) as local:
        code, found = findings(tmp_path, local.url)

    assert code == 1
    assert found[check][0] == "problem"
    assert detail in found[check][1]


def test_service_says_which_addresses_it_allows(tmp_path: Path) -> None:
    with serving(tmp_path, "--allow-private-targets", "10.0.0.0/8") as server, local_server() as local:
        service = {"DISCUE_URL": server.url, "DISCUE_API_KEY": server.key}
        refused = run(tmp_path, "doctor", local.url, **service).stdout
    away = run(tmp_path, "doctor", f"http://127.0.0.1:{free_port()}/", **service)

    assert (
        f"! address   127.0.0.1 is refused by {server.url} (loopback), unless it is in a network that its operator "
        "allows with allow_private_targets.\n"
    ) in refused
    assert f"Whether the service allows private addresses is not known. GET /limits: no response from {server.url}" in (
        away.stderr
    )
    assert "! address   127.0.0.1 is refused by a service (loopback)" in away.stdout


def test_inbox_of_dev_is_fine_in_its_directory(tmp_path: Path) -> None:
    with running(tmp_path, "dev", "--port", "0") as server:
        url = server.out.wait_for(r"is ready at (http://\S+)")[1]
        code, found = findings(tmp_path, f"{url}/inbox")
        named = findings(tmp_path, f"{url.replace('127.0.0.1', 'localhost')}/inbox")[1]
        with local_server(lambda _, __: (500, b"KeyError: 'order'")) as local:
            made = run(tmp_path, "listeners", "set", "demo", "app", "--url", local.url)
            tested = run(tmp_path, "listeners", "test", "demo", "app")

    assert {level for level, _ in found.values()} == {"ok"}
    assert named["url"][0] == "ok"
    assert re.match("localhost has (1 address|[2-9] addresses), found in ", named["name"][1])
    assert code == 0
    assert found["address"][1] == f"127.0.0.1 is allowed by {url} (loopback)."
    assert found["forgery"][1] == "It is the inbox of `discue dev`, which shows forged requests, too."
    assert made.returncode == 0
    assert tested.returncode == 1
    assert tested.stdout.endswith(
        ": The listener responded with 500 Internal Server Error. Its response begins: KeyError: 'order'\n"
    )


def test_server_that_is_away_and_unknown_name_are_problems(tmp_path: Path) -> None:
    code, found = findings(tmp_path, f"http://127.0.0.1:{free_port()}/")
    assert (code, found["response"]) == (1, ("problem", "The connection was refused."))
    code, found = findings(tmp_path, "https://nowhere.invalid/")
    assert (code, found["name"][0]) == (1, "problem")
    assert "nowhere.invalid cannot be resolved" in found["name"][1]


def test_url_that_is_none_is_wrong_usage(tmp_path: Path) -> None:
    result = run(tmp_path, "doctor", "ftp://localhost:8000")

    assert result.returncode == 2
    assert "The URL ftp://localhost:8000 must be an absolute http or https URL." in result.stderr


def test_short_form_of_a_url_means_this_machine(tmp_path: Path) -> None:
    port = free_port()
    _, found = findings(tmp_path, f"{port}/hook")

    assert found["url"] == ("ok", f"http://localhost:{port}/hook")


def test_server_without_tls_is_named(tmp_path: Path) -> None:
    with local_server() as local:
        code, found = findings(tmp_path, local.url.replace("http:", "https:"))

    assert (code, found["tls"]) == (
        1,
        ("problem", "127.0.0.1 does not speak TLS at this port: the URL needs http:// or another port."),
    )


def test_handler_that_expects_other_data_is_shown_with_its_response(tmp_path: Path) -> None:
    with local_server() as local:
        local.respond = lambda _, body: (204, b"") if b"order" in body else (500, b"KeyError: 'order'\n\x1b[2J")
        code, found = findings(tmp_path, local.url, "--secret", SECRET)
        text = run(tmp_path, "doctor", local.url).stdout
        accepted = findings(tmp_path, local.url, "--secret", SECRET, "--data", '{"order": 17}')[1]["response"]
        refused = run(tmp_path, "doctor", local.url, "--data", "{")

    expected = (
        "The listener responded with 500 Internal Server Error. If it expects other data than "
        "{\"test\": true}, give --data. Its response begins: KeyError: 'order'"
    )
    assert (code, found["response"][0]) == (1, "problem")
    assert found["response"][1].startswith(expected)
    assert found["forgery"] == (
        "warning",
        "Whether it refuses wrong signatures is not known: it responded to one with 500.",
    )
    assert f"✗ response  {expected} \\x1b[2J\n" in text
    assert accepted == ("ok", "It accepts a signed test request (204).")
    assert json.loads(local.received[-1].body) == {"order": 17}
    assert (refused.returncode, "The data is not JSON" in refused.stderr) == (2, True)
