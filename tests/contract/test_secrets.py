"""Signing secrets: another one, key pairs, ends, seen from the receiving side."""

import hashlib
from base64 import b64decode, b64encode

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks import Webhook, WebhookVerificationError

from tests.contract.caller import Caller, pointers
from tests.contract.reference import covers
from tests.contract.test_delivery import listening
from tests.support.receiver import Endpoint, Received, Receiver

# One worker signs with what another one stores.
SETTINGS_MEANT = ("three workers",)

PATH = "/queues/{queue_id}/listeners/{listener_id}/secrets"
ONE = f"{PATH}/{{secret_id}}"


def signatures(received: Received) -> list[str]:
    return received.headers["webhook-signature"].split(" ")


def signed_by(owner: Caller, queue: str, endpoint: Endpoint, count: int) -> Received:
    """A delivery with so many signatures: other workers hear of a change within a second."""
    for number in range(1, 200):
        owner.create(f"{queue}/messages", data={"n": number})
        received = endpoint.until(number)[-1]
        if len(signatures(received)) == count:
            endpoint.received.clear()
            return received
    raise AssertionError(endpoint.received)


def verifies(secret: str, received: Received) -> bool:
    try:
        Webhook(secret).verify(received.content, received.headers)
    except WebhookVerificationError:
        return False
    return True


@covers(f"POST {PATH} 200", f"PUT {PATH} 200", f"DELETE {ONE} 200", "secrets.md# Rotate a secret", "secrets.md# Delete")
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_another_secret_takes_the_first_ones_place(owner: Caller, receiver: Receiver, method: str) -> None:
    endpoint = receiver.endpoint()
    queue, listener = listening(owner, endpoint)
    path = f"{queue}/listeners/{listener['id']}/secrets"
    (first,) = owner.get(path)["secrets"]
    new = owner.ask(method, path, {"expire_previous_in": 3_600}).json()["secret"]

    both = signed_by(owner, queue, endpoint, 2)
    assert verifies(listener["secret"], both)
    assert verifies(new["secret"], both)
    newest = Received(both.method, {**both.headers, "webhook-signature": signatures(both)[0]}, both.content)
    assert verifies(new["secret"], newest)
    shown = owner.get(path)["secrets"]
    assert [each["id"] for each in shown] == [new["id"], first["id"]]
    assert shown[1]["expires_at"] == new["created_at"] + 3_600_000
    assert all("secret" not in each for each in shown)
    assert new["fingerprint"] == hashlib.sha256(new["secret"].encode()).hexdigest()[:16]

    assert set(owner.delete(f"{path}/{first['id']}")) == {"_links"}
    after = signed_by(owner, queue, endpoint, 1)
    assert (verifies(listener["secret"], after), verifies(new["secret"], after)) == (False, True)
    owner.refused(404, "GET", f"{path}/{first['id']}")
    owner.refused(404, "DELETE", f"{path}/{first['id']}")


@covers("secrets.md# Key pairs")
def test_key_pair_signs_in_addition_to_the_secret(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint()
    queue, listener = listening(owner, endpoint)
    path = f"{queue}/listeners/{listener['id']}/secrets"
    made = owner.create(path, type="ed25519")
    assert "secret" not in made
    assert owner.shown(f"{path}/{made['id']}") == made

    received = signed_by(owner, queue, endpoint, 2)
    versions = {version: text for version, _, text in (each.partition(",") for each in signatures(received))}
    assert set(versions) == {"v1", "v1a"}
    assert verifies(listener["secret"], received)
    key = Ed25519PublicKey.from_public_bytes(b64decode(made["public_key"].removeprefix("whpk_")))
    head = f"{received.headers['webhook-id']}.{received.headers['webhook-timestamp']}.".encode()
    key.verify(b64decode(versions["v1a"]), head + received.content)
    with pytest.raises(InvalidSignature):
        key.verify(b64decode(versions["v1a"]), head + received.content + b" ")


@covers(f"DELETE {ONE} 409", f"DELETE {ONE} 412")
def test_last_or_changed_secret_is_not_deleted(owner: Caller, receiver: Receiver) -> None:
    queue, listener = listening(owner, receiver.endpoint())
    path = f"{queue}/listeners/{listener['id']}/secrets"
    (first,) = owner.get(path)["secrets"]
    owner.refused(409, "DELETE", f"{path}/{first['id']}")
    tag = owner.ask("GET", f"{path}/{first['id']}").headers["etag"]
    owner.create(path)
    owner.refused(412, "DELETE", f"{path}/{first['id']}", headers={"If-Match": tag})
    owner.delete(f"{path}/{first['id']}")


def test_a_sixth_is_refused(owner: Caller, receiver: Receiver) -> None:
    queue, listener = listening(owner, receiver.endpoint())
    path = f"{queue}/listeners/{listener['id']}/secrets"
    for _ in range(4):
        owner.create(path)
    owner.refused(409, "POST", path)
    owner.create(path, expire_previous_in=0)
    assert len(owner.get(path)["secrets"]) == 1


@covers(f"POST {PATH} 422", f"PUT {PATH} 422")
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_invalid_secret_is_named_and_changes_nothing(owner: Caller, receiver: Receiver, method: str) -> None:
    queue, listener = listening(owner, receiver.endpoint())
    path = f"{queue}/listeners/{listener['id']}/secrets"
    short = "whsec_" + b64encode(b"x" * 23).decode()
    for content, pointer in (
        ({"type": "rsa"}, "/type"),
        ({"expire_previous_in": -1}, "/expire_previous_in"),
        ({"expire_previous_in": 604_801}, "/expire_previous_in"),
        ({"secret": short}, "/secret"),
        ({"secret": "hunter2"}, "/secret"),
        ({"secret": listener["secret"]}, "/secret"),
        ({"secret": listener["secret"], "type": "ed25519"}, "/secret"),
    ):
        refused = owner.refused(422, method, path, content)
        assert pointers(refused) == [pointer]
        assert str(content.get("secret", "hunter2")) not in str(refused)
    assert len(owner.get(path)["secrets"]) == 1
