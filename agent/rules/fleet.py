"""What booths say of themselves, put together from their messages: the picture that a technician sees."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from agent.contract.decode import decode_object
from agent.contract.messages import kind_of
from agent.contract.state import Hours
from agent.contract.topics import Topic
from agent.contract.typed import Invalid, build
from agent.contract.words import printable
from agent.rules.hours import is_open

_MAX_BYTES: Final = 1024 * 1024


@dataclass
class BoothPicture:
    """The newest message of each kind from one booth, as plain JSON."""

    area: str
    booth: str
    state: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    light: str = ""
    said_services: dict[str, str] = field(default_factory=dict)
    health: dict[str, dict[str, Any]] = field(default_factory=dict)
    alarms: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    _session: str = ""

    @property
    def word(self) -> str:
        """`starting`, `online`, `asleep`, `lost`, or `unknown` while it has said nothing."""
        return str(self.state.get("state", "unknown"))

    @property
    def services(self) -> dict[str, str]:
        """The word of each service; of a booth that is not there, none is known, whatever it said last."""
        if self.word in ("asleep", "lost"):
            return dict.fromkeys(self.said_services, "unknown")
        return self.said_services

    @property
    def hours(self) -> Hours:
        """The opening hours in its `meta`; without any, it is always open."""
        try:
            return build(Hours, self.meta.get("hours"), unknown="ignore")
        except Invalid:
            return Hours("UTC", {}, {})

    def is_red(self, local: datetime) -> bool:
        """Whether somebody has to do something at the booth's local time: an alarm of severity fault, or a booth that is dark
        when it should be open. At night the shop's master switch is off."""
        if self.word == "lost":
            return is_open(self.hours, local)
        return any(alarm.get("severity") == "fault" for alarm in self.alarms.values())

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
    if not payload:
        return _clear(booth, topic)
    data = _read(topic, payload)
    match topic.kind:
        case _ if data is None:
            return False
        case "state":
            booth.take_state(data)
        case "meta":
            booth.meta = data
        case "health":
            booth.health[topic.names[0]] = data
        case "alarm":
            booth.alarms[topic.names[0], topic.names[1]] = data
        case "service":
            booth.said_services[topic.names[0]] = data
        case "led":
            booth.light = data
        case "event" | "tele" | "reported" | "cmd-status":
            pass  # nothing to keep: it happened, or another page shows it
        case _:
            return False
    return True


def _clear(booth: BoothPicture, topic: Topic) -> bool:
    match topic.kind:
        case "alarm":
            booth.alarms.pop((topic.names[0], topic.names[1]), None)
        case "service":
            booth.said_services.pop(topic.names[0], None)
        case "health":
            booth.health.pop(topic.names[0], None)
        case "led":
            booth.light = ""
        case _:
            return False
    return True


def _read(topic: Topic, payload: bytes) -> Any:
    """A payload that keeps the contract, as plain JSON or a word; None for any other: a booth may be anybody."""
    kind = kind_of(topic)
    if kind is None:
        return None
    try:
        value = payload.decode() if kind.word else decode_object(payload, _MAX_BYTES)
        build(kind.type, value, unknown="ignore")
    except ValueError:  # BadJson, Invalid, UnicodeDecodeError
        return None
    return value


def message_line(topic: Topic, payload: bytes) -> str:
    """One message as one line for a person, harmless whatever it holds."""
    place = "/".join((topic.address.booth, *_levels(topic)))
    if not payload:
        return f"{place}  cleared"
    value = _read(topic, payload)
    text = payload.decode(errors="replace") if value is None else _summary(topic.kind, value)
    return f"{place}  {printable(text, 200)}"


def _levels(topic: Topic) -> tuple[str, ...]:
    """The topic below its booth."""
    match topic.kind:
        case "cmd-req" | "cmd-status":
            return ("cmd", *topic.names, topic.kind.removeprefix("cmd-"))
        case "reported" | "desired":
            return (*topic.names, topic.kind)
        case _:
            return (topic.kind, *topic.names)


def _summary(kind: str, value: Any) -> str:
    match kind:
        case "state":
            return str(value["state"])
        case "health":
            healing = (f"({value['healing']['remedy']} …)",) if value["healing"] else ()
            return " ".join((value["status"], *(finding["code"] for finding in value["findings"]), *healing))
        case "alarm":
            return f"{value['severity']}, {value['fix_by']}: {value['text']['fr']}"
        case "event":
            keys = ("state", "reason") if value["class"] == "command" else ("change", "remedy", "outcome")
            said = (value["data"].get(key) for key in keys)
            words = (f"#{value['seq']}", value["peripheral"], value["code"], *said)
            return " ".join(str(word) for word in words if word)
        case "meta":
            return f"agent {value['agent']}, {', '.join(value['peripherals'])}"
        case "reported":
            return " ".join((value["status"], *_revisions(value["layers"]), *_wrong(value)))
        case "service" | "led":
            return str(value)
        case _:
            return json.dumps(value, ensure_ascii=False)


def _revisions(layers: Mapping[str, Any]) -> Iterator[str]:
    for layer, revisions in layers.items():
        if revisions is not None:
            yield f"{layer}:{revisions['applied_rev']}"


def _wrong(reported: Mapping[str, Any]) -> Iterator[str]:
    for error in reported["errors"]:
        yield f"{error['code']} {error['path']}".strip()
    for name, rule in reported.get("rules", {}).items():
        if rule["measured"] != "compliant":
            yield f"{name}:{rule['measured']}"
