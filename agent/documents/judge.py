"""Whether a document that arrived is accepted: the order of the questions, and the code of each refusal. Contract §7."""

import hashlib
from dataclasses import dataclass
from typing import Literal

from agent.contract.documents import Document, Refusal, read_document
from agent.contract.envelope import open_envelope
from agent.documents.shelf import Revision
from agent.documents.trust import Trust, signed_by

Kind = Literal["config", "policy", "update"]


@dataclass(frozen=True)
class Judged:
    """A document whose signatures, audience and revision are good. `known`: it is what was accepted last, and changes nothing."""

    document: Document
    revision: Revision
    signers: frozenset[str]
    known: bool


def judge(
    message: bytes, kind: Kind, audience: str, trust: Trust | None, last: Revision | None, now: str, *, seen: "Seen | None" = None
) -> Judged:
    """Judge an envelope for one layer. `now`: RFC 3339, not below the clock's floor. Raises `Refusal`.

    Nothing of the payload is looked at before its signatures. `seen` is told the revision once they are good, also where the
    document is then refused: a booth that lags shows it.
    """
    envelope = open_envelope(message)
    if trust is None:
        raise Refusal("untrusted-key", "", "this booth has no trust.json beside its agent.toml: it takes no document")
    signers = signed_by(envelope, trust.keys_for(kind), getattr(trust.thresholds, kind))
    wanted = payload_type(kind)
    if envelope.payload_type != wanted:
        raise Refusal("unsupported", "payloadType", f"here {wanted} is read, not {envelope.payload_type[:80]!r}")
    document = read_document(envelope.payload)
    if document.audience != audience:
        raise Refusal("wrong-audience", "audience", f"it is for {document.audience}, and was published for {audience}")
    _check_epoch(document, trust)
    revision = Revision(document.epoch, document.rev, hashlib.sha256(envelope.payload).hexdigest())
    if seen is not None:
        seen.revision = revision
    known = last == revision
    if last is not None and last.epoch == document.epoch and not known:
        if document.rev < last.rev:
            raise Refusal("rollback", "rev", f"revision {document.rev} is older than {last.rev}, which was accepted")
        if document.rev == last.rev:
            raise Refusal("conflict", "rev", f"revision {last.rev} was accepted with other contents: give changes a higher one")
    if not known and document.not_after is not None and document.not_after < now:
        raise Refusal("expired", "not_after", f"it was good until {document.not_after}; here it is {now}")
    return Judged(document, revision, signers, known)


class Seen:
    """The revision that well-signed bytes claimed to be."""

    revision: Revision | None = None


def payload_type(kind: str) -> str:
    return f"application/vnd.booth.{kind}+json"


def _check_epoch(document: Document, trust: Trust) -> None:
    if document.epoch < trust.epoch:
        raise Refusal("rollback", "epoch", f"epoch {document.epoch} has ended; trust.json is at {trust.epoch}")
    if document.epoch > trust.epoch:
        # Else a leaked key could claim an epoch that nobody ever reaches.
        raise Refusal("untrusted-key", "epoch", f"epoch {document.epoch} has not begun; trust.json is at {trust.epoch}")
