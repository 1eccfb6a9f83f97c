"""What a booth says of the documents that it has: read with tolerance, taken apart, compared."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent.boothctl.connection import hear_retained
from agent.boothctl.local_checks import complete
from agent.boothctl.on_broker import BY_NAME, parts_of, read_lying
from agent.boothctl.terminal import EXIT_NO_ANSWER, Failed
from agent.contract.decode import decode_object
from agent.contract.documents import Document, LayerName, Refusal
from agent.contract.messages import Incoming, kind_of
from agent.contract.topics import ALL, PREFIX, Address, Topic
from agent.contract.typed import build
from agent.rules.layers import LAYERS, audience_of, effective
from agent.system.broker import BrokerAddress

_MAX_BYTES: Final = 1024 * 1024


def read_reported(topic: Topic, payload: bytes) -> dict[str, Any] | None:
    """A report that keeps the contract, with all that it says beside; None for any other: a booth may be anybody."""
    kind = kind_of(topic)
    if kind is None:
        return None
    try:
        value = decode_object(payload, _MAX_BYTES)
        build(kind.type, value, unknown="ignore")
    except ValueError:  # BadJson, Invalid
        return None
    return value


@dataclass(frozen=True)
class Part:
    """A section, a peripheral's options or a rule, as a booth has it. `given`: the keys that the layer's own document names, and
    None where that is not known."""

    status: str
    layer: str
    value: Any
    given: frozenset[str] | None

    def origin(self, path: str, below: str) -> str:
        """The layer that gave one value of it; what its document leaves out comes from `below`."""
        if self.given is None or path.partition(".")[0] in self.given:
            return self.layer
        return below


@dataclass
class Report:
    """One booth's report, and the documents that lie on the broker for its layers."""

    kind: str
    address: Address
    reported: dict[str, Any]
    lying: dict[LayerName, Document] = field(default_factory=dict)

    @property
    def applied(self) -> dict[LayerName, Document]:
        """Those of them that the booth has applied."""
        revisions = self.reported["layers"]
        return {layer: one for layer, one in self.lying.items() if (revisions.get(layer) or {}).get("applied_rev") == one.rev}

    @property
    def below(self) -> str:
        """Where a value comes from that no document names."""
        return "default" if self.kind == "policy" else "local or default"

    @property
    def bottom(self) -> str:
        """Where a part comes from that no document names."""
        return "floor or default" if self.kind == "policy" else self.below

    def parts(self) -> dict[str, Part]:
        if self.kind == "update":
            return self._wanted()
        found: dict[str, Part] = {}
        given: dict[str, Mapping[str, Any]] = {layer: parts_of(document.doc) for layer, document in self.applied.items()}
        for name, section in self.reported["sections"].items():
            for path, item in _named(name, section).items():
                found[path] = _part(path, item, given)
        return found

    def _wanted(self) -> dict[str, Part]:
        """Of an update, booths report how far it is; what is wanted of them stands in the documents."""
        statuses = self.reported["sections"]
        return {
            name: Part(str(statuses.get(name, {}).get("status", "–")), one.layer, one.value, None)
            for name, one in effective({layer: document.doc for layer, document in self.applied.items()}).items()
        }


