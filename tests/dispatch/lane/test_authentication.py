"""Authentication of requests to listeners: headers, a token grant or a client certificate."""

from discue.crypto.endpoint_credentials import Credentials, encode_credentials
from discue.domain.model import Authentication, DeliveryOptions, Listener
from discue.store import listeners
from discue.store.engine import Transaction
from tests.dispatch.stage import Sent, Stage, until, well

BASIC = Credentials(Authentication("basic", username="ada"), "s3cr3t")
OAUTH2 = Credentials(Authentication("oauth2", token_url="https://login.example.com/token", client_id="ada"), "s3cr3t")
CERTIFICATE = Credentials(Authentication("certificate", certificate="c"), "k")


async def _show(stage: Stage, listener: Listener, credentials: Credentials | None) -> Listener:
    """Have it shown from now on."""
    public = None if credentials is None else credentials.public

    async def work(tx: Transaction) -> None:
        await listeners.set_secrets(tx, listener.organization, listener.id, encode_credentials((), credentials))

    await stage.store.write(work)
    return await stage.configure(listener, options=DeliveryOptions(authentication=public))


async def _sent(stage: Stage) -> Sent:
    await until(lambda: len(stage.courier.in_flight) == 1)
    return stage.courier.in_flight[0]


async def test_each_type_of_credentials_reaches_the_request(stage: Stage) -> None:
    queue, listener = await stage.running()
    for credentials in (BASIC, OAUTH2, CERTIFICATE, None):
        listener = await _show(stage, listener, credentials)
        await stage.publish(queue)
        sent = await _sent(stage)
        request = sent.request
        found = (bool(request.headers), request.grant is not None, request.identity is not None)
        assert found == (credentials is BASIC, credentials is OAUTH2, credentials is CERTIFICATE)
        await stage.end(sent, well())
