from base64 import b64encode
from datetime import UTC, datetime

import pytest

from discue.testing import signed_headers
from discue_client import Reason, SignatureInvalid, Webhook
from tests.clients.python.signed import PUBLIC_KEY, SECRET

BODY = b'{"order": 17}'
PRIVATE_KEY = "whsk_" + b64encode(bytes(range(32, 64))).decode()


@pytest.mark.parametrize(("secret", "verifies"), [(SECRET, SECRET), (PRIVATE_KEY, PUBLIC_KEY)], ids=["v1", "v1a"])
def test_signed_headers_are_those_of_a_genuine_request(secret: str, verifies: str) -> None:
    event = Webhook(verifies).unwrap(BODY, signed_headers(BODY, secret, attempt=3, sequence=17))

    assert (event.data, event.attempt, event.sequence, len(event.id)) == ({"order": 17}, 3, 17, 21)


def test_headers_can_be_signed_at_another_time_for_a_given_message() -> None:
    headers = signed_headers(BODY, SECRET, message_id="0Vbva8VC00enQiJ4MzFhE", at=datetime(2020, 1, 1, tzinfo=UTC))

    assert headers["webhook-id"] == "0Vbva8VC00enQiJ4MzFhE"
    with pytest.raises(SignatureInvalid) as refusal:
        Webhook(SECRET).unwrap(BODY, headers)
    assert refusal.value.reason is Reason.EXPIRED


def test_secret_of_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match="a signing secret must be whsec_ and base64"):
        signed_headers(BODY, "secret!")
