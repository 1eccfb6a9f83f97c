"""Every message of the contract in one table: what it carries, how it is sent, and a check of one message.

The agent takes QoS, retention and expiry from here; the test suite checks every message that it
sees on a broker with `problems`; `docs/contract.schema.json` is this table as JSON Schema.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

from agent.contract import alarm, command, documents, event, health, state, words
from agent.contract.decode import BadJson, decode_object
from agent.contract.topics import Topic
from agent.contract.typed import Invalid, build

Expiry = Literal["never", "2 heartbeats", "30 min", "24 h"]


@dataclass(frozen=True)
class Message:
    """One publication."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    expiry_s: int | None = None
    correlation: bytes | None = None  # of the request that this answers


@dataclass(frozen=True)
class Incoming:
    """One delivery. `retained`: it was published to stay, now or before we subscribed; to a tool, before alone."""

    topic: str
    payload: bytes
    retained: bool
    response_topic: str | None = None
    correlation: bytes | None = None


@dataclass(frozen=True)
class MessageKind:
    """`type` is a payload dataclass, or a `Literal` of words for a topic that carries a bare word."""

    type: Any
    qos: Literal[0, 1]
    retained: bool
    expiry: Expiry = "never"
    word: bool = False
    may_be_empty: bool = False  # an empty payload clears the topic


PUBLISHED: Final[dict[str, MessageKind]] = {
    "state": MessageKind(state.State, 1, True),
    "meta": MessageKind(state.Meta, 1, True),
    "health": MessageKind(health.Health, 1, True, "2 heartbeats"),
    "service": MessageKind(words.ServiceWord, 1, True, "2 heartbeats", word=True, may_be_empty=True),
    "led": MessageKind(words.LightWord, 1, True, "2 heartbeats", word=True),
    "alarm": MessageKind(alarm.Alarm, 1, True, "2 heartbeats", may_be_empty=True),
    "echo": MessageKind(str, 1, False, word=True),
    "event": MessageKind(event.Event, 1, False),
    "tele": MessageKind(event.Telemetry, 0, False, "30 min"),
    "reported": MessageKind(documents.Reported, 1, True),
    "reported-policy": MessageKind(documents.PolicyReported, 1, True),
    "reported-update": MessageKind(documents.UpdateReported, 1, True),
    "cmd-status": MessageKind(command.CommandStatus, 1, True, "24 h"),
    "chunk": MessageKind(command.Chunk, 1, False),
}


def kind_of(topic: Topic) -> MessageKind | None:
    """The declaration of a topic that a booth publishes, or None for one that it only reads."""
    if topic.kind == "reported" and topic.names != ("config",):
        return PUBLISHED[f"reported-{topic.names[0]}"]
    return PUBLISHED.get(topic.kind)


def expiry_s(kind: MessageKind, heartbeat_s: float) -> int | None:
    """The Message Expiry Interval of a kind, in seconds; None where it has none."""
    return {"never": None, "2 heartbeats": round(2 * heartbeat_s), "30 min": 1800, "24 h": 86400}[kind.expiry]


def problems(topic_name: str, payload: bytes, qos: int | None = None, retained: bool | None = None) -> list[str]:
    """What is wrong with one message from a booth; empty when it keeps the contract.

    `qos` and `retained` are those of the publication; pass None where only a delivery was seen.
    """
    topic = Topic.parse(topic_name)
    if topic is None:
        return [f"{topic_name}: no topic of this contract"]
    kind = kind_of(topic)
    if kind is None:
        return [f"{topic_name}: a booth does not publish this"]
    found = []
    if qos is not None and qos != kind.qos:
        found.append(f"QoS {qos}, not {kind.qos}")
    if retained is not None and retained != kind.retained:
        found.append(f"retained is {retained}, not {kind.retained}")
    if payload or not kind.may_be_empty:
        found += _payload_problems(topic, kind, payload)
    return [f"{topic_name}: {problem}" for problem in found]


def _payload_problems(topic: Topic, kind: MessageKind, payload: bytes) -> list[str]:
    try:
        if kind.word:
            build(kind.type, payload.decode())
            return []
        value = build(kind.type, decode_object(payload, 1024 * 1024))
    except (BadJson, UnicodeDecodeError) as error:
        return [str(error)]
    except Invalid as error:
        return [str(problem) for problem in error.problems]
    return _value_problems(topic, value)


def _value_problems(topic: Topic, value: Any) -> list[str]:
    match value:
        case state.State():
            return _state_problems(value)
        case health.Health():
            return _health_problems(topic, value)
        case alarm.Alarm():
            return _alarm_problems(topic, value)
        case event.Event():
            return _event_problems(topic, value)
        case command.CommandStatus():
            return _status_problems(topic, value)
        case _:
            return []


def _state_problems(value: state.State) -> list[str]:
    if value.state in ("asleep", "lost") and set(value.services.values()) - {"unknown"}:
        return [f"{value.state}, with a service that is not unknown"]
    return []


def _health_problems(topic: Topic, value: health.Health) -> list[str]:
    order = ["fault", "warning", "info"]
    severities = [finding.severity for finding in value.findings]
    found = []
    if (value.peripheral,) != topic.names:
        found.append("peripheral does not match the topic")
    if severities != sorted(severities, key=order.index):
        found.append("findings do not stand worst first")
    if value.status == "ok" and set(severities) - {"info"}:
        found.append("ok, with a warning or a fault")
    reasons = {"degraded": {"warning", "fault"}, "fault": {"fault"}}.get(value.status)
    if reasons is not None and not reasons & set(severities):
        found.append(f"{value.status} without a finding that says why")
    return found


def _alarm_problems(topic: Topic, value: alarm.Alarm) -> list[str]:
    found = []
    if (value.peripheral, value.code) != topic.names:
        found.append("peripheral and code do not match the topic")
    if value.severity == "info":
        found.append("an alarm of severity info")
    return found


def _event_problems(topic: Topic, value: event.Event) -> list[str]:
    found = []
    if (value.class_,) != topic.names:
        found.append("class does not match the topic")
    if value.id != f"{value.stream}-{value.seq}":
        found.append("id is not <stream>-<seq>")
    return found


def _status_problems(topic: Topic, value: command.CommandStatus) -> list[str]:
    return [] if (value.verb, value.id) == topic.names else ["verb and id do not match the topic"]
