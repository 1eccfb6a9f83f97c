"""A real journal file with lines of one's own, trusted fields too, as `systemd-journal-remote` writes it."""

import subprocess
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest

_WRITER: Final = Path("/lib/systemd/systemd-journal-remote")
BEGAN_US: Final = int(datetime.fromisoformat("2026-10-06T12:00:00Z").timestamp() * 1_000_000)
_IDS: Final = {"_BOOT_ID": "0" * 31 + "1", "_MACHINE_ID": "0" * 31 + "2"}

STARTED: Final = "39f53479d3a045ac8e11786248231fbf"
FAILED: Final = "d9b373ed55a64feb8242e02dbe79a49c"


def journal_file(folder: Path, lines: Iterable[Mapping[str, Any]]) -> Path:
    """A folder with a journal of these lines, a second apart."""
    if not _WRITER.exists():
        pytest.skip("no systemd-journal-remote: apt-get install systemd-journal-remote")
    folder.mkdir()
    export = bytearray()
    for number, line in enumerate(lines):
        at_us = {"__REALTIME_TIMESTAMP": BEGAN_US + number * 1_000_000, "__MONOTONIC_TIMESTAMP": 1_000 + number}
        for key, value in (at_us | _IDS | dict(line)).items():
            data = str(value).encode()
            # The export format: a text with line breaks has its length in front.
            if b"\n" in data:
                export += key.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
            else:
                export += key.encode() + b"=" + data + b"\n"
        export += b"\n"
    subprocess.run([_WRITER, "-o", folder / "booth.journal", "-"], input=bytes(export), check=True, capture_output=True)
    return folder


def ours(template: str, message: str = "", **fields: Any) -> dict[str, Any]:
    """A line of the agent's own, as its log handler writes it."""
    named = {f"BOOTH_{name.upper()}": value for name, value in fields.items()}
    line = {"_SYSTEMD_UNIT": "booth-agent.service", "LOGGER": "agent.app", "PRIORITY": 6, "BOOTH_TEMPLATE": template}
    return line | {"MESSAGE": message or template} | named


def systemds(message_id: str, unit: str, **fields: Any) -> dict[str, Any]:
    """A line of the service manager's."""
    line = {"_PID": 1, "_SYSTEMD_UNIT": "init.scope", "PRIORITY": 6, "MESSAGE_ID": message_id, "UNIT": unit}
    return line | {"MESSAGE": f"{unit}: something"} | fields


def others(unit: str, message: str, **fields: Any) -> dict[str, Any]:
    return {"_SYSTEMD_UNIT": unit, "PRIORITY": 6, "MESSAGE": message} | fields
