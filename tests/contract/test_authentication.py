"""Keys, and who is locked out."""

import time

import pytest

from tests.contract.caller import Caller, problem
from tests.contract.reference import covers

UNKNOWN = "dsk_" + "0" * 53
MALFORMED = ["", "x", "dsk_", "dsk_" + "0" * 5, "key_" + "0" * 53, "dsk_" + "~" * 53]


@covers("authentication.md: 401")
@pytest.mark.parametrize("key", [None, *MALFORMED, UNKNOWN], ids=str)
def test_invalid_key_is_unauthorized(stranger: Caller, key: str | None) -> None:
    answer = stranger.with_key(key).ask("GET", "/queues")
    content = problem(answer, 401)
    assert content["title"] == "Unauthorized"
    assert content["code"] == ("key_unknown" if key else "key_missing")
    assert answer.headers["www-authenticate"]
    assert key in {None, "", "x"} or str(key) not in answer.text


def test_the_name_of_the_header_is_read_in_any_case(owner: Caller) -> None:
    assert owner.with_key(None).ask("GET", "/queues", headers={"x-Api-kEy": str(owner.key)}).status_code == 200


def test_a_disabled_key_and_a_deleted_one_are_unauthorized_within_a_second(stranger: Caller, owner: Caller) -> None:
    key = owner.create("/api_keys")
    used = stranger.with_key(key["key"])
    assert used.get("/topics")["topics"] == []
    owner.change(f"/api_keys/{key['id']}", status="disabled")
    refused = used.until_status(401, "/queues")
    assert (refused.json()["code"], "www-authenticate" in refused.headers) == ("key_disabled", True)
    owner.change(f"/api_keys/{key['id']}", status="enabled")
    used.until_status(200, "/queues")


def test_an_expired_key_is_unauthorized(owner: Caller) -> None:
    soon = time.time_ns() // 1_000_000 + 500
    key = owner.create("/api_keys", expires_at=soon)
    assert key["expires_at"] == soon
    assert owner.with_key(key["key"]).until_status(401, "/queues").json()["code"] == "key_expired"
    owner.refused(422, "POST", "/api_keys", {"expires_at": 1})


def test_response_does_not_reveal_the_wrong_part_of_a_key(stranger: Caller, owner: Caller) -> None:
    known = str(owner.key)
    told = {
        problem(stranger.with_key(key).ask("GET", "/queues"), 401)["detail"]
        for key in (known[:-1] + ("a" if known[-1] != "a" else "b"), UNKNOWN, "x")
    }
    assert len(told) == 1


@covers("authentication.md: 403", "authentication.md# Lockout", "authentication.md: with anything else")
def test_after_five_failures_an_address_is_locked_out_with_valid_keys_too(stranger: Caller, owner: Caller) -> None:
    for _ in range(5):
        stranger.with_key(UNKNOWN).refused(401, "GET", "/queues")
    answer = stranger.with_key(owner.key).until_status(403, "/queues")
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert owner.get("/topics")["topics"] == []


@covers("authentication.md: with the id of a key that exists, and a wrong secret")
def test_after_five_wrong_secrets_the_key_is_locked_out_wherever_it_is_used(stranger: Caller, owner: Caller) -> None:
    key = owner.create("/api_keys")["key"]
    wrong = key[:-1] + ("a" if key[-1] != "a" else "b")
    for _ in range(5):
        stranger.with_key(wrong).refused(401, "GET", "/queues")
    assert "retry-after" in owner.with_key(key).until_status(403, "/queues").headers
    assert stranger.with_key(owner.key).get("/topics")["topics"] == []


def test_no_key_and_a_disabled_one_do_not_lock_out(stranger: Caller, owner: Caller) -> None:
    key = owner.create("/api_keys", status="disabled")["key"]
    for _ in range(5):
        stranger.refused(401, "GET", "/queues")
        stranger.with_key(key).refused(401, "GET", "/queues")
    assert stranger.with_key(owner.key).get("/topics")["topics"] == []


def test_a_header_that_names_an_address_is_not_believed(stranger: Caller, owner: Caller) -> None:
    for number in range(5):
        elsewhere = {"X-Forwarded-For": f"192.0.2.{number}", "Forwarded": f"for=192.0.2.{number}"}
        stranger.with_key(UNKNOWN).refused(401, "GET", "/queues", headers=elsewhere)
    stranger.with_key(owner.key).until_status(403, "/queues")
