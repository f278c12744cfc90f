"""Rules about several settings, which are valid on their own."""

from collections.abc import Callable
from typing import NamedTuple

from discue.config.addresses import is_loopback
from discue.config.settings import Settings


class Constraint(NamedTuple):
    """A rule about several settings that are valid on their own."""

    names: tuple[str, ...]
    """The settings that it is about."""
    is_broken: Callable[[Settings], bool]
    detail: str


CONSTRAINTS: tuple[Constraint, ...] = (
    Constraint(
        ("tls_cert", "tls_key"),
        lambda settings: (settings.tls_cert is None) != (settings.tls_key is None),
        "set both tls_cert and tls_key, or neither",
    ),
    Constraint(
        ("encryption_key", "encryption_key_file"),
        lambda settings: settings.encryption_key is not None and settings.encryption_key_file is not None,
        "set either encryption_key or encryption_key_file, not both",
    ),
    Constraint(
        ("encryption", "encryption_key", "encryption_key_file"),
        lambda settings: (
            settings.encryption == "none"
            and (settings.encryption_key is not None or settings.encryption_key_file is not None)
        ),
        "set encryption to none, or a key, not both",
    ),
    Constraint(
        ("tls_self_signed", "tls_cert"),
        lambda settings: settings.tls_self_signed and settings.tls_cert is not None,
        "set either tls_self_signed or tls_cert, not both",
    ),
    Constraint(
        ("host", "insecure", "tls_cert", "tls_key", "tls_self_signed"),
        lambda settings: not (settings.is_loopback or settings.has_tls or settings.insecure),
        "cleartext is allowed on loopback only; set tls_cert and tls_key, or tls_self_signed, or set insecure behind a "
        "proxy that terminates TLS",
    ),
    Constraint(
        ("metrics_port", "port"),
        lambda settings: settings.port != 0 and settings.metrics_port == settings.port,
        "metrics_port and port must differ: each would get some of the other's requests",
    ),
    Constraint(
        ("metrics_host", "metrics_key"),
        lambda settings: settings.metrics_key is None and not is_loopback(settings.metrics_host),
        "anybody could read the metrics; set metrics_key, or a loopback address as metrics_host",
    ),
    Constraint(
        ("dashboard_port", "port", "metrics_port"),
        lambda settings: settings.dashboard_port in {settings.port, settings.metrics_port} - {0, None},
        "dashboard_port, port and metrics_port must differ: each would get some of the other's requests",
    ),
    Constraint(
        ("dashboard_port", "dashboard"),
        lambda settings: settings.dashboard_port is not None and not settings.dashboard,
        "dashboard is false, so there is nothing to serve on dashboard_port; set one of them only",
    ),
    Constraint(
        ("dashboard_url", "dashboard_port"),
        lambda settings: settings.dashboard_url is not None and settings.dashboard_port is None,
        "the dashboard is served with the API, whose URL is public_url; set dashboard_port, too, or public_url instead",
    ),
    Constraint(
        ("dashboard_host", "insecure", "tls_cert", "tls_key", "tls_self_signed"),
        lambda settings: not (is_loopback(settings.dashboard_host) or settings.has_tls or settings.insecure),
        "cleartext is allowed on loopback only; set tls_cert and tls_key, or tls_self_signed, or set insecure behind a "
        "proxy that terminates TLS",
    ),
    Constraint(
        ("backup_to", "database"),
        lambda settings: settings.backup_to is not None and settings.database_path is None,
        "backup_to is for SQLite; use the tools of PostgreSQL",
    ),
    Constraint(
        ("backup_keep", "backup_every"),
        lambda settings: settings.backup_keep is not None and settings.backup_keep < settings.backup_every,
        "backup_keep must not be shorter than backup_every",
    ),
)
