import argparse
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.config.settings import SETTINGS, Settings
from discue.config.sources import add_flags, flags_of, load
from discue.domain.errors import SettingsInvalid

KEY = "dsk_" + "0123456789ABCDEFGHIJK" + "a" * 32


def no_file(path: Path) -> bytes:
    raise AssertionError(f"{path} was read")


def file(text: str) -> Callable[[Path], bytes]:
    def read(path: Path) -> bytes:
        assert path == Path("discue.toml")
        return text.encode()

    return read


def loaded(
    flags: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None, toml: str | None = None
) -> Settings:
    named = {} if toml is None else {"DISCUE_CONFIG": "discue.toml"}
    return load(flags or {}, {**named, **(environ or {})}, no_file if toml is None else file(toml))


def faults(
    flags: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None, toml: str | None = None
) -> dict[str, str]:
    with pytest.raises(SettingsInvalid) as caught:
        loaded(flags, environ, toml)
    for fault in caught.value.faults:
        assert f"{fault.pointer}: {fault.detail}" in caught.value.detail
    return {fault.pointer: fault.detail for fault in caught.value.faults}


def test_settings_default_without_sources() -> None:
    assert loaded() == Settings()


def test_flags_override_environment_file_base_and_default() -> None:
    given: list[tuple[dict[str, str], dict[str, str], str, dict[str, str]]] = [
        ({"port": "1"}, {"DISCUE_PORT": "2"}, "port = 3", {"port": "4"}),
        ({}, {"DISCUE_PORT": "2"}, "port = 3", {"port": "4"}),
        ({}, {}, "port = 3", {"port": "4"}),
        ({}, {}, "", {"port": "4"}),
        ({}, {}, "", {}),
    ]
    ports = [
        load({"config": "discue.toml", **flags}, environ, file(toml), base).port for flags, environ, toml, base in given
    ]

    assert ports == [1, 2, 3, 4, 3000]


def test_config_flag_overrides_the_variable() -> None:
    settings = load({"config": "discue.toml"}, {"DISCUE_CONFIG": "other.toml"}, file("port = 3"))

    assert settings.port == 3


def test_values_of_every_type_are_parsed() -> None:
    settings = loaded(
        {"host": "[::1]", "tls_self_signed": "yes", "public_url": "https://discue.example.com/base/"},
        {"DISCUE_BOOTSTRAP_KEY": KEY, "DISCUE_ALLOW_PRIVATE_TARGETS": "10.0.0.0/8, fd00::/8"},
        'trusted_proxies = ["10.1.0.0/16", "::1/128"]\nlog_requests = true\nrole = "api"\n'
        'database = "sqlite:////var/lib/discue.db"',
    )

    assert settings.host == "::1"
    assert settings.tls_self_signed is True
    assert settings.public_url == "https://discue.example.com/base"
    assert settings.bootstrap_key == KEY
    assert settings.allow_private_targets == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert settings.trusted_proxies == (ip_network("10.1.0.0/16"), ip_network("::1/128"))
    assert settings.log_requests is True
    assert settings.role == "api"
    assert settings.database_path == Path("/var/lib/discue.db")


def test_empty_and_other_variables_are_ignored() -> None:
    assert loaded(environ={"DISCUE_PORT": "", "DISCUE_TLS_CERT": "", "DISCUE_CONFIG": ""}) == Settings()
    assert loaded(environ={"PORT": "x", "HOME": "/", "DISCUE_PROT": "", "discue_port": "x"}) == Settings()


def test_variables_that_kubernetes_sets_for_services_are_ignored() -> None:
    environ = {
        "DISCUE_SERVICE_HOST": "10.0.0.1",
        "DISCUE_SERVICE_PORT": "3000",
        "DISCUE_SERVICE_PORT_HTTP": "3000",
        "DISCUE_PORT_3000_TCP": "tcp://10.0.0.1:3000",
        "DISCUE_PORT_3000_TCP_ADDR": "10.0.0.1",
        "DISCUE_POSTGRES_PORT": "tcp://10.0.0.2:5432",
        "DISCUE_POSTGRES_SERVICE_HOST": "10.0.0.2",
    }

    assert loaded(environ=environ) == Settings()


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("DISCUE_PROT", "unknown setting; did you mean DISCUE_PORT?"),
        ("DISCUE_CONFG", "unknown setting; did you mean DISCUE_CONFIG?"),
        ("DISCUE_log_level", "unknown setting; did you mean DISCUE_LOG_LEVEL?"),
        ("DISCUE_XYZZY", "unknown setting"),
    ],
)
def test_unknown_variable_is_an_error_with_the_nearest_name(name: str, detail: str) -> None:
    assert faults(environ={name: "3001"}) == {name: detail}


