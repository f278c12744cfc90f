import typing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.config.settings import SETTINGS, Command, Setting, Settings
from discue.config.sources import describe
from discue.config.types import EGRESS_PROXY, ORGANIZATION, integer, is_loopback
from discue.control.listener_fields import MAX_IN_FLIGHT, TIMEOUT_SECONDS
from discue.domain.aliases import check_organization_alias
from discue.domain.egress import EgressProxy
from discue.domain.errors import DiscueError

KEY = "dsk_" + "0123456789ABCDEFGHIJK" + "a" * 32


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s.default is not None], ids=lambda s: s.name)
def test_default_equals_its_parsed_text(setting: Setting) -> None:
    text = "" if setting.default == () else describe(setting.type.shown(setting.default))

    assert setting.type.parse(text) == setting.default


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_has_help_and_a_command(setting: Setting) -> None:
    assert setting.help[0].isupper()
    assert setting.help.endswith(".")
    assert set(setting.commands) <= set(typing.get_args(Command))
    assert setting.commands


def test_repr_has_every_setting_and_no_secret() -> None:
    shown = repr(Settings(bootstrap_key=KEY, encryption_key=(b"k" * 32,), port=1234))

    assert "port=1234" in shown
    assert "bootstrap_key=[secret]" in shown
    assert "encryption_key=[secret]" in shown
    assert KEY[:14] not in shown
    assert all(f"{setting.name}=" in shown for setting in SETTINGS)


def test_repr_has_no_proxy_password() -> None:
    proxy = EGRESS_PROXY.parse("http://ada:hunter2@proxy.example.com:3128")
    assert isinstance(proxy, EgressProxy)
    shown = repr(Settings(egress_proxy=proxy))

    assert "egress_proxy=[secret]" in shown
    assert "hunter2" not in shown
    assert "YWRh" not in shown


def test_repr_has_no_database_password() -> None:
    settings = Settings(database="postgresql://discue:hunter2@db.example.com:5433/discue?sslpassword=hunter2")

    assert settings.database_shown == "postgresql://discue@db.example.com:5433/discue"
    assert "database='postgresql://discue@db.example.com:5433/discue'" in repr(settings)
    assert "hunter2" not in repr(settings)


def test_only_sqlite_has_a_database_path() -> None:
    assert Settings(database="sqlite:////var/lib/discue.db").database_path == Path("/var/lib/discue.db")
    assert Settings(database="postgresql://db.example.com/discue").database_path is None


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
        ("example.com", False),
    ],
)
def test_loopback_hosts(host: str, loopback: bool) -> None:  # noqa: FBT001
    assert is_loopback(host) is loopback


@given(st.integers(-10, 200), st.integers(0, 90), st.integers(91, 150))
def test_integer_is_accepted_exactly_within_its_bounds(number: int, least: int, most: int) -> None:
    kind = integer(least, most)

    if least <= number <= most:
        assert kind.parse(str(number)) == number
    else:
        with pytest.raises(ValueError, match=f"^{number}$"):
            kind.parse(str(number))


@given(st.text(max_size=30))
def test_parsers_raise_only_value_error(text: str) -> None:
    for setting in SETTINGS:
        try:
            setting.type.parse(text)
        except ValueError:
            continue


LABELS = st.text("abcXYZ019-._/", max_size=12)


@given(st.one_of(LABELS, st.lists(LABELS, max_size=4).map(".".join)))
def test_organization_setting_follows_the_alias_rule(alias: str) -> None:
    def taken(check: typing.Callable[[str], object]) -> bool:
        try:
            check(alias)
        except (ValueError, DiscueError):
            return False
        return True

    assert taken(ORGANIZATION.parse) == taken(check_organization_alias)


@pytest.mark.parametrize(
    ("name", "allowed"), [("listener_max_in_flight", MAX_IN_FLIGHT), ("delivery_timeout_seconds", TIMEOUT_SECONDS)]
)
def test_default_for_listeners_is_a_value_that_a_listener_can_have(name: str, allowed: range) -> None:
    [setting] = [each for each in SETTINGS if each.name == name]
    assert setting.type.parse(str(allowed[-1])) == allowed[-1]
    with pytest.raises(ValueError, match=str(allowed[-1] + 1)):
        setting.type.parse(str(allowed[-1] + 1))
