"""Sources of the URL and the key, and when a request is sent again."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from discue_client import AsyncDiscue, ConfigurationError, Discue
from discue_client.configuration import Configuration, RetryPolicy, is_retried, retry_after_of

URL = "http://127.0.0.1:1"
DATE = "Fri, 27 Nov 2026 07:00:00 GMT"


def test_url_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCUE_URL", "https://discue.example.com/v1/")
    monkeypatch.setenv("DISCUE_API_KEY", "dsk_secret")

    assert repr(Discue()) == "Discue('https://discue.example.com/v1')"
    assert repr(AsyncDiscue(URL)) == f"AsyncDiscue({URL!r})"


def test_missing_url_and_key_say_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match="set DISCUE_URL"):
        Discue(api_key="dsk_x")
    with pytest.raises(ConfigurationError, match="set DISCUE_API_KEY"):
        Discue(URL)


def stored(folder: Path, **profile: str) -> None:
    folder.mkdir()
    (folder / "profiles.json").write_text(json.dumps({"profiles": {"default": profile}}))


@pytest.mark.parametrize("arguments", [{}, {"url": f"{URL}/"}, {"api_key": "dsk_other"}])
def test_stored_profile_gives_missing_values(configuration_folder: Path, arguments: dict[str, str]) -> None:
    stored(configuration_folder, url=URL, api_key="dsk_stored")

    found = Configuration.of(arguments.get("url"), arguments.get("api_key"))

    assert found == Configuration(URL, arguments.get("api_key", "dsk_stored"))


def test_stored_key_is_not_sent_to_another_service(configuration_folder: Path) -> None:
    stored(configuration_folder, url=URL, api_key="dsk_stored")
    with pytest.raises(ConfigurationError, match="The API key is missing"):
        Discue("http://127.0.0.1:2")


def test_profile_with_its_key_in_the_keyring(configuration_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(configuration_folder, url=URL, api_key="")
    keys = {("discue", "default"): "dsk_secret"}
    keyring = SimpleNamespace(get_password=lambda service, name: keys.get((service, name)))
    monkeypatch.setitem(sys.modules, "keyring", keyring)

    assert Configuration.of(None, None).api_key == "dsk_secret"


@pytest.mark.parametrize("content", ["", "[]", '{"profiles": []}', '{"profiles": {"default": {"url": 1}}}', "\xff"])
def test_profile_that_cannot_be_read_is_named(configuration_folder: Path, content: str) -> None:
    configuration_folder.mkdir()
    (configuration_folder / "profiles.json").write_text(content, "latin-1")

    with pytest.raises(ConfigurationError, match=r"^Cannot read the profiles of `discue login` in .*profiles\.json: "):
        Discue()


@pytest.mark.parametrize(
    "url",
    ["discue.example.com", "ftp://x", "http://", "http://x:99999", "http://u:secret@x", "http://x?a=1", "http://["],
)
def test_unusable_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Discue(url, "dsk_x")

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["dsk_a\r\nx-other: 1", "dsk_ä", "dsk a"])
def test_key_that_no_header_can_carry_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Discue(URL, key)

    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "Fri, 27 Nov 2026 07:00:30 GMT", "date": DATE}, 30),
        ({"retry-after": "Fri, 27 Nov 2026 06:00:00 GMT", "date": DATE}, 0),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "soon"}, None),
    ],
)
def test_retry_after_is_read_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_of(headers) == seconds


def test_waits_double_with_jitter_up_to_a_limit() -> None:
    longest = RetryPolicy(random=lambda: 1.0)
    shortest = RetryPolicy(random=lambda: 0.0)

    assert [longest.wait(attempt, 0, None) for attempt in (1, 2, 3, 9)] == [0.1, 0.2, 0.4, 5.0]
    assert shortest.wait(3, 0, None) == 0.2


def test_wait_never_exceeds_the_deadline_or_falls_below_retry_after() -> None:
    policy = RetryPolicy(deadline=10, attempts=3, random=lambda: 0.5)

    assert policy.wait(1, 9.99, None) is None
    assert policy.wait(1, 1.0, 9.5) is None
    assert (policy.wait(1, 0.0, 4.0) or 0) >= 4.0
    assert policy.wait(3, 0.0, None) is None


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520])
def test_failures_that_may_pass_are_retried(status: int) -> None:
    assert is_retried(status, None)


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 409, 413, 422, 501, 505])
def test_failures_that_stay_are_not_retried(status: int) -> None:
    assert not is_retried(status, None)


def test_conflict_is_retried_only_while_the_first_request_is_in_flight() -> None:
    assert is_retried(409, "request_in_flight")
    assert not is_retried(409, "last_admin_key")
