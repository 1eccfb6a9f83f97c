"""What will be done by itself, and is no drift when it is found undone: kept from one run of root to the next, until a reboot."""

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from agent.contract.decode import BadJson, decode_object, encode
from agent.contract.typed import Invalid, build, plain
from agent.documents import disk

_FILE: Final = "expected.json"


@dataclass(frozen=True)
class Expected:
    """`owed`: rules that had to wait for the end of a session. `due`: rules that do something else at `moment`, local time."""

    owed: list[str] = field(default_factory=list)
    moment: str | None = None
    due: list[str] = field(default_factory=list)

    def covers(self, name: str, now: datetime | None) -> bool:
        if name in self.owed:
            return True
        reached = now is not None and self.moment is not None and now >= datetime.fromisoformat(self.moment)
        return name in self.due and reached


def load(folder: Path) -> Expected:
    """Nothing is expected where nothing can be read."""
    with suppress(OSError, BadJson, Invalid):
        return build(Expected, decode_object((folder / _FILE).read_bytes()))
    return Expected()


def keep(folder: Path, expected: Expected) -> None:
    if expected != load(folder):
        with suppress(OSError):
            disk.write(folder, _FILE, encode(plain(expected)))
