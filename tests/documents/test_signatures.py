"""Ed25519 keys, signatures and envelopes; other programs read the keys too."""

import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent.contract.envelope import open_envelope
from agent.documents.signatures import SigningKey, key_id, seal, verifies

# RFC 8032, 7.1, test 2.
SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)
PASSPHRASE = b"correct horse battery staple"


def test_the_rfcs_own_example() -> None:
    key = SigningKey(SEED)
    assert key.public == PUBLIC
    assert key.sign(b"\x72") == SIGNATURE
    assert verifies(PUBLIC, SIGNATURE, b"\x72")
    assert not verifies(PUBLIC, SIGNATURE, b"\x73")
    assert not verifies(PUBLIC, SIGNATURE[:-1], b"\x72")
    assert not verifies(PUBLIC[:-1], SIGNATURE, b"\x72")


def test_each_key_of_an_envelope_signs_its_exact_bytes() -> None:
    keys = [SigningKey.generate(), SigningKey.generate()]
    envelope = open_envelope(seal("application/x", b'{ "a": 1}', keys))
    assert (envelope.payload_type, envelope.payload) == ("application/x", b'{ "a": 1}')
    assert [id_ for id_, _ in envelope.signatures] == [key_id(key.public) for key in keys]
    for key, (_, signature) in zip(keys, envelope.signatures, strict=True):
        assert verifies(key.public, signature, envelope.signed_bytes())


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_a_key_comes_back_from_its_pem(passphrase: bytes | None) -> None:
    pem = SigningKey(SEED).to_pem(passphrase)
    assert pem.startswith(b"-----BEGIN PRIVATE KEY-----" if passphrase is None else b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert SigningKey.from_pem(pem, passphrase).seed == SEED


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_openssl_reads_it(passphrase: bytes | None) -> None:
    given = ["-passin", f"pass:{(passphrase or b'').decode()}"]
    command = ["openssl", "pkey", "-pubout", "-outform", "DER", *given]
    done = subprocess.run(command, input=SigningKey(SEED).to_pem(passphrase), capture_output=True, check=True)
    assert done.stdout[-32:] == PUBLIC


def other_kind() -> bytes:
    return generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("pem", "passphrase", "said"),
    [
        (SigningKey(SEED).to_pem(PASSPHRASE), None, "not the passphrase that opens it"),
        (SigningKey(SEED).to_pem(PASSPHRASE), b"another", "not the passphrase that opens it"),
        (SigningKey(SEED).to_pem(), PASSPHRASE, "not the passphrase that opens it"),
        (b"", None, "no Ed25519 private key in PEM"),
        (SEED, None, "no Ed25519 private key in PEM"),
        (SigningKey(SEED).to_pem()[:60], None, "no Ed25519 private key in PEM"),
        (other_kind(), None, "of another kind"),
    ],
)
def test_what_is_no_key_is_one_error(pem: bytes, passphrase: bytes | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SigningKey.from_pem(pem, passphrase)
