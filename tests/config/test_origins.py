"""The source of each setting is known, and is no part of its value."""

from pathlib import Path

from discue.config.sources import load


def _file(path: Path) -> bytes:
    del path
    return b'log_level = "warning"\nport = 1\nlog_format = "json"'


def test_origin_is_the_source_that_won() -> None:
    environ = {"DISCUE_PORT": "2", "DISCUE_HOST": "127.0.0.2", "DISCUE_CONFIG": "/etc/discue.toml"}
    settings = load({"host": "127.0.0.3"}, environ, _file, {"log_format": "text", "rate_limit": "0"})
    assert settings.origins == {
        "log_level": "/etc/discue.toml: log_level",
        "log_format": "/etc/discue.toml: log_format",
        "port": "DISCUE_PORT",
        "host": "--host",
        "rate_limit": "this command",
    }


def test_settings_are_equal_wherever_they_come_from() -> None:
    assert load({"port": "2"}, {}, _file) == load({}, {"DISCUE_PORT": "2"}, _file)
