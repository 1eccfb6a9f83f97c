"""Who may ask for what a technician alone may: a signature, judged in a process of its own, or the code of a ticket."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from agent.contract.command import Reason, SignedRequest
from agent.contract.documents import Refusal
from agent.contract.envelope import open_envelope
from agent.contract.typed import build
from agent.engine.configure import Verifier

CODE_GOOD_S: Final = 600.0
_CODES: Final = 4  # more than tickets are printed for commands in that time
_LETTERS: Final = "ACDEFGHJKLMNPQRTUVWXY34679"  # none that is taken for another when it is read aloud, or in bad light
_CODE_LENGTH: Final = 8  # 26^8 of them: at 50 requests a second for ten minutes, one guess in a million would find one
_WAITING: Final = 8  # signed requests; each takes a process


class Unauthorised(Exception):
    """`reason`: the contract's word; the message says what is wrong."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class TicketCode:
    """The codes that the last tickets show: each good for ten minutes and one command. They are in memory only.

    Anybody may ask for a ticket, and anybody may guess: neither takes a code away from whoever holds it.
    """

    def __init__(self, mono_s: Callable[[], float], random: Callable[[int], bytes]) -> None:
        self._mono_s = mono_s
        self._random = random
        self._until_s: dict[str, float] = {}

    def new(self) -> str:
        """Another one, for a ticket that is about to be printed."""
        letters: list[str] = []
        while len(letters) < _CODE_LENGTH:
            letters += [_LETTERS[byte % len(_LETTERS)] for byte in self._random(16) if byte < 256 - 256 % len(_LETTERS)]
        code = "".join(letters[:_CODE_LENGTH])
        self._until_s[code] = self._mono_s() + CODE_GOOD_S
        while len(self._until_s) > _CODES:
            del self._until_s[next(iter(self._until_s))]
        return code

    def fits(self, typed: str) -> bool:
        """Whether it is one of them. Small letters, spaces and dashes do not matter."""
        return self._mono_s() <= self._until_s.get(_plain(typed), 0.0)

    def withdraw(self, code: str) -> None:
        """It was used, or its ticket did not come out and is nobody's."""
        self._until_s.pop(_plain(code), None)


def _plain(code: str) -> str:
    return "".join(letter for letter in code.upper() if letter not in " -")


class Authority:
    """Judges signed requests, one at a time."""

    def __init__(
        self, verifier: Verifier, places: dict[str, str], booth: str, wall: Callable[[], str],
        known_keys: Callable[[], frozenset[str]],
    ) -> None:  # fmt: skip
        """`known_keys`: the ids of those that may sign commands, as `trust.json` says; nothing of it is believed for that."""
        self._verifier = verifier
        self._places = places
        self._booth = booth
        self._wall = wall
        self._known_keys = known_keys
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def judge(self, verb: str, envelope: bytes) -> SignedRequest:
        """The request inside. Raises Unauthorised."""
        self._look(envelope)
        if self._waiting >= _WAITING:
            raise Unauthorised("rate-limited", "too many signed commands at once: send it again in a moment")
        self._waiting += 1
        try:
            async with self._turn:
                question = {"act": "judge", "kind": "command", "verb": verb, "booth": self._booth, "now": self._wall()}
                answer = await self._verifier.ask(question | self._places, envelope)
        except OSError as error:
            raise Unauthorised("busy", f"its signature was not judged: {error}") from error
        finally:
            self._waiting -= 1
        if answer["outcome"] != "accepted":
            first = answer["errors"][0]
            raise Unauthorised(cast("Reason", first["code"]), _told(first))
        return build(SignedRequest, answer["request"])

    def _look(self, message: bytes) -> None:
        """What names no key of ours is not worth a process: junk must not keep a technician waiting."""
        try:
            envelope = open_envelope(message)
        except Refusal as refusal:
            raise Unauthorised(refusal.code, refusal.message) from refusal
        if self._known_keys().isdisjoint(id_ for id_, _ in envelope.signatures):
            raise Unauthorised("untrusted-key", "no key that signed it may sign commands for this booth: see its trust.json")


def _told(error: Mapping[str, Any]) -> str:
    return f"{error['path']}: {error['message']}" if error["path"] else str(error["message"])
