"""The function by which applications publish: its checks, and the rights that it gives."""

import json

import asyncpg
import pytest

from discue.domain import event_types, headers
from tests.store.intake_application import Application, publish
from tests.store.rows import row_id, stored_organization, stored_queue

WRONG_CALLS = [
    ("'missing', '1'", 'Queue "missing" not found.'),
    ("'orders', NULL", "data must be a JSON value; for null, write 'null'::json."),
    ("'orders', '{'", "invalid input syntax for type json"),
    ("'orders', to_json(repeat('x', 9000000))", "data has 9000000 bytes; at most 262144 are allowed."),
    ("'orders', ('[' || repeat(' ', 300000) || ']')::json", "data has 300002 bytes; at most 262144 are allowed."),
    ("'orders', '1', key => ''", "key must have 1 to 255 characters."),
    ("'orders', '1', type => 'a..b'", "type must be words of visible ASCII characters"),
    ("'orders', '1', alias => 'a b'", "alias must be 1 to 64 characters of A-Z"),
    ("'orders', '1', headers => '[]'", "headers must be a JSON object of strings."),
    ("'orders', '1', headers => '{\"a\":1}'", 'The header "a" must be a string.'),
    ("'orders', '1', headers => '{\"Host\":\"x\"}'", 'The header "Host" is not allowed'),
    ("'orders', '1', headers => '{\"a\":\" x\"}'", 'The header "a" has invalid characters'),
    ('\'orders\', \'1\', headers => \'{"a":"x","A":"x"}\'', "two names that differ only in case"),
    ("'orders', '1', deliver_at => now() + interval '2 years'", "deliver_at must be at most a year ahead."),
    ("'orders', '1', expires_at => now() - interval '1 second'", "expires_at must be in the future."),
    ("'orders', '1', expires_at => '10000-01-01 UTC'", "expires_at must be before the year 10000."),
    (
        "'orders', '1', deliver_at => now() + interval '2 h', expires_at => now() + interval '1 h'",
        "expires_at must be later than deliver_at.",
    ),
]


async def test_wrong_call_is_an_error_in_the_transaction_of_the_application(application: Application) -> None:
    await application.publish(0)
    await application.intake.move()
    for call, message in WRONG_CALLS:
        async with application.connected() as connection:
            with pytest.raises(asyncpg.PostgresError) as caught:
                await connection.execute(f"SELECT discue_publish({call})")
        assert message in str(caught.value)

    assert await application.waiting() == []


async def test_size_limit_of_the_queue_applies_to_the_content_of_a_string(application: Application) -> None:
    await application.change_queue(max_message_bytes=10)
    await application.publish("x" * 10)
    with pytest.raises(asyncpg.InvalidParameterValueError, match="data has 11 bytes; at most 10 are allowed"):
        await application.publish("x" * 11)
    await application.intake.move()

    assert [len(entry.body) for entry in await application.entries()] == [10]


async def test_blanks_around_the_data_do_not_get_past_the_size_limit(application: Application) -> None:
    async with application.connected() as connection:
        await connection.execute("SELECT discue_publish('orders', (repeat(E' \t\r\n', 300000) || '\"x\" ')::json)")

    assert [tuple(row) for row in await application.run("SELECT size, body FROM intake")] == [(3, b'"x"')]


async def test_data_is_limited_before_the_leader_has_stored_its_setting(application: Application) -> None:
    async with application.connected() as connection:
        with pytest.raises(asyncpg.InvalidParameterValueError, match="at most 8388608 are allowed"):
            await connection.execute("SELECT discue_publish('orders', to_json(repeat('x', 9000000)))")


async def test_role_publishes_to_its_own_organization_and_reads_nothing(application: Application) -> None:
    await stored_organization(application.store, 2)
    theirs = await stored_queue(application.store, row_id(2), 20)
    async with application.connected() as connection:
        for queue in (theirs.alias, theirs.public_id):
            with pytest.raises(asyncpg.UndefinedObjectError, match="not found"):
                await publish(connection, 1, queue)
        for statement in (
            "SELECT * FROM intake",
            "INSERT INTO intake_role VALUES ('x', 1)",
            "SELECT discue_allow('x', 'y')",
            "SELECT discue_check_headers('{}')",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)


async def test_role_without_leave_may_not_publish(application: Application) -> None:
    await application.run("SELECT discue_disallow($1)", application.role)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied for function discue_publish"):
        await application.publish(1)

    # The right alone is not enough, and a second call does no harm.
    await application.run("SELECT discue_disallow($1), discue_disallow('nobody')", application.role)
    await application.run(f"GRANT EXECUTE ON FUNCTION discue_publish TO {application.role}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match=r'The role "shop_\d+" may not publish'):
        await application.publish(1)


async def test_suspended_organization_may_not_publish(application: Application) -> None:
    await application.run("UPDATE organization SET state = 'suspended'")

    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="may not publish"):
        await application.publish(1)


async def test_objects_of_a_caller_take_the_place_of_nothing(application: Application) -> None:
    async with application.connected() as connection:
        await connection.execute("CREATE TEMPORARY TABLE intake_role (role text, organization bigint)")
        await connection.execute("CREATE TEMPORARY TABLE intake (LIKE intake_role)")
        await publish(connection, 1)
    await application.intake.move()

    assert await application.published() == [1]


async def test_unknown_organization_cannot_be_allowed(application: Application) -> None:
    with pytest.raises(asyncpg.UndefinedObjectError, match='Organization "nobody" not found'):
        await application.run("SELECT discue_allow('x', 'nobody')")


async def test_rules_for_headers_are_those_of_the_api(application: Application) -> None:
    names = [
        "x-a",
        "A!#$%&'*+.^_`|~-9",
        "a b",
        "ä",
        "",
        "host",
        "TE",
        "discue-a",
        "webhook-id",
        "content-type",
        "x" * 129,
    ]
    values = ["", "x", "x y", " x", "x ", "é", "\t", "a\tb", "\x7f", "€", "x\ny"]
    cases = [*((name, "x") for name in names), *(("x-a", value) for value in values)]
    for name, value in cases:
        try:
            await application.run("SELECT discue_check_headers($1)", json.dumps({name: value}))
            allowed = True
        except asyncpg.InvalidParameterValueError:
            allowed = False
        assert allowed == headers.is_header_allowed(name, value), (name, value)


async def test_rule_for_types_is_that_of_the_api(application: Application) -> None:
    texts = [
        "order.paid",
        "!#$%&'()+,-/:;<=?@[]^_`{|}~",
        "A.b",
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "a b",
        "a*",
        "a.>",
        "\x7f",
    ]
    for text in [*texts, "é", "a\nb", "a\n", "a" * 255, "a" * 256]:
        async with application.connected() as connection:
            try:
                await connection.execute("SELECT discue_publish('orders', '1', type => $1)", text)
                allowed = True
            except asyncpg.InvalidParameterValueError:
                allowed = False
        assert allowed == event_types.is_type(text), text


async def test_header_with_another_type_is_refused_when_the_message_is_moved(application: Application) -> None:
    async with application.connected() as connection:
        await connection.execute(
            """SELECT discue_publish('orders', '1', type => 'order.paid', headers => '{"ce-type":"order.sent"}')"""
        )
        await publish(connection, 2)
    await application.intake.move()

    assert await application.published() == [2]
    [(error,)] = await application.run("SELECT error FROM intake")
    assert "/headers/ce-type must be the type of the message, order.paid" in error
