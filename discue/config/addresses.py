"""Addresses to listen on."""

from ipaddress import ip_address


def reachable(host: str) -> str:
    """Return the host to connect to, for a server that listens on this one."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


def is_loopback(host: str) -> bool:
    """Return whether only programs of this machine can connect to a server that listens on the host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"
