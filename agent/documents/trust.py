"""`trust.json`: who may sign what, and how the list itself is replaced. Contract §7."""

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from agent.contract.decode import BadJson, TooLarge, decode_object
from agent.contract.documents import Refusal, invalid
from agent.contract.envelope import Envelope, open_envelope
from agent.contract.typed import Check, Invalid, Length, Pattern, Range, build
from agent.documents.signatures import KEY_BYTES, key_id, verifies

PAYLOAD_TYPE: Final = "application/vnd.booth.trust+json"

Use = Literal["config", "policy", "update", "command"]


def _key_problem(text: str) -> str | None:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    return None if len(raw) == KEY_BYTES else f"write the {KEY_BYTES} bytes of a raw Ed25519 public key in base64"


KeyId = Annotated[str, Pattern("[0-9a-f]{64}", "the hex SHA-256 of the raw public key")]
PublicKey = Annotated[str, Check(_key_problem, "a raw Ed25519 public key in base64")]
_Threshold = Annotated[int, Range(1, 16)]


def _roots_problem(roots: "Roots") -> str | None:
    if roots.threshold > len(roots.keys):
        return f"a threshold of {roots.threshold} with {len(roots.keys)} keys can never be reached"
    return _ids_problem(roots.keys.items())


def _keys_problem(keys: "dict[str, Key]") -> str | None:
    return _ids_problem((id_, key.ed25519) for id_, key in keys.items())


def _ids_problem(keys: Iterable[tuple[str, str]]) -> str | None:
    for id_, text in keys:
        if key_id(base64.b64decode(text)) != id_:
            return f"the key id {id_[:12]}… is not the SHA-256 of its key"
    return None


@dataclass(frozen=True)
class Roots:
    """Offline keys: they sign the next list, and nothing else."""

    threshold: _Threshold
    keys: Annotated[dict[KeyId, PublicKey], Length(32)]


@dataclass(frozen=True)
class Key:
    ed25519: PublicKey
    for_: Annotated[list[Use], Length(4)] = field(metadata={"key": "for"})


@dataclass(frozen=True)
class Thresholds:
    """How many of the keys for a use have to sign; `loosen`: a policy that allows more than the one before."""

    config: _Threshold = 1
    policy: _Threshold = 1
    loosen: _Threshold = 2
    update: _Threshold = 1
    command: _Threshold = 1


@dataclass(frozen=True)
class Trust:
    version: Annotated[int, Range(1, 2**53)]
    epoch: Annotated[int, Range(0, 2**53)]
    roots: Annotated[Roots, Check(_roots_problem, "enough root keys, each under its own id")]
    keys: Annotated[dict[KeyId, Key], Length(64), Check(_keys_problem, "each key under its own id")]
    thresholds: Thresholds = field(default_factory=Thresholds)

    def keys_for(self, use: Use) -> dict[str, bytes]:
        return {id_: base64.b64decode(key.ed25519) for id_, key in self.keys.items() if use in key.for_}

    def root_keys(self) -> dict[str, bytes]:
        return {id_: base64.b64decode(key) for id_, key in self.roots.keys.items()}


def read_trust(data: bytes) -> Trust:
    """A trust list in JSON. Raises `Refusal`: `too-large`, `bad-json`, or `invalid` with every problem."""
    try:
        return build(Trust, decode_object(data))
    except TooLarge as error:
        raise Refusal("too-large", "", str(error)) from error
    except BadJson as error:
        raise Refusal("bad-json", "", str(error)) from error
    except Invalid as error:
        raise invalid(error.problems) from error


def next_trust(current: Trust, message: bytes) -> tuple[Trust, bytes]:
    """The list that follows `current`, and its exact bytes; `current` itself where it arrived again. Raises `Refusal`.

    Version N+1 is signed by the threshold of N's roots and by that of its own: whoever has only the new keys cannot bring them
    in, and nobody can bring in a list whose own roots nobody holds. One that skips a version is refused with `conflict`.
    """
    envelope = open_envelope(message)
    signed_by(envelope, current.root_keys(), current.roots.threshold)
    if envelope.payload_type != PAYLOAD_TYPE:
        raise Refusal("unsupported", "payloadType", f"here {PAYLOAD_TYPE} is read, not {envelope.payload_type[:80]!r}")
    trust = read_trust(envelope.payload)
    if trust.version < current.version:
        raise Refusal("rollback", "version", f"version {trust.version} is older than {current.version}, which is in force")
    if trust.version == current.version:
        if trust == current:
            return current, envelope.payload
        raise Refusal("conflict", "version", f"version {trust.version} is in force with other contents")
    if trust.version > current.version + 1:
        raise Refusal("conflict", "version", f"version {current.version + 1} has to come first; this is {trust.version}")
    if trust.epoch < current.epoch:
        raise Refusal("rollback", "epoch", f"epoch {trust.epoch} is older than {current.epoch}, which is in force")
    signed_by(envelope, trust.root_keys(), trust.roots.threshold)
    return trust, envelope.payload


def signed_by(envelope: Envelope, keys: dict[str, bytes], threshold: int) -> frozenset[str]:
    """Who of `keys` signed. Raises `Refusal`: `bad-signature`, `untrusted-key`, `not-enough-signatures`.

    A broken signature of somebody who is not trusted, and one beside enough good ones, harm nobody.
    """
    data = envelope.signed_bytes()
    trusted = [(id_, signature) for id_, signature in envelope.signatures if id_ in keys]
    good = frozenset(id_ for id_, signature in trusted if verifies(keys[id_], signature, data))
    if len(good) >= threshold:
        return good
    bad = sorted({id_ for id_, _ in trusted} - good)
    if bad:
        raise Refusal("bad-signature", "signatures", f"the signature of key {bad[0][:12]}… is not over these bytes")
    if not good:
        raise Refusal("untrusted-key", "signatures", "signed by none of the keys that trust.json names for this")
    raise Refusal("not-enough-signatures", "signatures", f"{len(good)} of {threshold} signatures that are needed")
