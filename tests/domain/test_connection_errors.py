"""Descriptions of TLS errors, in tables."""

import errno
import socket
import ssl

import pytest

from discue.domain.connection_errors import capitalized, connection_problem, without_codes


def tls_error(reason: str | None) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] words (_ssl.c:1006)")
    error.reason = reason  # type: ignore[assignment]
    return error


def certificate_error(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, f"[SSL: CERTIFICATE_VERIFY_FAILED] {message} (_ssl.c:1006)")
    error.verify_code, error.verify_message = code, message
    error.reason = "CERTIFICATE_VERIFY_FAILED"
    return error


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (tls_error("WRONG_VERSION_NUMBER"), "a.example does not speak TLS at this port: the URL needs http://"),
        (tls_error("RECORD_LAYER_FAILURE"), "a.example does not speak TLS at this port: the URL needs http://"),
        (tls_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "a.example requires a client certificate"),
        (tls_error("TLSV1_UNRECOGNIZED_NAME"), "the server has no certificate for a.example"),
        (tls_error("TLSV1_ALERT_PROTOCOL_VERSION"), "a.example does not support TLS 1.2 or newer"),
        (tls_error("UNSUPPORTED_PROTOCOL"), "a.example does not support TLS 1.2 or newer"),
        (tls_error("SSLV3_ALERT_HANDSHAKE_FAILURE"), "a.example refused the TLS handshake: it requires a client"),
        (tls_error("SSL/TLS_ALERT_HANDSHAKE_FAILURE"), "a.example refused the TLS handshake: it requires a client"),
        (tls_error("TLSV1_ALERT_UNKNOWN_CA"), "a.example refused the client certificate"),
        (tls_error("SSLV3_ALERT_BAD_CERTIFICATE"), "a.example refused the client certificate"),
        (tls_error("SSLV3_ALERT_CERTIFICATE_EXPIRED"), "a.example refused the client certificate"),
        (tls_error("UNEXPECTED_EOF_WHILE_READING"), "a.example closed the connection during the TLS handshake"),
        (tls_error("TLSV1_ALERT_INTERNAL_ERROR"), "the TLS handshake failed: tlsv1 alert internal error"),
        (tls_error(None), "the TLS handshake failed"),
        (certificate_error(10, "certificate has expired"), "the certificate of a.example has expired"),
        (certificate_error(9, "certificate is not yet valid"), "the certificate of a.example is not valid yet"),
        (certificate_error(18, "self-signed certificate"), "the certificate of a.example is self-signed"),
        (
            certificate_error(19, "self-signed certificate in certificate chain"),
            "the certificate of a.example has a self-signed issuer",
        ),
        (certificate_error(20, "unable to get local issuer"), "the issuer of the certificate of a.example is unknown"),
        (certificate_error(62, "Hostname mismatch, …"), "the certificate of the server is not for a.example"),
        (certificate_error(66, "EE certificate key too weak."), "the certificate of a.example is not valid: EE cert"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "Connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (OSError(), "OSError"),
    ],
    ids=str,
)
def test_problem_is_in_words(error: OSError, problem: str) -> None:
    found = connection_problem(error, "a.example")

    assert found.startswith(problem)
    assert not found.endswith(".")
    assert "_ssl.c" not in found
    assert not [word for word in found.split() if "_" in word]


def test_sentence_begins_with_a_capital_or_the_name_of_the_host() -> None:
    assert capitalized("the TLS handshake failed") == "The TLS handshake failed"
    assert capitalized("a.example requires TLS") == "a.example requires TLS"


def test_text_of_a_library_loses_the_codes_of_openssl() -> None:
    text = "SSLError(1, '[SSL: {}] {} (_ssl.c:1006)') at x.example"

    assert without_codes(text.format("WRONG_VERSION_NUMBER", "wrong version number")) == (
        "SSLError(1, 'the server does not speak TLS at this port: the URL needs http:// or another port') at x.example"
    )
    assert without_codes(text.format("CERTIFICATE_VERIFY_FAILED", "certificate verify failed: expired")) == (
        "SSLError(1, 'certificate verify failed: expired') at x.example"
    )
