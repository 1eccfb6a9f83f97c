"""What a web server is asked, and what its silence or its refusal is called. HTTP/1.1 (RFC 9110, RFC 9112)."""

import http.client
import re
import socket
import ssl
import string
from typing import Final
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from agent import VERSION
from agent.contract.reasons import tls_reason
from agent.contract.words import printable
from agent.fetching.failed import Failed
from agent.system.race import first_connected

_MOST_REDIRECTS: Final = 5
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_RANGE: Final = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15}|\*)")  # RFC 9110 §14.4
_HEADERS: Final = {"User-Agent": f"booth-agent/{VERSION}", "Accept-Encoding": "identity", "Connection": "close"}


def asked(url: str, start: int, patience_s: float) -> http.client.HTTPResponse:
    """The answer to a request for a file from byte `start` on, behind all redirections; close it. Raises Failed.

    `patience_s`: so long the server may be silent, then and while it is read.
    """
    for redirects in range(_MOST_REDIRECTS + 1):
        # What a server redirects to is nobody's word but its own: it is not repeated.
        response = _answer(url, start, patience_s, "where the server redirects to" if redirects else None)
        if response.status not in _REDIRECTS:
            return response
        response.close()
        url = _redirected(url, response.getheader("Location", ""))
    raise Failed("bad-redirect", f"more than {_MOST_REDIRECTS} redirections: sign the address where the file is")


def is_rest(response: http.client.HTTPResponse, start: int, size: int) -> bool:
    """Whether it is what is missing of a file of `size` bytes, from byte `start` on, and nothing else."""
    match = _RANGE.fullmatch(response.getheader("Content-Range", ""))
    if response.status != 206 or match is None or response.length not in {None, size - start}:
        return False
    return (int(match[1]), int(match[2])) == (start, size - 1) and match[3] in {str(size), "*"}


def read(response: http.client.HTTPResponse, most: int) -> bytes:
    """What has come of it, some `most` bytes; none at its end, whether it was complete or not. Raises Failed."""
    try:
        return response.read1(most)
    except (OSError, http.client.HTTPException) as error:
        raise _failure(error, "the server") from error


def _answer(url: str, start: int, patience_s: float, called: str | None = None) -> http.client.HTTPResponse:
    """`called`: what the host is called in messages, unless by its name."""
    tls, host, port, target = _taken_apart(url)
    headers = _HEADERS | {"Range": f"bytes={start}-"} if start else _HEADERS
    try:
        context = _tls_context() if tls else None
        line = _dialled(host, port, context, patience_s)
        with line:  # it stays open for what is still to be read
            connection = (
                http.client.HTTPConnection(host, port)
                if context is None
                else http.client.HTTPSConnection(host, port, context=context)
            )
            connection.sock = line
            connection.request("GET", target, headers=headers)
            return connection.getresponse()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _failure(error, called or host) from error


def _taken_apart(url: str) -> tuple[bool, str, int, str]:
    """Whether it takes TLS; host, port and what is asked for there."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Failed("bad-url", "the address cannot be read: check its host and its port") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Failed("bad-url", "the address does not begin with http://HOST or https://HOST")
    tls = parts.scheme == "https"
    return tls, parts.hostname, port or (443 if tls else 80), urlunsplit(("", "", parts.path or "/", parts.query, ""))


def _tls_context() -> ssl.SSLContext:
    """The machine's authorities, and the server's name verified."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _dialled(host: str, port: int, context: ssl.SSLContext | None, patience_s: float) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    line, _ = first_connected([(family, address) for family, _, _, _, address in found])
    line.settimeout(patience_s)
    return line if context is None else context.wrap_socket(line, server_hostname=host)


def _redirected(url: str, location: str) -> str:
    """Where to go on. What began with TLS never goes on without."""
    try:
        there = urljoin(url, quote(location, safe=string.punctuation, encoding="latin-1"))
        scheme = urlsplit(there).scheme
    except ValueError:
        scheme = ""
    if not location or scheme not in {"http", "https"} or (urlsplit(url).scheme == "https" and scheme != "https"):
        raise Failed("bad-redirect", "the server redirects to no address, or from https:// to http://: sign where the file is")
    return there


def _failure(error: Exception, host: str) -> Failed:
    """In the order of what says most: several are kinds of OSError or of ValueError."""
    reason, message = "bad-url", "no name that can be asked for"
    if isinstance(error, ssl.SSLError):
        word = tls_reason(error)
        reason, message = "tls-failure", f"{word}: {_TLS_HELP.get(word, 'check what answers there, and its TLS')}"
    elif isinstance(error, socket.gaierror):
        reason, message = "dns-failure", f"the name has no address ({error.strerror}): check the name, and the booth's resolver"
    elif isinstance(error, TimeoutError):
        reason, message = "timeout", "no answer in time: is the server up, and does a firewall let the booth through?"
    elif isinstance(error, ConnectionRefusedError):
        reason, message = "refused", "nobody listens there: is the web server up, on that port?"
    elif isinstance(error, ConnectionError | http.client.IncompleteRead):
        reason, message = "truncated", "it closed the connection early; the next attempt goes on from there"
    elif isinstance(error, http.client.InvalidURL):
        reason, message = "bad-url", "the address has characters that no address has"
    elif isinstance(error, http.client.HTTPException):
        reason, message = "bad-answer", "what answers there is no web server: check host and port"
    elif isinstance(error, OSError):
        reason, message = "unreachable", f"{error.strerror}: check the booth's network"
    return Failed(reason, f"{printable(host)}: {message}")


_TLS_HELP: Final = {
    "unknown-ca": "put its authority into the booth's trust store (update-ca-certificates)",
    "wrong-name": "its certificate is for another name: sign an address with that one",
    "certificate-expired": "renew its certificate; or the booth's clock is wrong",
    "certificate-not-yet-valid": "the booth's clock is behind, or the certificate is for later",
}
