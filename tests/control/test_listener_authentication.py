"""How the service shows a listener who it is: kept sealed, given back to nobody, and sent to no other place."""

import msgspec
import pytest
from msgspec import UNSET

from discue.control import encryption, listener_secrets, listener_tests, listeners, queues
from discue.control.context import ControlContext
from discue.control.listener_fields import ListenerFields, OptionFields
from discue.control.listener_secrets import SecretFields
from discue.control.listeners import ListenerDetails
from discue.control.queues import QueueFields
from discue.crypto.endpoint_credentials import AuthenticationFields, Credentials
from discue.crypto.keyring import key_id_in
from discue.dispatch.lane.endpoint import Endpoint, endpoint_of
from discue.domain.errors import DiscueError, Unavailable, Unprocessable
from tests.control.test_encryption import NEW, NEW_ID, OLD, OLD_ID, move_all, stored, with_keys
from tests.control.test_listener_tests import SAMPLE, Noted
from tests.dispatch.lane.test_cursor_state import RECORD
from tests.support.cast import Cast

PLACE = "https://shop.example.com/notify"
BASIC = AuthenticationFields(type="basic", username="ada", password="s3cr3t")
OAUTH2 = AuthenticationFields(
    type="oauth2", token_url="https://login.example.com/token", client_id="ada", client_secret="s3cr3t"
)
GIVEN_BACK = AuthenticationFields(type="basic", username="ada")


async def make(
    control: ControlContext, cast: Cast, authentication: AuthenticationFields | None = BASIC
) -> ListenerDetails:
    queue = (await queues.create(control, cast.alice.principal, QueueFields())).queue.public_id
    fields = ListenerFields(notify_url=PLACE, liveness_url=PLACE, authentication=authentication)
    return await listeners.create(control, cast.alice.principal, queue, fields)


def path_of(made: ListenerDetails) -> tuple[str, str]:
    return made.listener.queue_public_id, made.listener.public_id


async def change(control: ControlContext, cast: Cast, made: ListenerDetails, **fields: object) -> ListenerDetails:
    changed = msgspec.structs.replace(ListenerFields(), **fields)
    return await listeners.change(control, cast.alice.principal, *path_of(made), fields=changed)


async def kept(control: ControlContext, made: ListenerDetails) -> Credentials | None:
    return encryption.credentials_of(control, await stored(control, made))


def pointers(error: DiscueError) -> list[str]:
    return [fault.pointer for fault in error.faults]


@pytest.mark.parametrize("given", [BASIC, OAUTH2])
async def test_credentials_are_encrypted_with_the_signing_secrets(
    cast: Cast, control: ControlContext, given: AuthenticationFields
) -> None:
    control = with_keys(control, OLD)
    await encryption.begin(control, OLD_ID)
    made = await make(control, cast, given)
    row = await stored(control, made)
    assert (key_id_in(row.secrets), b"s3cr3t" in row.secrets) == (OLD_ID, False)
    assert [secret.text for secret in encryption.secrets_of(control, row).signing] == [made.secret]
    credentials = await kept(control, made)
    assert credentials is not None
    assert (credentials.secret, credentials.public) == ("s3cr3t", row.options.authentication)
    assert "s3cr3t" not in repr(made) + repr(row) + msgspec.json.encode(row.options).decode()


async def test_credentials_survive_rotations_of_key_and_secrets(cast: Cast, control: ControlContext) -> None:
    control = with_keys(control, OLD, NEW)
    await encryption.begin(control, OLD_ID)
    made = await make(control, cast)
    await listener_secrets.create(control, cast.alice.principal, path_of(made), SecretFields())
    before = await kept(control, made)
    await encryption.begin(control, NEW_ID)
    await move_all(control, NEW_ID)
    assert key_id_in((await stored(control, made)).secrets) == NEW_ID
    assert await kept(with_keys(control, NEW), made) == before
    assert before is not None


async def test_null_removes_credentials_and_other_ones_replace_them(cast: Cast, control: ControlContext) -> None:
    made = await make(control, cast)
    version = made.listener.config_version
    await change(control, cast, made, authentication=OAUTH2)
    credentials = await kept(control, made)
    assert credentials is not None
    assert credentials.public.type == "oauth2"
    cleared = await change(control, cast, made, authentication=None)
    assert (await kept(control, made), cleared.listener.options.authentication) == (None, None)
    assert cleared.listener.config_version == version + 2
    assert [secret.text for secret in encryption.secrets_of(control, await stored(control, made)).signing] == [
        made.secret
    ]


