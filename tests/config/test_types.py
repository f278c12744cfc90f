from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.config.types import (
    EGRESS_PROXY,
    HOSTS,
    InvalidDatabaseUrl,
    check_postgres_url,
    is_postgres_url,
    without_password,
)
from discue.domain.egress import EgressProxy


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://db.example.com/discue", "postgresql://db.example.com/discue"),
        ("postgres://discue@db.example.com:5433/discue", "postgres://discue@db.example.com:5433/discue"),
        ("postgresql://discue:hunter2@db.example.com/discue", "postgresql://discue@db.example.com/discue"),
        ("postgresql://discue:@db.example.com/discue", "postgresql://discue@db.example.com/discue"),
        ("postgresql://:hunter2@db.example.com/discue", "postgresql://db.example.com/discue"),
        ("postgresql://u:hun:ter2@[::1]:5432/discue", "postgresql://u@[::1]:5432/discue"),
        ("postgresql://u:hun%40ter%2F2@one:1,two:65535/discue", "postgresql://u@one:1,two:65535/discue"),
        ("postgresql:///discue", "postgresql:///discue"),
        ("postgresql://u@%2Frun%2Fpostgresql/discue", "postgresql://u@%2Frun%2Fpostgresql/discue"),
        ("postgresql://u@/discue?host=/run/pg&port=5433", "postgresql://u@/discue?host=/run/pg&port=5433"),
        ("postgresql://u@/discue?host=one,two&port=1,2", "postgresql://u@/discue?host=one,two&port=1,2"),
        ("postgresql://h/discue?password=hunter2&sslmode=require", "postgresql://h/discue?sslmode=require"),
        ("postgresql://h/discue?%70assword=hunter2", "postgresql://h/discue"),
        ("postgresql://h/discue?sslkey=/k&sslpassword=hunter2", "postgresql://h/discue?sslkey=/k"),
        ("postgresql://h/?dbname=discue", "postgresql://h/?dbname=discue"),
        (
            "postgresql://one,two/discue?target_session_attrs=primary&application_name=queue%20one",
            "postgresql://one,two/discue?target_session_attrs=primary&application_name=queue%20one",
        ),
    ],
)
def test_valid_url_is_shown_without_its_password(address: str, shown: str) -> None:
    check_postgres_url(address)

    assert is_postgres_url(address)
    assert without_password(address) == shown
    check_postgres_url(shown)


ESCAPE = "as %25"
NO_NAME = "has no database name"
NO_PORT = "a number from 1 to 65535"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("postgresql://u:hunter2@h", NO_NAME),
        ("postgresql://u:hunter2@h/", NO_NAME),
        ("postgresql://u:hunter2@h?sslmode=require", NO_NAME),
        ("postgresql://u:hunter2@h:port/discue", NO_PORT),
        ("postgresql://u:hunter2@h:0/discue", NO_PORT),
        ("postgresql://u:hunter2@h:65536/discue", NO_PORT),
        ("postgresql://u:hunter2@h:/discue", NO_PORT),
        ("postgresql://u:hunter2@h:٣/discue", NO_PORT),
        ("postgresql://u:hunter2@one:1,two:x/discue", NO_PORT),
        ("postgresql://u:hunter2@h/discue?port=x", NO_PORT),
        ("postgresql://u:hunter2@one,two,three/discue?port=1,2", "one port, or as many as hosts"),
        ("postgresql://u:hunter2@one,,two/discue", "a host is invalid"),
        ("postgresql://u:hunter2@::1/discue", "a host is invalid"),
        ("postgresql://u:hunter2@/discue?host=one,", "a host is invalid"),
        ("postgresql://u:hunter2@h@two/discue", ESCAPE),
        ("postgresql://u:hunter2/x@h/discue", ESCAPE),
        ("postgresql://u:22/hunter2@h/discue", ESCAPE),
        ("postgresql://u:hunter2#x@h/discue", ESCAPE),
        ("postgresql://u:hunter2?x@h/discue", ESCAPE),
        ("postgresql://u:hunter2?x=1@h/discue", ESCAPE),
        ("postgresql://u:[hunter2@h/discue", ESCAPE),
        ("postgresql://u:hunter2%@h/discue", ESCAPE),
        ("postgresql://u:hunter2%00@h/discue", ESCAPE),
        ("postgresql://u:hunter2@h/dis cue", ESCAPE),
        ("postgresql://u:hunter2@h/dis\ncue", ESCAPE),
        ("postgresql://u:hunter2@h/discue?sslmode", ESCAPE),
        ("postgresql://u:hunter2@h/discue?sslmode=hunter2", "sslmode must be one of disable, allow, prefer"),
        ("postgresql://u:hunter2@h/discue?target_session_attrs=standby", "must be one of any, primary, read-write"),
        ("postgresql://u:hunter2@h/discue?channel_binding=require", "the parameter channel_binding is not supported"),
    ],
)
def test_invalid_url_is_rejected_without_being_shown(address: str, reason: str) -> None:
    with pytest.raises(InvalidDatabaseUrl, match=reason) as caught:
        check_postgres_url(address)

    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in without_password(address)


