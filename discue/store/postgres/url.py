"""The hosts that an address names, each as an address of its own.

One that swallows what is sent to it would otherwise use up the time in which another one would have answered.
"""

from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

_TARGET = "target_session_attrs"


def each_host(address: str) -> tuple[str, ...]:
    """The address once for each of its hosts, in their order."""
    parts = urlsplit(address)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    credentials, at, hosts = parts.netloc.rpartition("@")
    if "," in hosts:
        return tuple(_joined(parts._replace(netloc=f"{credentials}{at}{host}")) for host in hosts.split(","))
    if hosts or "," not in query.get("host", ""):
        return (address,)
    named = query["host"].split(",")
    ports = query.pop("port", "").split(",")
    each = zip(named, ports if len(ports) == len(named) else ports[:1] * len(named), strict=True)
    return tuple(_joined(parts._replace(query=_with_host(query, host, port))) for host, port in each)


def says_what_server(address: str) -> bool:
    """Whether it says itself if a primary or a standby is meant."""
    return _TARGET in dict(parse_qsl(urlsplit(address).query, keep_blank_values=True))


def _with_host(query: dict[str, str], host: str, port: str) -> str:
    return urlencode({**query, "host": host, **({"port": port} if port else {})})


def _joined(parts: SplitResult) -> str:
    # The library leaves out the two slashes where no host follows them.
    return f"{parts.scheme}://{parts.netloc}{parts.path}{'?' if parts.query else ''}{parts.query}"
