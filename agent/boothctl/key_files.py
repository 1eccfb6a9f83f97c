"""Signing keys in files: PKCS#8 in PEM, readable by their owner alone, encrypted where a passphrase was asked for."""

import base64
import binascii
import getpass
import os
import stat
import sys
from pathlib import Path
from typing import Final

from agent.boothctl.terminal import EXIT_USAGE, Failed, note, read_file
from agent.documents.signatures import KEY_BYTES, SigningKey

VARIABLE: Final = "BOOTHCTL_PASSPHRASE"

_ENCRYPTED: Final = b"BEGIN ENCRYPTED PRIVATE KEY"
_PRIVATE: Final = b"PRIVATE KEY"


def write_key(file: Path, key: SigningKey, passphrase: bytes | None) -> None:
    """Make the file; one that is there is never replaced."""
    try:
        pem = key.to_pem(passphrase)
    except ValueError as error:  # a passphrase of more than 1,023 bytes
        raise Failed(f"no key was made: {error}") from error
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as stream:
            stream.write(pem)
            stream.flush()
            os.fsync(descriptor)
    except FileExistsError as error:
        raise Failed(f"{file}: there is a file already, and a key is never replaced") from error
    except OSError as error:
        raise Failed(f"{file}: {error.strerror}") from error


def read_key(file: Path) -> SigningKey:
    """A private key; its passphrase is taken from the environment, else asked for."""
    pem = read_file(file)
    if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        note(f"{file}: others may read this private key; chmod 600 takes that away")
    passphrase = _passphrase(f"Passphrase of {file}: ") if _ENCRYPTED in pem else None
    try:
        return SigningKey.from_pem(pem, passphrase)
    except ValueError as error:
        raise Failed(f"{file}: {error}") from error


def new_passphrase() -> bytes:
    passphrase = _passphrase("New passphrase: ")
    if VARIABLE not in os.environ and os.fsencode(getpass.getpass("The same again: ")) != passphrase:
        raise Failed("the two passphrases differ; no key was made")
    return passphrase


def _passphrase(prompt: str) -> bytes:
    given = os.environ.get(VARIABLE)
    if given is None:
        # getpass would read it from a pipe, with a warning, where there is no terminal.
        if not sys.stdin.isatty():
            raise Failed(f"a passphrase is needed: set {VARIABLE}, or run this at a terminal", status=EXIT_USAGE)
        given = getpass.getpass(prompt)
    if not given:
        raise Failed("an empty passphrase protects nothing", status=EXIT_USAGE)
    return os.fsencode(given)


def public_key(text: str) -> bytes:
    """A raw public key: in base64, in a file that holds this, or that of a private key in a file."""
    if (raw := _raw(text)) is not None:
        return raw
    file = Path(text)
    data = read_file(file)
    if _PRIVATE in data:
        return read_key(file).public
    raw = _raw(data.decode(errors="replace").strip())
    if raw is None:
        raise Failed(f"{file}: neither a private key in PEM nor a public key in base64")
    return raw


def _raw(text: str) -> bytes | None:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if len(raw) == KEY_BYTES else None