TEXTS = st.text("abc:/@?#[]%=&,0159 é", max_size=20)


@given(st.sampled_from(["postgresql://", "postgres://"]), TEXTS, TEXTS)
def test_any_text_is_shown_safely_or_rejected(scheme: str, before: str, after: str) -> None:
    address = f"{scheme}{before}:hunter2{after}"
    shown = without_password(address)
    try:
        check_postgres_url(address)
    except InvalidDatabaseUrl as error:
        assert shown == f"{scheme}…"
        assert "hunter2" not in str(error)  # noqa: PT017
    else:
        check_postgres_url(shown)


@given(st.text("abc:/@?#[]%=&,0159 é", min_size=1, max_size=20))
def test_escaped_password_is_never_shown(password: str) -> None:
    escaped = "".join(f"%{byte:02X}" for byte in password.encode())

    assert without_password(f"postgresql://u:{escaped}@h/d?password={escaped}") == "postgresql://u@h/d"


@pytest.mark.parametrize("text", ["", "postgresql", "mysql://db/discue", "sqlite:///discue.db", "Postgresql://db/x"])
def test_other_schemes_are_no_postgres_urls(text: str) -> None:
    assert not is_postgres_url(text)


@pytest.mark.parametrize(
    ("text", "place", "header"),
    [
        ("http://proxy.example.com:3128", "proxy.example.com:3128", b""),
        ("HTTP://10.0.0.7:8888/", "10.0.0.7:8888", b""),
        ("http://[fd00::7]:3128", "[fd00::7]:3128", b""),
        ("http://ada:hunter2@proxy:3128", "proxy:3128", b"proxy-authorization: Basic YWRhOmh1bnRlcjI=\r\n"),
        ("http://a%3Aa:p%40%0A@proxy:3128", "proxy:3128", b"proxy-authorization: Basic YTphOnBACg==\r\n"),
        ("http://:hunter2@proxy:3128", "proxy:3128", b"proxy-authorization: Basic Omh1bnRlcjI=\r\n"),
    ],
)
def test_egress_proxy_has_its_place_and_the_header_with_its_credentials(text: str, place: str, header: bytes) -> None:
    proxy = EGRESS_PROXY.parse(text)
    assert isinstance(proxy, EgressProxy)
    assert (proxy.target.authority, proxy.header) == (place, header)
    assert repr(proxy) == f"EgressProxy('{place}')"


@pytest.mark.parametrize(
    "text",
    [
        "proxy:3128", "http://proxy", "http://proxy:", "http://proxy:0", "http://proxy:65536", "https://proxy:3128",
        "socks5://proxy:1080", "http://ada@proxy:3128", "http://ada:hunter2:3@proxy:3128", "http://ada:hun@ter@proxy:1",
        "http://ada:hunter2%@proxy:3128", "http://ada:hunter2@proxy:3128/path", "http://ada:hunter2@proxy:3128?x",
        "http://ada:hunter2@pro xy:3128", "http://ada:hunter2@[::1:3128", "http://ada:hunter2@:3128",
    ],
)  # fmt: skip
def test_invalid_egress_proxy_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the text of the error is the point
        EGRESS_PROXY.parse(text)
    assert "hunter2" not in str(raised.value)


def test_hosts_are_names_addresses_and_networks() -> None:
    parsed = HOSTS.parse("Example.com, .svc,*.xn--bcher-kva.example. ,10.0.0.0/8,127.0.0.1, fd00::/8, [::1],")
    networks = [ip_network(each) for each in ("10.0.0.0/8", "127.0.0.1/32", "fd00::/8", "::1/128")]
    assert parsed == ("example.com", "svc", "xn--bcher-kva.example", *networks)


@pytest.mark.parametrize(
    "text", ["example.com:443", "http://example.com", "10.0.0.1/8", "a b", "*", "x/y", "u@example.com"]
)
def test_invalid_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        HOSTS.parse(f"good.example,{text}")
