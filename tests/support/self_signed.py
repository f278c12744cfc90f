"""The certificate that `discue serve --tls-self-signed` makes."""

import ssl
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from discue.cli.tls import write_self_signed


def self_signed_context() -> ssl.SSLContext:
    """For a server on loopback with a self-signed certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with TemporaryDirectory() as folder:
        files = write_self_signed(Path(folder), "127.0.0.1", datetime.now(UTC))
        assert files.cert is not None
        context.load_cert_chain(files.cert, files.key)
    return context
