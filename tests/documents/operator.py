"""An operator with keys, for tests: a trust list, and documents that it signs."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.documents.judge import payload_type
from agent.documents.signatures import SigningKey, seal

USES = ("config", "policy", "update", "command")
ISSUED = "2026-11-20T08:00:00.000Z"


def key(name: str) -> SigningKey:
    """Always the same one for a name."""
    return SigningKey(name.encode().ljust(32, b"-")[:32])


def public(one: SigningKey) -> str:
    return base64.b64encode(one.public).decode()


@dataclass
class Operator:
    """Two keys for everything, two roots that both have to sign."""

    first: SigningKey = field(default_factory=lambda: key("first"))
    second: SigningKey = field(default_factory=lambda: key("second"))
    roots: tuple[SigningKey, ...] = field(default_factory=lambda: (key("root-1"), key("root-2")))

    def trust(self, version: int = 1, epoch: int = 1, **over: Any) -> dict[str, Any]:
        return {
            "version": version,
            "epoch": epoch,
            "roots": {"threshold": 2, "keys": {root.id: public(root) for root in self.roots}},
            "keys": {one.id: {"ed25519": public(one), "for": list(USES)} for one in (self.first, self.second)},
            "thresholds": {"config": 1, "policy": 1, "loosen": 2, "update": 1, "command": 1},
        } | over

    def install(self, directory: Path, **over: Any) -> None:
        """Put the trust list beside `agent.toml`."""
        (directory / "trust.json").write_text(json.dumps(self.trust(**over)))

    def statement(self, doc: Any, rev: int = 1, audience: str = "booth/v1/61/61-0007", **over: Any) -> dict[str, Any]:
        return {"schema": 1, "audience": audience, "rev": rev, "epoch": 1, "issued_at": ISSUED, "doc": doc} | over

    def sign(
        self, kind: str, doc: Any, rev: int = 1, audience: str = "booth/v1/61/61-0007", *,
        keys: Sequence[SigningKey] | None = None, **over: Any,
    ) -> bytes:  # fmt: skip
        """An envelope around a document of `kind`, signed by the first key if no others are named."""
        payload = json.dumps(self.statement(doc, rev, audience, **over)).encode()
        return seal(payload_type(kind), payload, [self.first] if keys is None else list(keys))

    @property
    def both(self) -> tuple[SigningKey, SigningKey]:
        return (self.first, self.second)
