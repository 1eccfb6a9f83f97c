"""DSSE: the envelope around every signed document (https://github.com/secure-systems-lab/dsse)."""

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated, Final

from agent.contract.decode import MAX_BYTES, BadJson, TooLarge, decode_object
from agent.contract.documents import Refusal
from agent.contract.typed import Invalid, Length, build

# base64 grows by a third, and signatures and keys stand beside it.
MAX_ENVELOPE_BYTES: Final = MAX_BYTES * 4 // 3 + 16 * 1024


@dataclass(frozen=True)
class Signature:
    keyid: Annotated[str, Length(256)]  # of somebody else's form, it is a key that is not trusted, and no broken envelope
    sig: str


@dataclass(frozen=True)
class _Wire:
    payload: str
    payloadType: str  # noqa: N815 - DSSE's own spelling
    signatures: Annotated[list[Signature], Length(32)]


@dataclass(frozen=True)
class Envelope:
    """An envelope as it arrived. Nothing in `payload` is to be believed before its signatures are."""

    payload_type: str
    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]  # (keyid, signature)

    def signed_bytes(self) -> bytes:
        """DSSE's pre-authentication encoding: what the signatures are over."""
        kind = self.payload_type.encode()
        return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(self.payload), self.payload)


def open_envelope(message: bytes) -> Envelope:
    """Read a DSSE envelope. Raises `Refusal` with `too-large` or `bad-envelope`."""
    try:
        wire = build(_Wire, decode_object(message, MAX_ENVELOPE_BYTES), unknown="ignore")
        payload = _base64(wire.payload)
        signatures = tuple((signature.keyid, _base64(signature.sig)) for signature in wire.signatures)
    except TooLarge as error:
        raise Refusal("too-large", "", str(error)) from error
    except (BadJson, Invalid, binascii.Error, ValueError) as error:
        raise Refusal("bad-envelope", "", f"not a DSSE envelope in JSON: {error}") from error
    if len(payload) > MAX_BYTES:
        raise Refusal("too-large", "", f"the document has {len(payload)} bytes; at most {MAX_BYTES} are read")
    return Envelope(wire.payloadType, payload, signatures)


def _base64(text: str) -> bytes:
    # DSSE: either alphabet, padded. Bits that stand for nothing are 0 (RFC 4648, 3.5): one document has one form.
    standard = text.replace("-", "+").replace("_", "/")
    data = base64.b64decode(standard, validate=True)
    if base64.b64encode(data).decode() != standard:
        raise ValueError("base64 with bits that stand for nothing")
    return data
