"""What of the journal may go into a bundle: asked for and told over a socket. `python -m agent.diagnostics.journal` answers.

The agent itself may not read the journal, which has what citizens' programs wrote: `booth-journal@.service` may, and its
allow-list decides what comes out, whoever asks. On a machine without that unit, as on a desk, the journal is read where we are.
"""

import json
import socket
import sys
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from agent.contract.decode import decode_object
from agent.contract.typed import Length, build
from agent.contract.words import Name
from agent.diagnostics import lines
from agent.diagnostics.units import Names

SOCKET: Final = Path("/run/booth-acts/journal.sock")
_QUESTION_BYTES: Final = 64 * 1024
_ANSWER_BYTES: Final = 16 * 1024 * 1024
_WITHIN_S: Final = lines.WITHIN_S + 20.0


@dataclass(frozen=True)
class _Question:
    """Names of units and peripherals that may stand in the answer, beside those that every booth has."""

    units: Annotated[list[str], Length(64)]
    peripherals: Annotated[list[Name], Length(64)]


def told(units: Collection[str], peripherals: Collection[str], at: Path = SOCKET) -> dict[str, Any]:
    """The answer of the unit, in the form of `lines.Lines`; read here where there is none."""
    if not at.is_socket():
        return asdict(lines.read(Names(units), peripherals))
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_WITHIN_S)
            connection.connect(str(at))
            connection.sendall(json.dumps({"units": sorted(units), "peripherals": sorted(peripherals)}).encode() + b"\n")
            with connection.makefile("rb") as stream:
                answer = stream.read(_ANSWER_BYTES + 1)
        if not answer:
            raise ConnectionResetError("another one reads it just now")  # MaxConnections=1
        return decode_object(answer, _ANSWER_BYTES)
    except (OSError, ValueError) as error:
        return asdict(lines.Lines(unavailable=f"booth-journal does not answer: {type(error).__name__}"))


def main() -> int:
    question = decode_object(sys.stdin.buffer.readline(_QUESTION_BYTES), _QUESTION_BYTES)
    asked = build(_Question, question)
    sys.stdout.write(json.dumps(asdict(lines.read(Names(asked.units), asked.peripherals))))
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
