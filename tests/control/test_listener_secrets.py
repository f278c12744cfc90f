"""Signing secrets of a listener: additional ones, expiry, pages, and access."""

from base64 import b64decode, b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from discue.control import encryption, listener_secrets, listeners, queues
from discue.control.context import ControlContext
from discue.control.listener_fields import ListenerFields
from discue.control.listener_secrets import FreshSecret, SecretFields
from discue.control.queues import QueueFields
from discue.crypto.signing import SigningSecret
from discue.domain.errors import NotFound, Unprocessable
from discue.store import listeners as listener_rows
from discue.store.pagination import Selection
from tests.support.cast import Cast, Person

URLS = ListenerFields(notify_url="https://example.com/notify", liveness_url="https://example.com/live")
DAY = 86_400_000
OWN = "whsec_" + b64encode(b"o" * 24).decode()
PUBLIC = Ed25519PrivateKey.from_private_bytes(b"p" * 32).public_key().public_bytes_raw()
PRIVATE = "whsk_" + b64encode(b"p" * 32).decode()


async def listener_of(control: ControlContext, person: Person) -> tuple[str, str]:
    queue = (await queues.create(control, person.principal, QueueFields())).queue.public_id
    made = await listeners.create(control, person.principal, queue, URLS)
    return queue, made.listener.public_id


async def kept(control: ControlContext, person: Person, path: tuple[str, str]) -> tuple[SigningSecret, ...]:
    stored = await control.store.read(lambda tx: listener_rows.get(tx, person.principal.organization, path[1]))
    assert stored is not None
    return encryption.secrets_of(control, stored).signing


async def add(cast: Cast, path: tuple[str, str], fields: SecretFields | None = None) -> FreshSecret:
    return await listener_secrets.create(cast.control, cast.alice.principal, path, fields or SecretFields())


async def test_new_secret_comes_first_and_older_ones_expire_after_a_day(cast: Cast, control: ControlContext) -> None:
    path = await listener_of(control, cast.alice)
    cast.clock.advance(5_000)
    made = await add(cast, path)
    now = control.clock.now()
    new, old = await kept(control, cast.alice, path)
    assert (new.text, new.id, new.expires_at, new.created_at) == (made.text, made.shown.id, 0, now)
    assert old.expires_at == now + DAY
    shown = (await listener_secrets.page(control, cast.alice.principal, path)).items
    assert [each.id for each in shown] == [new.id, old.id]
    assert made.text not in repr(made) + repr(shown) + repr(new)
    cast.clock.advance(DAY)
    assert [each.id for each in (await listener_secrets.page(control, cast.alice.principal, path)).items] == [new.id]
    with pytest.raises(NotFound):
        await listener_secrets.get(control, cast.alice.principal, path, old.id)
    third = await add(cast, path)
    assert [each.id for each in await kept(control, cast.alice, path)] == [third.shown.id, new.id]


async def test_older_secrets_can_expire_at_once_and_never_later_than_before(
    cast: Cast, control: ControlContext
) -> None:
    path = await listener_of(control, cast.alice)
    second = await add(cast, path, SecretFields(expire_previous_in=60))
    await add(cast, path, SecretFields(expire_previous_in=3_600))
    ends = [each.expires_at - control.clock.now() for each in await kept(control, cast.alice, path)]
    assert ends[1:] == [3_600_000, 60_000]
    last = await add(cast, path, SecretFields(expire_previous_in=0))
    assert [each.text for each in await kept(control, cast.alice, path)] == [last.text]
    assert second.text != last.text


async def test_given_secret_is_used_as_sent_and_only_once(cast: Cast, control: ControlContext) -> None:
    path = await listener_of(control, cast.alice)
    assert (await add(cast, path, SecretFields(text=OWN))).text == OWN
    assert (await kept(control, cast.alice, path))[0].text == OWN
    with pytest.raises(Unprocessable, match="already") as raised:
        await add(cast, path, SecretFields(text=OWN))
    assert raised.value.faults[0].pointer == "/secret"


async def test_key_pair_coexists_with_the_hmac_secret_and_shows_only_its_public_key(
    cast: Cast, control: ControlContext
) -> None:
    path = await listener_of(control, cast.alice)
    made = await add(cast, path, SecretFields("ed25519"))
    private, shared = await kept(control, cast.alice, path)
    assert (made.text, shared.expires_at, private.type) == ("", 0, "ed25519")
    seed = b64decode(private.text.removeprefix("whsk_"))
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    assert made.shown.public_key == "whpk_" + b64encode(public).decode()
    again = await add(cast, path, SecretFields("ed25519", PRIVATE, 60))
    ends = {each.id: each.expires_at for each in await kept(control, cast.alice, path)}
    assert ends == {again.shown.id: 0, private.id: control.clock.now() + 60_000, shared.id: 0}


@pytest.mark.parametrize("behind", [b"", PUBLIC], ids=["private", "private and public"])
async def test_given_private_key_can_include_its_public_key(cast: Cast, control: ControlContext, behind: bytes) -> None:
    path = await listener_of(control, cast.alice)
    text = "whsk_" + b64encode(b"p" * 32 + behind).decode()
    made = await add(cast, path, SecretFields("ed25519", text))
    assert made.shown.public_key == "whpk_" + b64encode(PUBLIC).decode()


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), [3, 2, 1, 0]),
        (Selection(per_page=2), [3, 2]),
        (Selection(per_page=2, page=2), [1, 0]),
        (Selection(page=9), []),
    ],
)
async def test_secrets_are_listed_in_pages(
    cast: Cast, control: ControlContext, selection: Selection, expected: list[int]
) -> None:
    path = await listener_of(control, cast.alice)
    for _ in range(3):
        await add(cast, path)
    ids = [each.id for each in reversed(await kept(control, cast.alice, path))]
    found = await listener_secrets.page(control, cast.alice.principal, path, selection)
    assert [each.id for each in found.items] == [ids[number] for number in expected]
    if selection.per_page == 2 and selection.page == 1:
        assert (found.has_next, found.has_previous) == (True, False)
    by_place = {
        (ids[2], "after", 1): [1],
        (ids[0], "before", 2): [2, 1],
        (ids[3], "before", 2): [],
        (ids[0], "after", 2): [],
    }
    for (place, side, size), numbers in by_place.items():
        beside = Selection(per_page=size, **{side: place})  # type: ignore[arg-type]
        page = await listener_secrets.page(control, cast.alice.principal, path, beside)
        assert [each.id for each in page.items] == [ids[number] for number in numbers]


async def test_secret_is_found_only_under_its_listener(cast: Cast, control: ControlContext) -> None:
    path, other = [await listener_of(control, cast.alice) for _ in range(2)]
    (secret,) = await kept(control, cast.alice, path)
    for elsewhere in (other, (other[0], path[1])):
        with pytest.raises(NotFound):
            await listener_secrets.get(control, cast.alice.principal, elsewhere, secret.id)