def test_error_lists_every_problem_with_its_source() -> None:
    found = faults(
        {"port": "70000", "tls_cert": "cert.pem"},
        {"DISCUE_ROLE": "everything", "DISCUE_WORKERS": "65"},
        'publc_url = "http://x"\nmax_in_flight = 0',
    )

    assert found == {
        "--port": "invalid value '70000'; expected an integer from 0 to 65535",
        "--tls-cert": "set both tls_cert and tls_key, or neither",
        "DISCUE_ROLE": "invalid value 'everything'; expected all, api or dispatch",
        "DISCUE_WORKERS": "invalid value '65'; expected an integer from 1 to 64",
        "discue.toml: publc_url": "unknown setting; did you mean public_url?",
        "discue.toml: max_in_flight": "invalid value '0'; expected an integer from 1 to 100000",
    }


def test_variables_of_clients_are_no_settings() -> None:
    variables = {"DISCUE_URL": "http://127.0.0.1:3000", "DISCUE_API_KEY": "dsk_x", "DISCUE_WEBHOOK_SECRET": "whsec_x"}
    variables["DISCUE_OUTBOX_DATABASE"] = "sqlite:///shop.db"
    assert loaded(environ=variables) == Settings()


@pytest.mark.parametrize(("key", "meant"), [("public-url", "public_url"), ("Port", "port"), ("tls_crt", "tls_cert")])
def test_unknown_key_gets_a_suggestion_of_a_similar_name(key: str, meant: str) -> None:
    assert faults(toml=f'"{key}" = "x"') == {f"discue.toml: {key}": f"unknown setting; did you mean {meant}?"}
    assert faults(toml="[xyzzy]\nport = 3") == {"discue.toml: xyzzy": "unknown setting"}


def test_invalid_choice_gets_a_suggestion_of_a_similar_value() -> None:
    assert faults({"log_level": "WARN"}) == {
        "--log-level": "invalid value 'WARN'; expected debug, info, warning or error; did you mean warning?"
    }


@pytest.mark.parametrize("value", ["1.5", "1979-05-27", "{ a = 1 }", "[1, 2]", '["x", ["y"]]'])
def test_unsupported_toml_type_is_rejected(value: str) -> None:
    assert faults(toml=f"port = {value}") == {"discue.toml: port": "expected an integer from 0 to 65535"}


def test_missing_file_is_reported() -> None:
    def missing(_: Path) -> bytes:
        raise FileNotFoundError(2, "No such file or directory")

    with pytest.raises(SettingsInvalid, match=r"--config: cannot read x\.toml: No such file or directory"):
        load({"config": "x.toml"}, {}, missing)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"port = 3\nhost =\nrole = 3", r"cannot read x.toml: not TOML.*line 2"), (b"\xff", "not UTF-8")],
)
def test_unreadable_file_is_reported(content: bytes, reason: str) -> None:
    with pytest.raises(SettingsInvalid, match=reason):
        load({"config": "x.toml"}, {}, lambda _: content)


@pytest.mark.parametrize("text", ["dsk_short", KEY + "!", "s3cret" * 10, "dsk_" + "a" * 200])
@pytest.mark.parametrize("place", ["flag", "variable", "file"])
def test_invalid_secret_is_reported_without_its_value(text: str, place: str) -> None:
    found = faults(
        {"bootstrap_key": text} if place == "flag" else {},
        {"DISCUE_BOOTSTRAP_KEY": text} if place == "variable" else {},
        f'bootstrap_key = "{text}"' if place == "file" else None,
    )

    assert len(found) == 1
    assert text not in str(found)
    assert "invalid value; expected an API key: dsk_" in str(found)


@pytest.mark.parametrize("text", ["http://ada:hunter2@proxy", "https://ada:hunter2@proxy:3128", "ada:hunter2@proxy:1"])
def test_invalid_proxy_is_reported_without_its_password(text: str) -> None:
    assert faults({}, {"DISCUE_EGRESS_PROXY": text}) == {
        "DISCUE_EGRESS_PROXY": "invalid value; expected http://host:port or http://user:password@host:port"
    }


