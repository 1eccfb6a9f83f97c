"""Trust lists: a first one, the one that follows another, and a list in words."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agent.boothctl.pages import columns
from agent.boothctl.terminal import Failed
from agent.contract.decode import BadJson, decode_object, encode
from agent.contract.documents import Refusal
from agent.contract.envelope import Envelope, open_envelope
from agent.contract.typed import plain
from agent.documents.signatures import key_id
from agent.documents.trust import PAYLOAD_TYPE, Key, Roots, Thresholds, Trust, Use, read_trust, signed_by


@dataclass(frozen=True)
class Changes:
    """What the next list has that this one has not. A key that is there already is for the new uses from then on."""

    roots: Sequence[bytes] = ()
    keys: Mapping[bytes, list[Use]] = field(default_factory=dict)
    gone_roots: Sequence[str] = ()  # key ids, or the beginning of one
    gone_keys: Sequence[str] = ()
    root_threshold: int | None = None
    thresholds: Mapping[str, int] = field(default_factory=dict)
    new_epoch: bool = False


def first(changes: Changes) -> Trust:
    """Raises `Refusal` with everything that is wrong."""
    return _changed(Trust(0, 0, Roots(len(changes.roots), {}), {}), replace(changes, new_epoch=True))


def following(current: Trust, changes: Changes) -> Trust:
    """Raises `Refusal`, and `Failed` for a key to remove that is not there."""
    return _changed(current, changes)


def _changed(before: Trust, changes: Changes) -> Trust:
    roots = _without(before.roots.keys, changes.gone_roots, "root") | {key_id(raw): _text(raw) for raw in changes.roots}
    keys = _without(before.keys, changes.gone_keys, "key")
    keys |= {key_id(raw): Key(_text(raw), uses) for raw, uses in changes.keys.items()}
    after = Trust(
        before.version + 1,
        before.epoch + changes.new_epoch,
        Roots(before.roots.threshold if changes.root_threshold is None else changes.root_threshold, roots),
        keys,
        replace(before.thresholds, **changes.thresholds),
    )
    return read_trust(encode(plain(after)))


def _without(keys: Mapping[str, Any], gone: Sequence[str], what: str) -> dict[str, Any]:
    left = dict(keys)
    for beginning in gone:
        found = [id_ for id_ in left if id_.startswith(beginning)]
        if len(found) != 1:
            raise Failed(f"{len(found) or 'no'} {what}s have an id that begins with {beginning!r}")
        del left[found[0]]
    return left


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def as_file(trust: Trust) -> bytes:
    return json.dumps(plain(trust), indent=1).encode()


def in_words(trust: Trust) -> str:
    roots = f"{trust.roots.threshold} of {len(trust.roots.keys)} roots"
    return f"trust list, version {trust.version}, epoch {trust.epoch}: {roots}, {len(trust.keys)} keys"


def load(data: bytes) -> tuple[Trust, Envelope | None]:
    """A list as it lies beside `agent.toml`, or the one in an envelope, with that. Raises `Refusal`."""
    try:
        signed = "payload" in decode_object(data)
    except BadJson as error:
        raise Refusal("bad-json", "", str(error)) from error
    if not signed:
        return read_trust(data), None
    envelope = open_envelope(data)
    if envelope.payload_type != PAYLOAD_TYPE:
        raise Refusal("unsupported", "payloadType", f"this envelope holds {envelope.payload_type[:80]!r}, and no trust list")
    return read_trust(envelope.payload), envelope


def never_reached(trust: Trust) -> list[str]:
    """Thresholds that the keys of the list cannot reach: whatever they are for is refused by every booth."""
    found = []
    for what, needed in plain(trust.thresholds).items():
        use = "policy" if what == "loosen" else what
        count = sum(use in key.for_ for key in trust.keys.values())
        if 0 < count < needed:
            found.append(f"{what} needs {needed} signatures, and {count} of the keys may sign {use}: each would be refused")
    return found


def who_signed(envelope: Envelope, roots: Mapping[str, bytes]) -> list[str]:
    """The roots whose signatures are good."""
    try:
        return sorted(signed_by(envelope, dict(roots), 1))
    except Refusal:
        return []


def page(trust: Trust, signers: Sequence[str] | None) -> str:
    needs: Thresholds = trust.thresholds
    rows = [("KEY", "ID", "PUBLIC KEY", "FOR")]
    rows += [("root", id_, text, "the next list") for id_, text in trust.roots.keys.items()]
    rows += [("key", id_, key.ed25519, ", ".join(key.for_) or "nothing") for id_, key in trust.keys.items()]
    lines = [
        f"version   {trust.version}, epoch {trust.epoch}",
        f"roots     {trust.roots.threshold} of {len(trust.roots.keys)} sign the next list",
        "signed    " + ", ".join(f"{what} by {count}" for what, count in plain(needs).items()),
    ]
    if signers is not None:
        lines.append("envelope  signed by " + (", ".join(f"root {id_[:12]}…" for id_ in signers) or "none of its own roots"))
    return "\n".join([*lines, "", columns(rows)])
