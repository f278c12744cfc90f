"""Keys, and who is locked out."""

from collections.abc import Iterator

import pytest

from tests.contract.begun import Begun
from tests.contract.caller import Caller, client_at, fresh, problem, some_address
from tests.contract.reference import covers
from tests.contract.serving import PROXY

# Failures that one worker counts lock an address out at all workers.
SETTINGS_MEANT = ("three workers",)

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


def test_an_expired_key_is_unauthorized(begun: Begun) -> None:
    key = begun.expiring_key
    assert key["expires_at"] == begun.expires_at
    assert begun.owner.with_key(key["key"]).until_status(401, "/queues").json()["code"] == "key_expired"
    begun.owner.refused(422, "POST", "/api_keys", {"expires_at": 1})


def test_response_does_not_reveal_the_wrong_part_of_a_key(stranger: Caller, owner: Caller) -> None:
    known = str(owner.key)
    told = {
        problem(stranger.with_key(key).ask("GET", "/queues"), 401)["detail"]
        for key in (known[:-1] + ("a" if known[-1] != "a" else "b"), UNKNOWN, "x")
    }
    assert len(told) == 1


def wrong(key: str | None) -> str:
    """Return the key with a wrong secret."""
    known = str(key)
    return known[:-1] + ("a" if known[-1] != "a" else "b")


@pytest.fixture
def another_stranger(stranger: Caller) -> Iterator[Caller]:
    """Calls from another address of its own."""
    with client_at(some_address()) as client:
        yield Caller(stranger.installation, client, None)


@covers("authentication.md: 403", "authentication.md# Lockout", "authentication.md: with any other key")
def test_after_five_failures_unknown_keys_are_locked_out_at_the_address(
    stranger: Caller, another_stranger: Caller
) -> None:
    for _ in range(5):
        stranger.with_key(UNKNOWN).refused(401, "GET", "/queues")
    answer = stranger.with_key(UNKNOWN).until_status(403, "/queues")
    assert problem(answer, 403)["code"] == "locked_out"
    assert 0 < int(answer.headers["retry-after"]) <= 60
    # Malformed keys, and ids that no key has had, are locked out with it.
    for key in ("x", "dsk_" + "1" * 53):
        assert problem(stranger.with_key(key).ask("GET", "/queues"), 403)["code"] == "locked_out"
    another_stranger.with_key(UNKNOWN).refused(401, "GET", "/queues")


@covers("authentication.md: with the id of an existing key and a wrong secret")
def test_after_five_wrong_secrets_the_key_is_locked_out_at_that_address_and_its_owner_goes_on(
    stranger: Caller, another_stranger: Caller, owner: Caller
) -> None:
    key = owner.create("/api_keys")["key"]
    for _ in range(5):
        stranger.with_key(wrong(key)).refused(401, "GET", "/queues")
    # The right secret makes no difference.
    for presented in (wrong(key), key):
        answer = stranger.with_key(presented).until_status(403, "/queues")
        assert problem(answer, 403)["code"] == "locked_out"
        assert 0 < int(answer.headers["retry-after"]) <= 60
    # The owner at another address, and other keys at this address, are not locked out.
    for caller in (owner.with_key(key), another_stranger.with_key(key), stranger.with_key(owner.key)):
        caller.until_status(200, "/queues")
    stranger.with_key(UNKNOWN).refused(401, "GET", "/queues")


def test_attempts_with_the_id_of_a_key_from_many_addresses_do_not_lock_out_its_owner(
    stranger: Caller, owner: Caller
) -> None:
    key = owner.create("/api_keys")["key"]
    for _ in range(4):
        with client_at(some_address()) as client:
            attacker = Caller(stranger.installation, client, wrong(key))
            for _ in range(5):
                attacker.refused(401, "GET", "/queues")
            attacker.until_status(403, "/queues")
    owner.with_key(key).until_status(200, "/queues")
    stranger.with_key(key).until_status(200, "/queues")


def test_a_deleted_key_that_is_still_used_does_not_lock_out_valid_keys_at_its_address(
    stranger: Caller, owner: Caller
) -> None:
    deleted, used, unused = (owner.create("/api_keys") for _ in range(3))
    neighbour = stranger.with_key(used["key"])
    assert neighbour.get("/topics")["topics"] == []
    owner.delete(f"/api_keys/{deleted['id']}")
    job = stranger.with_key(deleted["key"])
    job.until_status(403, "/queues")
    for _ in range(10):
        job.refused(403, "GET", "/queues")
        assert neighbour.get("/topics")["topics"] == []
    # No worker has seen this key before.
    stranger.with_key(unused["key"]).until_status(200, "/queues")
    # An existing key with a wrong secret still gets 401.
    stranger.with_key(wrong(unused["key"])).refused(401, "GET", "/queues")


@pytest.fixture
def proxy(operator: Caller) -> Iterator[Caller]:
    """Calls from the address that the service trusts as a proxy."""
    if not operator.installation.is_ours:
        pytest.skip("Only a service that the suite starts trusts its proxy.")
    with client_at(PROXY) as client:
        yield Caller(operator.installation, client, None)


def test_addresses_of_one_ipv6_64_network_are_locked_out_together(proxy: Caller, owner: Caller) -> None:
    key = owner.create("/api_keys")["key"]
    network, other = (f"2001:db8:{fresh()[-4:]}:{number}:" for number in (1, 2))

    def statuses(presented: str | None, *addresses: str) -> list[int]:
        caller = proxy.with_key(presented)
        return [caller.ask("GET", "/queues", headers={"X-Forwarded-For": each}).status_code for each in addresses]

    for presented in (wrong(key), UNKNOWN):
        # A worker that does not know the lockout yet learns of it at the first attempt that it counts.
        asked = statuses(presented, *(f"{network}:{number}" for number in range(1, 12)))
        assert asked == [401] * 5 + [403] * 6
        assert statuses(presented, f"{other}:1") == [401]
    assert statuses(key, *[f"{network}:ffff"] * 3) == [403] * 3
    assert statuses(owner.key, *[f"{network}:1"] * 3) == [200] * 3
    assert statuses(key, *[f"{other}:1"] * 3) == [200] * 3


def test_no_key_and_a_disabled_one_do_not_lock_out(stranger: Caller, owner: Caller) -> None:
    key = owner.create("/api_keys", status="disabled")["key"]
    for _ in range(5):
        stranger.refused(401, "GET", "/queues")
        stranger.with_key(key).refused(401, "GET", "/queues")
    stranger.with_key(key).refused(401, "GET", "/queues")
    stranger.with_key(UNKNOWN).refused(401, "GET", "/queues")


def test_forwarding_header_of_an_untrusted_peer_is_ignored(stranger: Caller) -> None:
    for number in range(5):
        elsewhere = {"X-Forwarded-For": f"192.0.2.{number}", "Forwarded": f"for=192.0.2.{number}"}
        stranger.with_key(UNKNOWN).refused(401, "GET", "/queues", headers=elsewhere)
    stranger.with_key(UNKNOWN).until_status(403, "/queues")
