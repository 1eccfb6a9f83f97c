"""Who may ask for what a technician alone may: a signature, judged in a process of its own, or the code of a ticket."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from agent.contract.command import Reason, SignedRequest
from agent.contract.typed import build
from agent.engine.configure import Verifier

CODE_GOOD_S: Final = 600.0
_WRONG_CODES: Final = 5  # then the code is void: a ticket is printed soon, and a code is not to be guessed
_LETTERS: Final = "ACDEFGHJKLMNPQRTUVWXY34679"  # none that is taken for another when it is read aloud, or in bad light
_CODE_LENGTH: Final = 8  # 26^8: with five attempts in ten minutes, nobody guesses it
_WAITING: Final = 8  # signed requests; each takes a process


class Unauthorised(Exception):
    """`reason`: the contract's word; the message says what is wrong."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class TicketCode:
    """The code that the last ticket shows: good for ten minutes and one command. It is in memory only."""

    def __init__(self, mono_s: Callable[[], float], random: Callable[[int], bytes]) -> None:
        self._mono_s = mono_s
        self._random = random
        self._code: str | None = None
        self._printed_s = 0.0
        self._wrong = 0

    def new(self) -> str:
        """Another one, for a ticket that is about to be printed. The one before is void."""
        letters: list[str] = []
        while len(letters) < _CODE_LENGTH:
            letters += [_LETTERS[byte % len(_LETTERS)] for byte in self._random(16) if byte < 256 - 256 % len(_LETTERS)]
        self._code, self._printed_s, self._wrong = "".join(letters[:_CODE_LENGTH]), self._mono_s(), 0
        return self._code

    def fits(self, code: str) -> bool:
        """Whether it is the code; a wrong one counts against it. Small letters, spaces and dashes do not matter."""
        if self._code is None or self._mono_s() - self._printed_s > CODE_GOOD_S:
            return False
        typed = "".join(letter for letter in code.upper() if letter not in " -")
        if typed == self._code:
            return True
        self._wrong += 1
        if self._wrong >= _WRONG_CODES:
            self._code = None
        return False

    def used(self) -> None:
        self._code = None

    def withdraw(self, code: str) -> None:
        """Its ticket did not come out: it is nobody's. Another one since then stays good."""
        if self._code == code:
            self._code = None


class Authority:
    """Judges signed requests, one at a time."""

    def __init__(self, verifier: Verifier, places: dict[str, str], booth: str, wall: Callable[[], str]) -> None:
        self._verifier = verifier
        self._places = places
        self._booth = booth
        self._wall = wall
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def judge(self, verb: str, envelope: bytes) -> SignedRequest:
        """The request inside. Raises Unauthorised."""
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


def _told(error: Mapping[str, Any]) -> str:
    return f"{error['path']}: {error['message']}" if error["path"] else str(error["message"])
