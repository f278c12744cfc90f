import socket
import ssl
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from discue.cli.tls import validity_problem, write_self_signed
from tests.cli.commands import run, serving

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def write_pair(folder: Path, issued: trustme.LeafCert) -> tuple[Path, Path]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return cert, key


def flags_of(pair: tuple[Path, Path]) -> list[str]:
    return [f"--tls-cert={pair[0]}", f"--tls-key={pair[1]}"]


def negotiated(context: ssl.SSLContext, port: int, version: ssl.TLSVersion, *protocols: str) -> tuple[str | None, ...]:
    """The version of TLS and the protocol that a server chooses."""
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(protocols)
    raw = socket.create_connection(("127.0.0.1", port), timeout=10)
    with context.wrap_socket(raw, server_hostname="localhost") as connected:
        return connected.version(), connected.selected_alpn_protocol()


def test_one_port_serves_tls_1_2_and_1_3_and_http_1_and_2(tmp_path: Path, authority: trustme.CA) -> None:
    pair = write_pair(tmp_path, authority.issue_cert("localhost", "127.0.0.1"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with serving(tmp_path, *flags_of(pair)) as server:
        port = urlsplit(server.url).port or 0
        older, newer = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
        assert negotiated(context, port, older, "h2", "http/1.1") == ("TLSv1.2", "h2")
        assert negotiated(context, port, newer, "h2", "http/1.1") == ("TLSv1.3", "h2")
        assert negotiated(context, port, newer, "http/1.1") == ("TLSv1.3", "http/1.1")
        assert negotiated(context, port, newer) == ("TLSv1.3", None)
        for http2, version in ((False, "HTTP/1.1"), (True, "HTTP/2")):
            with httpx.Client(http2=http2, verify=context, trust_env=False) as client:
                answer = client.get(f"{server.url}/")
                assert (answer.status_code, answer.http_version) == (200, version)
                assert answer.json()["_links"]["self"]["href"].startswith("https://")


def test_older_tls_versions_are_rejected(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        serving(tmp_path, "--tls-self-signed") as server,
        pytest.warns(DeprecationWarning, match="TLSv1_1"),
        pytest.raises(ssl.SSLError),
    ):
        negotiated(context, urlsplit(server.url).port or 0, ssl.TLSVersion.TLSv1_1)


def test_self_signed_certificate_is_new_at_each_start_and_leaves_no_file(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    seen = set()
    for _ in range(2):
        with serving(tmp_path, "--tls-self-signed", TMPDIR=str(temporary)) as server:
            seen.add(ssl.get_server_certificate(("127.0.0.1", urlsplit(server.url).port or 0)))
            assert list(temporary.iterdir()) == []
            assert server.stop() == 0

    assert len(seen) == 2


def test_self_signed_certificate_verifies_with_itself(tmp_path: Path) -> None:
    with serving(tmp_path, "--tls-self-signed") as server:
        port = urlsplit(server.url).port or 0
        context = ssl.create_default_context(cadata=ssl.get_server_certificate(("127.0.0.1", port)))
        for host in ("localhost", "127.0.0.1"):
            answer = httpx.get(f"https://{host}:{port}/health/live", verify=context, trust_env=False)
            assert answer.status_code == 200


@pytest.mark.parametrize(
    ("host", "more"), [("127.0.0.1", []), ("10.1.2.3", [IPv4Address("10.1.2.3")]), ("box.example", ["box.example"])]
)
def test_self_signed_certificate_names_loopback_and_the_host(tmp_path: Path, host: str, more: list[object]) -> None:
    files = write_self_signed(tmp_path, host, NOW)
    assert files.cert is not None
    assert files.key is not None
    certificate = x509.load_pem_x509_certificate(files.cert.read_bytes())
    named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert [name.value for name in named] == ["localhost", IPv4Address("127.0.0.1"), IPv6Address("::1"), *more]
    assert certificate.not_valid_before_utc < NOW < certificate.not_valid_after_utc
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600


def test_certificate_outside_its_validity_is_reported(tmp_path: Path) -> None:
    files = write_self_signed(tmp_path, "127.0.0.1", NOW)
    assert files.cert is not None
    certificate = x509.load_pem_x509_certificate(files.cert.read_bytes())

    assert validity_problem(certificate, NOW) is None
    assert "not valid before" in str(validity_problem(certificate, NOW - timedelta(days=2)))
    assert "expires soon" in str(validity_problem(certificate, NOW + timedelta(days=80)))
    assert "expired" in str(validity_problem(certificate, NOW + timedelta(days=91)))


def encrypted(key: bytes) -> bytes:
    return load_pem_private_key(key, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )


@pytest.mark.parametrize(
    ("number", "spoilt", "subject", "message"),
    [
        (0, lambda _: b"no certificate", "tls_cert", "contains no certificate"),
        (1, lambda _: b"no key", "tls_key", "contains no private key"),
        (1, encrypted, "tls_key", "is encrypted"),
        (1, lambda _: trustme.CA().issue_cert("x").private_key_pem.bytes(), "tls_key", "is not the private key of the"),
        (0, None, "tls_cert", "No such file"),
    ],
    ids=["no certificate", "no key", "encrypted key", "another key", "no file"],
)
def test_unusable_tls_files_are_named_by_serve_and_check(
    tmp_path: Path,
    authority: trustme.CA,
    number: int,
    spoilt: Callable[[bytes], bytes] | None,
    subject: str,
    message: str,
) -> None:
    pair = write_pair(tmp_path, authority.issue_cert("localhost"))
    if spoilt is None:
        pair[number].unlink()
    else:
        pair[number].write_bytes(spoilt(pair[number].read_bytes()))
    served, checked = (run(tmp_path, command, "--port=0", *flags_of(pair)) for command in ("serve", "check"))

    assert (served.returncode, checked.returncode) == (1, 1)
    assert list(tmp_path.glob("discue.db*")) == []
    assert message in served.stderr
    assert served.stderr.splitlines()[-1].startswith(f"discue: {subject}: ")
    assert len(served.stderr.splitlines()) == 1
    (problem,) = [line for line in checked.stdout.splitlines() if line.startswith("PROBLEM")]
    assert subject in problem
    assert message in problem


def test_check_finds_an_expired_certificate(tmp_path: Path, authority: trustme.CA) -> None:
    expired = authority.issue_cert("localhost", not_after=datetime.now(UTC) - timedelta(days=1))
    result = run(tmp_path, "check", *flags_of(write_pair(tmp_path, expired)))

    assert result.returncode == 1
    assert "tls_cert: the certificate expired at" in result.stdout


def test_check_accepts_a_matching_pair(tmp_path: Path, authority: trustme.CA) -> None:
    result = run(tmp_path, "check", *flags_of(write_pair(tmp_path, authority.issue_cert("localhost"))))

    assert result.returncode == 0
    assert "tls_cert: certificate and key match" in result.stdout
