"""A certificate authority that tests trust, and nobody else."""

import ssl
from datetime import datetime
from functools import cache
from pathlib import Path

import trustme

NO_ROOTS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For many clients of `http://` addresses: without a context, each loads the roots of the public authorities."""


@cache
def _authority() -> trustme.CA:
    return trustme.CA()


def server_context(*names: str, is_trusted: bool = True, not_after: datetime | None = None) -> ssl.SSLContext:
    """For a server under these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = _authority() if is_trusted else trustme.CA()
    authority.issue_cert(*names, not_after=not_after).configure_cert(context)
    return context


@cache
def client_pair() -> tuple[str, str]:
    """A client's certificate with those that lead to its issuer, whom nobody trusts, and its key: both in PEM."""
    made = trustme.CA().issue_cert("discue@example.com")
    return "".join(blob.bytes().decode() for blob in made.cert_chain_pems), made.private_key_pem.bytes().decode()


def authority_file(folder: Path) -> Path:
    """Write the authority's own certificate, in PEM."""
    path = folder / "authority.pem"
    _authority().cert_pem.write_to_path(str(path))
    return path


def trusting_context() -> ssl.SSLContext:
    """For a client that takes the authority's certificates."""
    context = ssl.create_default_context()
    _authority().configure_trust(context)
    return context
