"""Descriptions of failed connections, made from what OpenSSL and the operating system report."""

import re
import ssl
from typing import Final

_NOT_TLS: Final = (
    "WRONG_VERSION_NUMBER",
    "RECORD_LAYER_FAILURE",
    "PACKET_LENGTH_TOO_LONG",
    "HTTP_REQUEST",
    "HTTPS_PROXY_REQUEST",
    "UNKNOWN_PROTOCOL",
)
"""Reasons of several versions of OpenSSL for a response that is not TLS."""
_NO_TLS: Final = "{host} does not speak TLS at this port: the URL needs http:// or another port"
_CODES: Final = re.compile(r"\[SSL: (\w+)\] (.*?) \(_ssl\.c:\d+\)")
_CERTIFICATE_PROBLEMS: Final = {
    2: "the issuer of the certificate of {host} is unknown",
    9: "the certificate of {host} is not valid yet",
    10: "the certificate of {host} has expired",
    18: "the certificate of {host} is self-signed",
    19: "the certificate of {host} has a self-signed issuer that is not trusted",
    20: "the issuer of the certificate of {host} is unknown",
    21: "the issuer of the certificate of {host} is unknown",
    23: "the certificate of {host} is revoked",
    62: "the certificate of the server is not for {host}",
    64: "the certificate of the server is not for {host}",
}
"""By OpenSSL's number: X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT and so on."""
_ALERTS: Final = (
    ("CERTIFICATE_REQUIRED", "{host} requires a client certificate"),
    ("UNRECOGNIZED_NAME", "the server has no certificate for {host}"),
    ("PROTOCOL_VERSION", "{host} does not support TLS 1.2 or newer"),
    ("UNSUPPORTED_PROTOCOL", "{host} does not support TLS 1.2 or newer"),
    ("NO_SHARED_CIPHER", "{host} supports none of the offered ciphers"),
    ("HANDSHAKE_FAILURE", "{host} refused the TLS handshake: it requires a client certificate, or other ciphers"),
    ("UNEXPECTED_EOF", "{host} closed the connection during the TLS handshake"),
    ("ALERT_BAD_CERTIFICATE", "{host} refused the client certificate"),
    ("ALERT_UNSUPPORTED_CERTIFICATE", "{host} refused the client certificate"),
    ("ALERT_CERTIFICATE", "{host} refused the client certificate"),
    ("ALERT_UNKNOWN_CA", "{host} refused the client certificate"),
)
"""By a part of OpenSSL's reason. The first match applies."""


def connection_problem(error: OSError, host: str = "the server") -> str:
    """Return why a connection to the host failed, as a clause without a period."""
    if isinstance(error, ssl.SSLError):
        return _tls_problem(error, host)
    return error.strerror or type(error).__name__


def capitalized(clause: str) -> str:
    """Return the clause with a capital letter, unless it begins with the name of a host."""
    return f"T{clause[1:]}" if clause.startswith("the ") else clause


def without_codes(text: str) -> str:
    """Return a text of a library with OpenSSL's error codes replaced by descriptions."""
    return _CODES.sub(lambda found: _NO_TLS.format(host="the server") if found[1] in _NOT_TLS else found[2], text)


def _tls_problem(error: ssl.SSLError, host: str) -> str:
    # Only errors from OpenSSL have these attributes.
    message, reason = getattr(error, "verify_message", None), getattr(error, "reason", None) or ""
    if message:
        known = _CERTIFICATE_PROBLEMS.get(getattr(error, "verify_code", 0))
        return (known or f"the certificate of {{host}} is not valid: {message.removesuffix('.')}").format(host=host)
    if any(each in reason for each in _NOT_TLS):
        return _NO_TLS.format(host=host)
    for part, problem in _ALERTS:
        if part in reason:
            return problem.format(host=host)
    words = reason.lower().replace("_", " ")
    return f"the TLS handshake failed{words and f': {words}'}"