def _named(name: str, section: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A section, or what stands for itself in it: its names, and those that a document names and the booth has not."""
    names = section.get("names")
    if name != BY_NAME or not isinstance(names, dict):
        return {name: section}
    status = {"status": section.get("status", "–")}
    found = {f"{name}.{one}": status | item for one, item in names.items() if isinstance(item, dict)}
    absent = section.get("absent")
    return found | {f"{name}.{one}": {"status": "absent"} for one in (absent if isinstance(absent, list) else ())}


def _part(path: str, item: Mapping[str, Any], given: Mapping[str, Mapping[str, Any]]) -> Part:
    layer = str(item.get("layer", "–"))
    named = given.get(layer, {}).get(path)
    keys = frozenset(named) if isinstance(named, dict) else None
    return Part(str(item.get("status", "–")), layer, item.get("value"), keys)


def leaves(value: Any) -> dict[str, Any]:
    """Every value with its path; a list, or an empty table, is one value."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        return {"": value}
    found: dict[str, Any] = {}
    for key, item in value.items():
        inside = leaves(item) if isinstance(item, dict) and item else {"": item}
        found |= {f"{key}.{path}" if path else key: leaf for path, leaf in inside.items()}
    return found


@dataclass(frozen=True)
class Difference:
    """`has_now`, `has_then`: a value may be null, and still be there. `falls_to`: what gives a part that its layer loses."""

    path: str
    now: Any = None
    then: Any = None
    has_now: bool = True
    has_then: bool = True
    falls_to: str | None = None


def differences(report: Report, doc: Mapping[str, Any], layer: LayerName) -> list[Difference]:
    """What would be other at the booth, were `doc` the document of this layer.

    A value that a document gave and `doc` leaves out goes back to what lies below; one that came from there stays. What a more
    specific layer names stays too.
    """
    parts = report.parts()
    found: list[Difference] = []
    for path, wanted in parts_of(doc).items():
        part = parts.get(path, Part("–", "–", None, None))
        if part.layer in _above(layer):
            continue
        now, then = leaves(part.value), leaves(complete(report.kind, path, wanted))
        found += [
            Difference(join(path, key), now.get(key), value, has_now=key in now)
            for key, value in then.items()
            if key not in now or now[key] != value
        ]
        found += [
            Difference(join(path, key), value, has_then=False)
            for key, value in now.items()
            if key not in then and part.origin(key, report.below) in LAYERS
        ]
    return found + _lost(report, doc, layer)


def hidden(report: Report, doc: Mapping[str, Any], layer: LayerName) -> dict[str, str]:
    """The parts of `doc` that come to nothing at the booth, and the more specific layer that gives each."""
    parts = report.parts()
    return {path: parts[path].layer for path in parts_of(doc) if path in parts and parts[path].layer in _above(layer)}


def _above(layer: LayerName) -> tuple[LayerName, ...]:
    return LAYERS[LAYERS.index(layer) + 1 :]


def _lost(report: Report, doc: Mapping[str, Any], layer: LayerName) -> list[Difference]:
    """A document is its whole layer: what it leaves out of the one on the broker is lost, and of what the booth says that it has
    of this layer, since the broker may have lost the document, or have one that the booth refused."""
    lies = {name: parts_of(document.doc) for name, document in report.lying.items()}
    has = {path: part.value for path, part in report.parts().items() if part.layer == layer} | lies.pop(layer, {})
    falls_to = {path: name for name in LAYERS for path in lies.get(name, ())}
    kept = parts_of(doc)
    return [
        Difference(path, value, has_then=False, falls_to=falls_to.get(path, report.bottom))
        for path, value in has.items()
        if path not in kept
    ]


def join(path: str, key: str) -> str:
    return f"{path}.{key}" if key else path


async def gather(options: argparse.Namespace, address: BrokerAddress, kind: str) -> Report:
    """The report of the booth in the options. Raises `Failed` where there is none."""
    reports: list[Report] = []
    documents: dict[str, Document] = {}

    def take(message: Incoming) -> None:
        topic = Topic.parse(message.topic)
        if topic is None:
            return
        if topic.kind == "reported":
            reported = read_reported(topic, message.payload)
            if reported is not None:
                reports.append(Report(kind, topic.address, reported))
            return
        try:
            documents[topic.address.root] = read_lying(kind, topic.address.root, message.payload)
        except Refusal:
            return  # it is nobody's document

    booth = options.booth
    places = [f"{PREFIX}/{place}" for place in (f"{ALL}/{ALL}", f"+/{ALL}", f"+/{booth}")]
    topics = [f"{PREFIX}/+/{booth}/{kind}/reported", *(f"{place}/{kind}/desired" for place in places)]
    await hear_retained(address, topics, take, options.wait)
    if not reports:
        raise Failed(f"no {kind} report of a booth {booth!r} on this broker", status=EXIT_NO_ANSWER)
    report = max(reports, key=lambda one: str(one.reported["at"]))
    places_of = {layer: audience_of(layer, report.address.area, report.address.booth) for layer in LAYERS}
    report.lying = {layer: documents[place] for layer, place in places_of.items() if place in documents}
    return report