async def test_credentials_are_kept_if_sent_without_a_secret_or_omitted(cast: Cast, control: ControlContext) -> None:
    made = await make(control, cast)
    before = await kept(control, made)
    await change(control, cast, made, authentication=GIVEN_BACK, alias="other-name")
    await change(control, cast, made, notify_url="https://shop.example.com:443/elsewhere")
    assert await kept(control, made) == before


@pytest.mark.parametrize(
    "place", ["https://evil.example.com/notify", "http://shop.example.com/notify", "https://shop.example.com:8443/"]
)
@pytest.mark.parametrize("given", [UNSET, GIVEN_BACK], ids=["omitted", "as shown"])
async def test_new_origin_of_notify_url_requires_the_secret(
    cast: Cast, control: ControlContext, place: str, given: object
) -> None:
    made = await make(control, cast)
    with pytest.raises(Unprocessable) as refused:
        await change(control, cast, made, notify_url=place, authentication=given)
    assert pointers(refused.value) == ["/authentication"]
    assert (await stored(control, made)).notify_url == PLACE
    await change(control, cast, made, notify_url=place, authentication=BASIC)
    moved = await make(control, cast)
    await change(control, cast, moved, notify_url=place, authentication=None)


async def test_authorization_header_and_credentials_exclude_each_other(cast: Cast, control: ControlContext) -> None:
    taken = OptionFields(headers={"AUTHORIZATION": "Bearer x"})
    made = await make(control, cast)
    with pytest.raises(Unprocessable) as refused:
        await change(control, cast, made, options=taken)
    assert pointers(refused.value) == ["/headers/AUTHORIZATION"]
    other = await make(control, cast, None)
    await change(control, cast, other, options=taken)
    with pytest.raises(Unprocessable):
        await change(control, cast, other, authentication=BASIC)
    await change(control, cast, other, authentication=BASIC, options=OptionFields(headers=None))


async def test_token_url_at_a_private_address_is_rejected(cast: Cast, control: ControlContext) -> None:
    for url in ("http://169.254.169.254/latest", "https://10.0.0.1/token", "https://[::1]/"):
        with pytest.raises(Unprocessable) as refused:
            await make(control, cast, msgspec.structs.replace(OAUTH2, token_url=url))
        assert pointers(refused.value) == ["/authentication/token_url"]


async def test_test_request_sends_the_credentials(cast: Cast, control: ControlContext) -> None:
    noted = Noted()
    for given in (BASIC, OAUTH2):
        made = await make(control, cast, given)
        await listener_tests.send(control, cast.alice.principal, path_of(made), SAMPLE, sender=noted)
    basic, oauth2 = noted.requests
    assert ("authorization", "Basic YWRhOnMzY3IzdA==") in basic.headers
    assert oauth2.grant is not None
    assert "s3cr3t" not in repr(oauth2) + repr(oauth2.grant)


async def _endpoint(control: ControlContext, made: ListenerDetails) -> Endpoint:
    row = await stored(control, made)
    record = msgspec.structs.replace(
        RECORD,
        organization=row.organization,
        listener=row.id,
        listener_public_id=row.public_id,
        secrets=row.secrets,
        notify_url=row.notify_url,
        liveness_url=row.liveness_url,
        options=row.options,
    )
    return endpoint_of(record, control.keyring, max_in_flight=50, timeout_ms=15_000)


async def test_test_request_is_rejected_if_the_credentials_are_lost(cast: Cast, control: ControlContext) -> None:
    control = with_keys(control, OLD)
    await encryption.begin(control, OLD_ID)
    made = await make(control, cast)
    assert ("authorization", "Basic YWRhOnMzY3IzdA==") in (await _endpoint(control, made)).headers
    control = with_keys(control, NEW)
    await encryption.begin(control, NEW_ID)
    await move_all(control, NEW_ID, replace_lost=True)
    with pytest.raises(ValueError, match="lost"):
        await _endpoint(control, made)
    with pytest.raises(Unavailable, match="again"):
        await listener_tests.send(control, cast.alice.principal, path_of(made), SAMPLE, sender=Noted())
    await change(control, cast, made, authentication=BASIC)
    assert ("authorization", "Basic YWRhOnMzY3IzdA==") in (await _endpoint(control, made)).headers
