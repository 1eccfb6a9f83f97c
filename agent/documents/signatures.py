"""Ed25519 (RFC 8032) over DSSE's pre-authentication encoding: keys, signing, verifying. The one module that knows the library."""

import base64
import hashlib
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from agent.contract.decode import encode
from agent.contract.envelope import Envelope

KEY_BYTES: Final = 32


def key_id(public: bytes) -> str:
    """The hex SHA-256 of the raw public key."""
    return hashlib.sha256(public).hexdigest()


def verifies(public: bytes, signature: bytes, data: bytes) -> bool:
    """Whether `signature` over `data` is that of the raw public key; False for a key or signature that is none."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


class SigningKey:
    """A private key, in memory. Its seed is the 32 bytes of RFC 8032."""

    def __init__(self, seed: bytes) -> None:
        """Raises ValueError for a seed of another length."""
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public: Final = self._key.public_key().public_bytes_raw()
        self.id: Final = key_id(self.public)

    @classmethod
    def generate(cls) -> "SigningKey":
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def from_pem(cls, pem: bytes, passphrase: bytes | None = None) -> "SigningKey":
        """Read PKCS#8 (RFC 5958) in PEM. Raises ValueError for anything else, and for a passphrase that does not open it."""
        try:
            key = load_pem_private_key(pem, passphrase)
        except (TypeError, ValueError, UnsupportedAlgorithm) as error:  # TypeError: a passphrase too few, or one too many
            raise ValueError("no Ed25519 private key in PEM, or not the passphrase that opens it") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("a private key of another kind than Ed25519")  # noqa: TRY004 - the text is wrong, not its type
        return cls(key.private_bytes_raw())

    def to_pem(self, passphrase: bytes | None = None) -> bytes:
        """PKCS#8 in PEM, encrypted where there is a passphrase."""
        encryption = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)

    @property
    def seed(self) -> bytes:
        return self._key.private_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data)


def seal(payload_type: str, payload: bytes, keys: list[SigningKey]) -> bytes:
    """A DSSE envelope in JSON around the exact bytes of `payload`, signed by each key."""
    data = Envelope(payload_type, payload, ()).signed_bytes()
    signatures = [{"keyid": key.id, "sig": base64.b64encode(key.sign(data)).decode()} for key in keys]
    return encode({"payload": base64.b64encode(payload).decode(), "payloadType": payload_type, "signatures": signatures})
