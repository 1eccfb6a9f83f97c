"""What booths say of themselves, put together from their messages: the picture that a technician sees."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.contract.topics import Topic
from agent.contract.words import printable


@dataclass
class BoothPicture:
    """The newest message of each kind from one booth, as plain JSON."""

    area: str
    booth: str
    state: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    light: str = ""
    services: dict[str, str] = field(default_factory=dict)
    health: dict[str, dict[str, Any]] = field(default_factory=dict)
    alarms: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    _session: str = ""

    @property
    def word(self) -> str:
        """`starting`, `online`, `asleep`, `lost`, or `unknown` while it has said nothing."""
        return str(self.state.get("state", "unknown"))

    @property
    def red(self) -> bool:
        """Whether somebody has to do something: an alarm of severity fault, or a booth that went dark."""
        return self.word == "lost" or any(alarm.get("severity") == "fault" for alarm in self.alarms.values())

    def as_json(self) -> dict[str, Any]:
        return {
            "area": self.area,
            "booth": self.booth,
            "state": self.state or None,
            "light": self.light or None,
            "services": self.services,
            "health": self.health,
            "alarms": [self.alarms[key] for key in sorted(self.alarms)],
            "meta": self.meta or None,
        }

    def take_state(self, payload: dict[str, Any]) -> None:
        """A `lost` of another session than the last one seen is stale: the booth is back already."""
        session = str(payload.get("session", ""))
        if payload.get("state") == "lost" and self._session and session != self._session:
            return
        self._session = session
        self.state = payload
        if self.word in ("asleep", "lost"):
            self.services = dict.fromkeys(self.services, "unknown")


@dataclass
class Fleet:
    """Every booth that was heard of. `take` one message after the other."""

    booths: dict[str, BoothPicture] = field(default_factory=dict)

    def take(self, topic_name: str, payload: bytes) -> Topic | None:
        """Take in one message; returns its topic, or None for one that is not a booth's or cannot be read."""
        topic = Topic.parse(topic_name)
        if topic is None:
            return None
        booth = self.booths.get(topic.address.booth) or BoothPicture(topic.address.area, topic.address.booth)
        if not _take(booth, topic, payload):
            return None
        self.booths[booth.booth] = booth
        return topic

    def sorted(self) -> list[BoothPicture]:
        return sorted(self.booths.values(), key=lambda booth: (booth.area, booth.booth))


def _take(booth: BoothPicture, topic: Topic, payload: bytes) -> bool:
    if topic.kind in ("service", "led"):
        _take_word(booth, topic, payload.decode("ascii", "replace"))
        return True
    if topic.kind == "alarm" and not payload:
        booth.alarms.pop((topic.names[0], topic.names[1]), None)
        return True
    try:
        value = json.loads(payload)
    except ValueError:
        return False
    if not isinstance(value, Mapping):
        return False
    data = dict(value)
    match topic.kind:
        case "state":
            booth.take_state(data)
        case "meta":
            booth.meta = data
        case "health":
            booth.health[topic.names[0]] = data
        case "alarm":
            booth.alarms[topic.names[0], topic.names[1]] = data
        case "event" | "tele":
            pass  # nothing to keep: it happened
        case _:
            return False
    return True


def _take_word(booth: BoothPicture, topic: Topic, word: str) -> None:
    if topic.kind == "led":
        booth.light = word
    elif word:
        booth.services[topic.names[0]] = word
    else:
        booth.services.pop(topic.names[0], None)


def message_line(topic: Topic, payload: bytes) -> str:
    """One message as one line for a person."""
    place = "/".join((topic.address.booth, topic.kind, *topic.names))
    if not payload:
        return f"{place}  cleared"
    try:
        value = json.loads(payload)
    except ValueError:
        return f"{place}  {printable(payload.decode(errors='replace'))}"
    return f"{place}  {_summary(topic.kind, value)}"


def _summary(kind: str, value: Any) -> str:
    if not isinstance(value, dict):
        return printable(str(value))
    match kind:
        case "state":
            return str(value.get("state"))
        case "health":
            codes = " ".join(str(finding.get("code")) for finding in value.get("findings", ()))
            return f"{value.get('status')} {codes}".rstrip()
        case "alarm":
            return f"{value.get('severity')}, {value.get('fix_by')}: {value.get('text', {}).get('fr', '')}"
        case "event":
            change = value.get("data", {}).get("change", "")
            return f"#{value.get('seq')} {value.get('peripheral') or ''} {value.get('code')} {change}".replace("  ", " ").rstrip()
        case "meta":
            return f"agent {value.get('agent')}, {', '.join(value.get('peripherals', {}))}"
        case _:
            return printable(json.dumps(value, ensure_ascii=False), 200)