def test_hosts_without_the_proxy_may_be_a_list() -> None:
    settings = load({"config": "x.toml"}, {}, lambda _: b'no_proxy = ["10.0.0.0/8", "example.com"]')
    assert settings.no_proxy == (ip_network("10.0.0.0/8"), "example.com")
    assert faults({"no_proxy": "a b"})["--no-proxy"].startswith(
        "invalid value 'a b'; expected names, addresses and networks"
    )


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("discue.db", "sqlite:///discue.db"),
        ("data/discue", "sqlite:///data/discue"),
        ("/var/lib/discue/discue.db", "sqlite:////var/lib/discue/discue.db"),
        ("sqlite:discue.db", "sqlite:///discue.db"),
        ("sqlite://discue.db", "sqlite:///discue.db"),
    ],
)
def test_path_of_a_database_file_is_reported_with_its_url(text: str, url: str) -> None:
    assert faults({"database": text})["--database"].startswith(f"it is not a URL; write {url}; expected sqlite:///")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hunter2", "invalid value; expected sqlite:///"),
        ("postgresql://discue:hunter2@db.example.com", "invalid database URL: it has no database name"),
        ("postgresql:discue:hunter2@db.example.com/discue", "invalid value; expected sqlite:///"),
        ("host=db.example.com password=hunter2", "invalid value; expected sqlite:///"),
        ("sqlite:///", "the path of the database file is missing"),
        ("sqlite:///:memory:", "the path of the database file is missing"),
    ],
)
def test_invalid_database_url_is_reported_without_its_value(text: str, reason: str) -> None:
    found = faults({"database": text})

    assert found["--database"].startswith(reason)
    assert "or postgresql://user:password@host:port/name" in found["--database"]
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("database", "discue.db"),
        ("database", "sqlite://discue.db"),
        ("database", "mysql://db/discue"),
        ("host", ""),
        ("host", "300.1.1.1"),
        ("host", "127.1"),
        ("host", "ex ample"),
        ("host", "http://example.com"),
        ("host", "::1::"),
        ("port", "-1"),
        ("port", "1_000"),
        ("port", "٣"),
        ("port", " 80"),
        ("port", "9" * 5_000),
        ("workers", "0"),
        ("insecure", "maybe"),
        ("tls_key", ""),
        ("public_url", "example.com"),
        ("public_url", "ftp://example.com"),
        ("public_url", "https://"),
        ("public_url", "https://user:pass@example.com"),
        ("public_url", "https://example.com?x=1"),
        ("public_url", "https://example.com/#x"),
        ("public_url", "https://example.com:99999"),
        ("public_url", "https://exa mple.com"),
        ("trusted_proxies", "10.0.0.0/33"),
        ("trusted_proxies", "10.0.0.1/8"),
        ("allow_private_targets", "perhaps"),
        ("organization", "operator"),
        ("organization", "com..example"),
        ("encryption_key", ""),
        ("encryption_key", "c2VjcmV0"),
        ("encryption_key", "A" * 43 + "=,"),
        ("log_format", "xml"),
        ("log_level", "INFO"),
    ],
)
def test_invalid_value_is_rejected_with_the_expected_one(name: str, text: str) -> None:
    setting = next(setting for setting in SETTINGS if setting.name == name)
    found = faults({name: text})

    assert list(found) == [setting.flag]
    assert setting.type.expected in found[setting.flag]
    assert len(found[setting.flag]) < 300


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "discue.example.com"])
def test_cleartext_beyond_loopback_requires_insecure(host: str) -> None:
    assert "cleartext is allowed on loopback only" in faults({"host": host})["--host"]
    assert loaded({"host": host, "insecure": "true"}).host == host
    assert loaded({"host": host, "tls_self_signed": "true"}).has_tls
    assert loaded({"host": host, "tls_cert": "c.pem", "tls_key": "k.pem"}).has_tls


