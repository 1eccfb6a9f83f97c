"""How an act ends: a word of the protocol, and why in a few words."""

import json
from typing import Literal

from agent.lockdown import rule

Code = Literal["done", "bad-request", "unknown-slot", "refused", "not-supported", "rate-limited", "failed"]


class Ended(rule.Ended):
    """The act ends here, and was not done."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def line(act: str, slot: str | None, code: Code, detail: str | None) -> bytes:
    """The verdict as the daemon reads it: one line of JSON. `slot` is None where the request held no name."""
    verdict = {"act": act, "slot": slot, "done": code == "done", "code": code, "detail": detail}
    return json.dumps(verdict, separators=(",", ":")).encode() + b"\n"
