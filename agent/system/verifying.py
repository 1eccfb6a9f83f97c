"""Ask the verifier (`agent.verifier`) about one document: a process that starts, answers and is gone."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from agent.system.one_shot import NotRun, in_memory, run_module

_DEADLINE_S: Final = 20.0  # a second on a slow board; a fault of ours, or a machine that swaps, beyond
_ANSWER_BYTES: Final = 2 * 1024 * 1024


class NotJudged(OSError):
    """There is no answer; nothing was changed. The message says why."""


class Verifier:
    """Use it for one question at a time: the answers change what is kept on disk."""

    def __init__(self, deadline_s: float = _DEADLINE_S) -> None:
        self._deadline_s = deadline_s

    async def ask(self, question: Mapping[str, Any], message: bytes = b"") -> dict[str, Any]:
        """Raises NotJudged."""
        # Files in memory, not pipes: neither side can block the other, and there is nothing to pump.
        with in_memory("question") as asked, in_memory("answer") as answered:
            asked.write(json.dumps(question).encode() + b"\n" + message)
            asked.seek(0)
            status = await self._run(asked.fileno(), answered.fileno())
            answered.seek(0)
            text = answered.read(_ANSWER_BYTES + 1)
        if status != 0 or len(text) > _ANSWER_BYTES:
            raise NotJudged(f"the verifier ended with status {status}")
        try:
            answer = json.loads(text)
        except ValueError as error:
            raise NotJudged("the verifier's answer is no JSON") from error
        if not isinstance(answer, dict):
            raise NotJudged("the verifier's answer is no object")
        return answer

    async def _run(self, stdin: int, stdout: int) -> int:
        try:
            return await run_module("agent.verifier", (), stdin, stdout, self._deadline_s)
        except NotRun as error:
            raise NotJudged(f"no verifier: {error}") from error


def command_keys(directory: Path) -> frozenset[str]:
    """The ids of the keys in `trust.json` that may sign commands; none where it cannot be read. Whether they did is the
    verifier's to say."""
    try:
        keys = json.loads((directory / "trust.json").read_bytes())["keys"]
        return frozenset(id_ for id_, key in keys.items() if "command" in key["for"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return frozenset()