@pytest.mark.parametrize(
    ("flags", "environ", "expected"),
    [
        ({}, {"DISCUE_TLS_KEY": "k"}, {"DISCUE_TLS_KEY": "set both tls_cert and tls_key, or neither"}),
        (
            {"tls_self_signed": "true", "tls_cert": "c", "tls_key": "k"},
            {},
            {"--tls-self-signed": "set either tls_self_signed or tls_cert, not both"},
        ),
        (
            {"encryption_key": "A" * 43 + "=", "encryption_key_file": "keys"},
            {},
            {"--encryption-key": "set either encryption_key or encryption_key_file, not both"},
        ),
        (
            {"metrics_port": "3055", "metrics_host": "127.0.0.2", "port": "3055"},
            {},
            {"--metrics-port": "metrics_port and port must differ: each would get some of the other's requests"},
        ),
        (
            {"dashboard_port": "3000"},
            {},
            {
                "--dashboard-port": "dashboard_port, port and metrics_port must differ: each would get some of the "
                "other's requests"
            },
        ),
        (
            {"dashboard_port": "0", "dashboard": "false"},
            {},
            {
                "--dashboard-port": "dashboard is false, so there is nothing to serve on dashboard_port; set one of "
                "them only"
            },
        ),
        (
            {"dashboard_url": "https://ops.example.com"},
            {},
            {
                "--dashboard-url": "the dashboard is served with the API, whose URL is public_url; set dashboard_port, "
                "too, or public_url instead"
            },
        ),
        (
            {"dashboard_port": "0", "dashboard_host": "10.0.0.7"},
            {},
            {
                "--dashboard-host": "cleartext is allowed on loopback only; set tls_cert and tls_key, or "
                "tls_self_signed, or set insecure behind a proxy that terminates TLS"
            },
        ),
    ],
)
def test_broken_constraint_is_reported_at_its_first_setting(
    flags: dict[str, str], environ: dict[str, str], expected: dict[str, str]
) -> None:
    assert faults(flags, environ) == expected


def test_links_lead_to_the_address_of_the_dashboard() -> None:
    root = "https://discue.example.com"
    assert loaded({}).dashboard_root(root) == root
    assert loaded({"dashboard_port": "3001"}).dashboard_root(root) == "http://127.0.0.1:3001"
    own = {"dashboard_port": "3001", "dashboard_host": "::1", "tls_self_signed": "true"}
    assert loaded(own).dashboard_root(root) == "https://[::1]:3001"
    assert (
        loaded({**own, "dashboard_url": "https://ops.example.com/"}).dashboard_root(root) == "https://ops.example.com"
    )


def test_free_ports_may_both_be_0() -> None:
    assert loaded({"metrics_port": "0", "port": "0"}).metrics_port == 0


def test_encryption_keys_keep_their_order() -> None:
    one, other = b"\xfb" * 32, b"\xff" * 32
    texts = [b64encode(one).decode(), urlsafe_b64encode(other).decode()]
    assert loaded({"encryption_key": ", ".join(texts)}).encryption_key == (one, other)
    assert loaded(toml=f"encryption_key = {texts}").encryption_key == (one, other)


def test_invalid_settings_do_not_break_constraints_too() -> None:
    assert list(faults({"host": "0.0.0.0", "insecure": "maybe"})) == ["--insecure"]


NAMES = st.sampled_from([setting.name for setting in SETTINGS])
TEXTS = st.one_of(st.text(max_size=20), st.sampled_from(["true", "1", "3000", "10.0.0.0/8", "api", "::1"]))


@given(st.dictionaries(NAMES, TEXTS), st.dictionaries(NAMES.map(lambda name: "DISCUE_" + name.upper()), TEXTS))
def test_any_input_is_parsed_or_reported_with_its_source(flags: dict[str, str], environ: dict[str, str]) -> None:
    places = {setting.flag for setting in SETTINGS} | set(environ)
    try:
        settings = load(flags, environ, no_file)
    except SettingsInvalid as error:
        assert error.faults  # noqa: PT017
        assert {fault.pointer for fault in error.faults} <= places  # noqa: PT017
    else:
        assert isinstance(settings, Settings)


def parsed(command: Any, *arguments: str) -> dict[str, str]:
    parser = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
    add_flags(parser, command)
    return flags_of(parser.parse_args(arguments))


def test_only_given_flags_are_parsed() -> None:
    assert parsed("serve") == {}
    flags = parsed("serve", "--public-url", "https://x.example", "--config", "a.toml", "--port=x")

    assert flags == {"public_url": "https://x.example", "config": "a.toml", "port": "x"}


def test_switch_accepts_an_optional_value() -> None:
    assert parsed("serve", "--insecure", "--log-requests", "false") == {
        "insecure": "true",
        "log_requests": "false",
    }
    assert parsed("serve", "--allow-private-targets") == {"allow_private_targets": "true"}
    assert parsed("serve", "--allow-private-targets", "10.0.0.0/8") == {"allow_private_targets": "10.0.0.0/8"}


def test_command_accepts_only_its_own_flags() -> None:
    assert parsed("migrate", "--database", "sqlite:///x.db") == {"database": "sqlite:///x.db"}
    with pytest.raises((argparse.ArgumentError, SystemExit)):
        parsed("migrate", "--port", "3")
