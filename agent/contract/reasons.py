"""One word for why a connection failed: what findings carry in `detail.reason`."""

import re
import socket
import ssl
from typing import Final

# OpenSSL's X509_V_ERR_* (openssl-verification-options(1)).
_CERTIFICATE_ERRORS: Final = {
    9: "certificate-not-yet-valid",
    10: "certificate-expired",
    18: "unknown-ca",
    19: "unknown-ca",
    20: "unknown-ca",
    21: "unknown-ca",
    23: "certificate-revoked",
    62: "wrong-name",
    64: "wrong-name",
}


# Alerts by which the other side refuses our certificate (RFC 8446, 6.2), as OpenSSL spells them.
_REFUSALS: Final = {
    "CERTIFICATE_EXPIRED": "own-certificate-expired",
    "CERTIFICATE_REVOKED": "own-certificate-revoked",
    "UNKNOWN_CA": "own-certificate-of-unknown-ca",
    "CERTIFICATE_REQUIRED": "own-certificate-missing",
    "BAD_CERTIFICATE": "own-certificate-refused",
    "UNSUPPORTED_CERTIFICATE": "own-certificate-refused",
    "CERTIFICATE_UNKNOWN": "own-certificate-refused",
    "ACCESS_DENIED": "own-certificate-refused",
}


def refused_by_alert(text: str) -> str | None:
    """Of what OpenSSL says of an alert that came in; None where it is none about a certificate."""
    found = re.search(r"ALERT_([A-Z_]+)", text)
    return None if found is None else _REFUSALS.get(found[1])


def tls_reason(error: Exception) -> str:
    """Of a failed handshake."""
    if isinstance(error, ssl.SSLError) and (refusal := refused_by_alert(error.reason or "")) is not None:
        return refusal
    if isinstance(error, ssl.SSLCertVerificationError):
        return _CERTIFICATE_ERRORS.get(error.verify_code, "certificate-refused")
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, FileNotFoundError | PermissionError):
        return "certificate-file-unreadable"
    if isinstance(error, ssl.SSLError) and error.reason:
        return re.sub("[^a-z0-9]+", "-", error.reason.lower())
    return "handshake-failed"


def connect_reason(error: OSError) -> str:
    """Of a failed TCP connection."""
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    return "timeout" if isinstance(error, TimeoutError) else "unreachable"


def dns_reason(error: OSError | UnicodeError) -> str:
    """Of a failed name resolution."""
    if isinstance(error, UnicodeError):
        return "unknown-name"
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, socket.gaierror) and error.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
        return "unknown-name"
    return "no-answer"
