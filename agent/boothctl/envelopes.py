"""Documents as an operator signs them: the statement around a `doc`, its envelope, and a second signature."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from agent.boothctl import trust_lists
from agent.boothctl.local_checks import problems_of
from agent.boothctl.terminal import Failed, read_file, refused
from agent.boothctl.words import Audience, timestamp
from agent.contract.decode import BadJson, TooLarge, decode_object, encode
from agent.contract.documents import SCHEMA, Document, Refusal, invalid, read_document
from agent.contract.envelope import MAX_ENVELOPE_BYTES, Envelope, open_envelope
from agent.documents.judge import payload_type
from agent.documents.signatures import SigningKey
from agent.documents.trust import PAYLOAD_TYPE, read_trust

KINDS: Final = ("config", "policy", "update")


@dataclass(frozen=True)
class Terms:
    """What a statement says beside its `doc`. `confirm_s`: None for the contract's own."""

    audience: Audience
    rev: int
    epoch: int
    not_after: str | None = None
    confirm_s: int | None = None


def statement(doc: dict[str, Any], terms: Terms) -> bytes:
    data = {
        "schema": SCHEMA,
        "audience": terms.audience.topic,
        "rev": terms.rev,
        "epoch": terms.epoch,
        "issued_at": timestamp(datetime.now(UTC)),
        "not_after": terms.not_after,
    }
    return encode(data | ({} if terms.confirm_s is None else {"confirm_s": terms.confirm_s}) | {"doc": doc})


def checked(kind: str, payload: bytes) -> Document:
    """A statement that a booth can take, as far as that is known here. Raises `Refusal` with every problem."""
    document = read_document(payload)
    problems = problems_of(kind, document.doc)
    if problems:
        raise invalid(problems)
    return document


@dataclass(frozen=True)
class Input:
    """What a file holds: a signed envelope, or a plain `doc`."""

    data: dict[str, Any]
    envelope: Envelope | None

    def doc(self) -> dict[str, Any]:
        return self.data if self.envelope is None else read_document(self.envelope.payload).doc


def read_input(file: Path) -> Input:
    raw = read_file(file)
    try:
        data = decode_object(raw, MAX_ENVELOPE_BYTES)
        return Input(data, open_envelope(raw) if {"payload", "payloadType", "signatures"} <= data.keys() else None)
    except TooLarge as error:
        raise Failed(f"{file}: too-large: {error}") from error
    except BadJson as error:
        raise Failed(f"{file}: bad-json: {error}") from error
    except Refusal as refusal:
        raise refused(refusal, file) from refusal


def checked_envelope(envelope: Envelope) -> tuple[str, str]:
    """The kind of what it holds, and that in words. Raises `Refusal`."""
    if envelope.payload_type == PAYLOAD_TYPE:
        return "trust", trust_lists.in_words(read_trust(envelope.payload))
    for kind in KINDS:
        if envelope.payload_type == payload_type(kind):
            return kind, in_words(kind, checked(kind, envelope.payload))
    raise Refusal("unsupported", "payloadType", f"{envelope.payload_type[:80]!r} is signed by no act of boothctl")


def in_words(kind: str, document: Document) -> str:
    until = "" if document.not_after is None else f", until {document.not_after}"
    sections = ", ".join(document.doc) or "nothing"
    return f"{kind} for {document.audience}, revision {document.rev}, epoch {document.epoch}{until}: {sections}"


def with_signatures(envelope: Envelope, keys: Sequence[SigningKey]) -> bytes:
    """The same bytes inside, signed by more keys. Raises `Failed` for a key that has signed already."""
    signatures = list(envelope.signatures)
    for key in keys:
        if any(id_ == key.id for id_, _ in signatures):
            raise Failed(f"key {key.id[:12]}… has signed this already")
        signatures.append((key.id, key.sign(envelope.signed_bytes())))
    return encode(
        {
            "payload": base64.b64encode(envelope.payload).decode(),
            "payloadType": envelope.payload_type,
            "signatures": [{"keyid": id_, "sig": base64.b64encode(signature).decode()} for id_, signature in signatures],
        }
    )
