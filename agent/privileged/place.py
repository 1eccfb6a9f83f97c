"""What root knows of its booth from its own files: `agent.toml` and `slots.toml`, both written by root alone."""

import fcntl
import os
import time
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agent import RELEASED_AT
from agent.documents.files import booth_in
from agent.lockdown.rule import Place
from agent.privileged import slots
from agent.privileged.machine import Machine
from agent.privileged.slots import Slots
from agent.privileged.verdict import Ended

CONFIG: Final = "etc/booth-agent"
_SESSION_LOCK: Final = "run/booth-agent/session.lock"


@dataclass(frozen=True)
class Booth:
    """`address`: area and id; None where agent.toml does not say. `zone`: an IANA name. `problems`: what is wrong with root's own
    files; what they should have said is unknown then, and locked."""

    address: tuple[str, str] | None
    place: Place
    now: str
    zone: str
    problems: tuple[str, ...] = ()


def look(machine: Machine, newest_issued_at: str | None) -> Booth:
    """`newest_issued_at`: of all documents that were ever accepted; the clock is not before it."""
    folder = machine.path(CONFIG)
    problems = []
    local: dict[str, Any] = {}
    address = None
    try:
        with open(folder / "agent.toml", "rb") as stream:
            local = tomllib.load(stream)
        address = booth_in(folder / "agent.toml")
    except (OSError, ValueError) as error:
        problems.append(f"agent.toml does not say which booth this is: {error}")
    table = Slots()
    try:
        table = slots.load(folder / "slots.toml")
    except Ended as ended:
        problems.append(ended.detail)
    now_s = time.time()
    floor_s = max(RELEASED_AT, datetime.fromisoformat(newest_issued_at).timestamp() if newest_issued_at else 0)
    moment = None if now_s < floor_s else datetime.fromtimestamp(now_s, UTC)
    zone = _zone(local)
    host, port = _broker(local.get("broker"))
    place = Place(
        broker_host=host,
        broker_port=port,
        now=None if moment is None else moment.astimezone(zone).replace(tzinfo=None),
        now_utc=moment,
        usb=table.usb,
        queues=table.queues,
        units=table.units,
        wiped={name: tuple(folders) for name, folders in table.wiped.items()},
        in_session=_in_session(machine.path(_SESSION_LOCK)),
    )
    shown = moment or datetime.fromtimestamp(floor_s, UTC)
    return Booth(address, place, shown.isoformat(timespec="milliseconds").replace("+00:00", "Z"), str(zone), tuple(problems))


def _broker(table: Any) -> tuple[str, int]:
    url = table.get("url") if isinstance(table, dict) else None
    with suppress(ValueError):
        parts = urlsplit(url if isinstance(url, str) else "")
        return parts.hostname or "", parts.port or (1883 if parts.scheme == "mqtt" else 8883)
    return "", 8883


def _zone(local: dict[str, Any]) -> ZoneInfo:
    with suppress(ZoneInfoNotFoundError, ValueError, TypeError, LookupError, OSError, AttributeError):
        return ZoneInfo(local["booth"].get("timezone", "Europe/Paris"))
    return ZoneInfo("Europe/Paris")  # as agent.toml's default


def _in_session(lock: Path) -> bool:
    """Whether a citizen uses the booth. A lock that cannot be opened counts as hers; one that is not there, as nobody's."""
    try:
        # The folder is the agent's: whatever it puts there must not hold root up.
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
