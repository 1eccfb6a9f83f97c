"""The fleet as a rollout sees it: little of each booth, since there are thousands, and the documents that lie on the broker."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent.boothctl.on_broker import read_lying
from agent.boothctl.reports import read_reported
from agent.contract.decode import decode_object
from agent.contract.documents import LayerName, Refusal
from agent.contract.envelope import open_envelope
from agent.contract.messages import Incoming
from agent.contract.state import Hours, State
from agent.contract.topics import ALL, PREFIX, Topic
from agent.contract.typed import build
from agent.contract.words import printable
from agent.documents.trust import read_trust
from agent.rules.layers import LAYERS
from agent.rules.rollout import Services

KIND: Final = "update"
TOPICS: Final = tuple(
    f"{PREFIX}/+/+/{what}" for what in ("trust/desired", "update/desired", "meta", "state", "update/reported")
)  # fmt: skip

_AVAILABLE: Final = ("ok", "degraded")
_ALWAYS: Final = Hours("UTC", {}, {})  # nobody said when it closes
_MAX_BYTES: Final = 1024 * 1024
_REASON: Final = 64  # characters; a word in kebab-case, if the booth is one


@dataclass(frozen=True, slots=True)
class Told:
    """What a booth reports of one kind of update. `version`: in use. `seen`: the newest revision of each layer. `refused`: for
    each layer whose document it does not take, why."""

    version: str | None
    phase: str
    to: str | None
    reason: str | None
    at: str
    seen: Mapping[str, int]
    refused: Mapping[str, str]

    def has(self, version: str) -> bool:
        """Whether it has a version for good."""
        return self.phase in ("idle", "committed") and self.version == version

    def gave_up(self, version: str) -> bool:
        """Whether it has failed, for good or until somebody mends what it fetches: if it tries again, that is seen in time."""
        return self.phase in ("rolled-back", "failed") and self.to == version

    def held_up_by(self, version: str) -> str | None:
        """Why it has not got further with a version that it knows to be wanted, if it says so."""
        if self.phase in ("idle", "committed"):  # by hand, or for a more specific document, it has another one and keeps it
            return None if self.version in (None, version) else f"has {self.version}"
        return self.reason if self.to == version else None


@dataclass(slots=True)
class Booth:
    """`lost_at_s`: since when it has been seen `lost`. `usual`: its services when it was last seen at work, in its opening
    hours if ever (`usual_open`). `news`: it has reported since it was told."""

    area: str
    booth: str
    word: str = "unknown"
    session: str = ""
    agent: str = ""
    services: Services = (0, 0)
    hours: Hours = _ALWAYS
    lost_at_s: float | None = None
    told: Told | None = None
    news: bool = True
    usual: Services | None = None
    usual_open: bool = False

    @property
    def is_there(self) -> bool:
        return self.word in ("starting", "online")


@dataclass(frozen=True, slots=True)
class Lying:
    """A document on the broker. `signed`: by somebody who may have its other sections signed anew."""

    rev: int
    epoch: int
    doc: dict[str, Any]
    signed: bool = True


@dataclass
class Sight:
    """Hand it every message at `TOPICS`, with the time. `kind`: the section that is rolled out. `open_now(hours)`: whether a
    booth with these hours is open; it is asked often. `signed(message)`: by somebody whose other sections may stay."""

    kind: str
    open_now: Callable[[Hours], bool]
    signed: Callable[[bytes], bool] = lambda _message: False
    booths: dict[str, Booth] = field(default_factory=dict)
    lying: dict[str, Lying] = field(default_factory=dict)  # by the topic before /update/desired
    trust_epoch: int = 0
    heard: int = 0  # messages
    documents: int = 0  # of them
    _hours: dict[str, Hours] = field(default_factory=dict)

    def take(self, message: Incoming, now_s: float) -> None:
        topic = Topic.parse(message.topic)
        if topic is None:
            return
        self.heard += 1
        if topic.kind == "desired":
            self.documents += 1
            self._take_document(topic, message.payload)
        elif topic.address.booth != ALL:
            name = topic.address.booth
            booth = self.booths.get(name) or Booth(topic.address.area, name)
            if booth.area != topic.address.area:
                # It moved, and left what was retained behind in its former area: it is where it is at work.
                if booth.is_there or topic.kind != "state":
                    return
                booth = Booth(topic.address.area, name, hours=booth.hours)
            if self._take(booth, topic, message.payload, now_s):
                self.booths[name] = booth

    def seen_rev(self, layer: LayerName, area: str | None = None) -> int:
        """The newest revision of a layer that any booth has seen, or one of an area."""
        revisions = [
            booth.told.seen.get(layer, 0)
            for booth in self.booths.values()
            if booth.told is not None and (area is None or booth.area == area)
        ]
        return max(revisions, default=0)

    def _take_document(self, topic: Topic, payload: bytes) -> None:
        root = topic.address.root
        try:
            if topic.names == ("trust",):
                self.trust_epoch = max(self.trust_epoch, read_trust(open_envelope(payload).payload).epoch)
                return
            document = read_lying(KIND, root, payload)
        except Refusal:
            if topic.names == (KIND,):
                self.lying.pop(root, None)  # every booth refuses it
            return
        others = document.doc.keys() - {self.kind}
        self.lying[root] = Lying(document.rev, document.epoch, document.doc, not others or self.signed(payload))

    def _take(self, booth: Booth, topic: Topic, payload: bytes, now_s: float) -> bool:
        match topic.kind:
            case "state":
                return self._take_state(booth, payload, now_s)
            case "meta":
                return self._take_meta(booth, payload)
            case "reported":
                return self._take_report(booth, topic, payload)
            case _:
                return False

    def _take_state(self, booth: Booth, payload: bytes, now_s: float) -> bool:
        try:
            state = build(State, decode_object(payload, _MAX_BYTES), unknown="ignore")
        except ValueError:  # BadJson, Invalid: a booth may be anybody
            return False
        if state.state == "lost" and booth.session and state.session != booth.session:
            return True  # stale: it is back already
        booth.lost_at_s = (booth.lost_at_s or now_s) if state.state == "lost" else None
        booth.word, booth.session, booth.agent = state.state, state.session, state.agent
        booth.services = (sum(word in _AVAILABLE for word in state.services.values()), len(state.services))
        if state.state == "online":
            is_open = self.open_now(booth.hours)
            if is_open or not booth.usual_open:
                booth.usual, booth.usual_open = booth.services, is_open
        return True

    def _take_meta(self, booth: Booth, payload: bytes) -> bool:
        # The hours alone, without the strict decoder: many bytes of each of thousands of booths, and nothing of them is shown.
        try:
            hours = json.loads(payload)["hours"]
            name = json.dumps(hours, sort_keys=True)
            booth.hours = self._hours.get(name) or self._hours.setdefault(name, build(Hours, hours, unknown="ignore"))
        except (ValueError, KeyError, TypeError, RecursionError):
            return False
        return True

    def _take_report(self, booth: Booth, topic: Topic, payload: bytes) -> bool:
        if topic.names != (KIND,):
            return False
        reported = read_reported(topic, payload)
        if reported is None:
            return False
        told = told_of(reported, self.kind)
        booth.news = booth.news or told != booth.told
        booth.told = told
        return True


def told_of(reported: Mapping[str, Any], kind: str) -> Told:
    """What a report says of one kind: in its section, or on the whole."""
    section = reported["sections"].get(kind, {})
    said = {key: section.get(key, reported.get(key)) for key in ("phase", "from", "to", "reason")}
    phase = str(said["phase"] or "idle")
    in_use = section.get("version", said["to"] if phase == "committed" else said["from"])
    layers = {layer: reported["layers"].get(layer) for layer in LAYERS}
    return Told(
        version=_text(in_use),
        phase=phase,
        to=_text(said["to"]),
        reason=None if _text(said["reason"]) is None else printable(said["reason"], _REASON),
        at=reported["at"],
        seen={layer: one["seen_rev"] for layer, one in layers.items() if one is not None},
        refused={error["layer"]: error["code"] for error in reported["errors"]},
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
