"""The operator of a simulated booth: development keys made on the spot, a trust list, and a profile's documents, signed."""

import asyncio
import json
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from agent.documents.disk import write
from agent.documents.judge import payload_type
from agent.documents.signatures import SigningKey, seal

PROVISIONING: Final = Path(__file__).parents[2] / "provisioning"  # of the working copy: the simulator is installed nowhere
_PUBLISHED_WITHIN_S: Final = 10.0


class Operator:
    """Two keys, since two have to sign what loosens a policy."""

    def __init__(self, folder: Path, audience: str) -> None:
        """`folder` gets trust.json and the keys, in PEM, for whoever wants to try `boothctl push`."""
        self._audience = audience
        self._keys = [SigningKey.generate() for _ in range(2)]
        for number, key in enumerate(self._keys, 1):
            write(folder, f"development-{number}.pem", key.to_pem(None))
        root = SigningKey.generate()
        trust = {
            "version": 1,
            "epoch": 1,
            "roots": {"threshold": 1, "keys": {root.id: _text(root.public)}},
            "keys": {
                key.id: {"ed25519": _text(key.public), "for": ["config", "policy", "update", "command"]} for key in self._keys
            },
        }
        self.trust: Final = json.dumps(trust, indent=1)
        write(folder, "trust.json", self.trust.encode(), mode=0o644)

    async def publish(self, port: int, kind: str, doc: Any, rev: int = 1) -> None:
        """Retained, as an operator does. Raises RuntimeError where the broker does not take it."""
        statement = {
            "schema": 1, "audience": self._audience, "rev": rev, "epoch": 1, "issued_at": _now(), "not_after": None,
            "confirm_s": 60, "doc": doc,
        }  # fmt: skip
        envelope = seal(payload_type(kind), json.dumps(statement).encode(), self._keys)
        sender = await asyncio.create_subprocess_exec(
            "mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-q", "1", "-r", "-s", "-t", f"{self._audience}/{kind}/desired",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(_PUBLISHED_WITHIN_S):
            await sender.communicate(envelope)
        if sender.returncode != 0:
            raise RuntimeError(f"the {kind} was not published: mosquitto_pub ended with {sender.returncode}")


def profile_document(profile: str, kind: str) -> Any:
    """A profile's document as it ships, ready to be signed."""
    return json.loads((PROVISIONING / "profiles" / profile / f"{kind}.json").read_text())


def _text(key: bytes) -> str:
    return b64encode(key).decode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
