"""TLS files: the operator's, validated, or a self-signed certificate for testing."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from discue.cli.command import utc
from discue.config.settings import Settings
from discue.domain.clock import Clock
from discue.domain.errors import SettingsInvalid

_VALID_FOR = timedelta(days=90)
# A client's clock may be slow.
_VALID_SINCE = timedelta(days=1)
_SOON = timedelta(days=14)
_ALWAYS_NAMED = ("localhost", "127.0.0.1", "::1")


class CertificateFiles(NamedTuple):
    """Paths of PEM files; None twice for cleartext."""

    cert: Path | None
    key: Path | None


@contextmanager
def certificate_files(settings: Settings, clock: Clock) -> Iterator[CertificateFiles]:
    """Yield the TLS files to serve with. A self-signed pair exists only within the block, long enough to be read.

    Raises SettingsInvalid if the operator's files are unusable.
    """
    if settings.tls_self_signed:
        with tempfile.TemporaryDirectory(prefix="discue-tls-") as folder:
            yield write_self_signed(Path(folder), settings.host, utc(clock.now()))
        return
    require_valid_certificate(settings)
    yield CertificateFiles(settings.tls_cert, settings.tls_key)


def require_valid_certificate(settings: Settings) -> None:
    """Raise SettingsInvalid if the operator's files are unusable."""
    if settings.tls_cert is not None and settings.tls_key is not None:
        load_pair(settings.tls_cert, settings.tls_key)


def write_self_signed(folder: Path, host: str, now: datetime) -> CertificateFiles:
    """Write a certificate for localhost, 127.0.0.1, ::1 and the host, and its key, readable only by the owner."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "discue, self-signed")])
    hosts = dict.fromkeys((*_ALWAYS_NAMED, host.rstrip(".").lower()))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _VALID_SINCE)
        .not_valid_after(now + _VALID_FOR)
        .add_extension(x509.SubjectAlternativeName(map(_general_name, hosts)), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, SHA256())
    )
    files = (folder / "cert.pem", folder / "key.pem")
    contents = (
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
    for path, content in zip(files, contents, strict=True):
        path.touch(mode=0o600)
        path.write_bytes(content)
    return CertificateFiles(*files)


def load_pair(cert: Path, key: Path) -> x509.Certificate:
    """Return the certificate. Raises SettingsInvalid unless both files are readable and belong together."""
    try:
        certificate = x509.load_pem_x509_certificates(_read(cert, "tls_cert"))[0]
    except ValueError as error:
        raise SettingsInvalid(f"tls_cert: {cert} contains no certificate in PEM format.") from error
    try:
        private_key = load_pem_private_key(_read(key, "tls_key"), password=None)
    except TypeError as error:
        raise SettingsInvalid(f"tls_key: {key} is encrypted. Use a key without a passphrase.") from error
    except ValueError as error:
        raise SettingsInvalid(f"tls_key: {key} contains no private key in PEM format.") from error
    if private_key.public_key() != certificate.public_key():
        raise SettingsInvalid(f"tls_key: {key} is not the private key of the certificate in {cert}.")
    return certificate


def validity_problem(certificate: x509.Certificate, now: datetime) -> str | None:
    """Return why clients reject the certificate now, or will soon. None: no problem."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begins:
        return f"the certificate is not valid before {begins:%Y-%m-%d %H:%M} UTC"
    if now > ends:
        return f"the certificate expired at {ends:%Y-%m-%d %H:%M} UTC"
    return f"the certificate expires soon, at {ends:%Y-%m-%d %H:%M} UTC" if ends - now < _SOON else None


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _read(path: Path, setting: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsInvalid(f"{setting}: {path} cannot be read ({error.strerror}).") from error
