"""Answers the operator's documents. This version trusts no key, so each is refused, with the reason."""

import logging
from collections.abc import Callable
from typing import Any, Final, cast

from agent.contract.decode import encode
from agent.contract.documents import DocumentError, LayerName, Refusal, Reported, UpdateReported
from agent.contract.envelope import open_envelope
from agent.contract.event import EventClass
from agent.contract.messages import Incoming
from agent.contract.topics import ALL, Topic
from agent.contract.typed import plain
from agent.contract.words import printable
from agent.engine.publish import Publisher

log = logging.getLogger(__name__)

_LAYERS: Final[tuple[LayerName, ...]] = ("fleet", "area", "booth")


class Configurer:
    """One answer on `B/{kind}/reported` for each document that arrives; `errors` holds what is wrong now."""

    def __init__(
        self,
        publisher: Publisher,
        reported_topic: Callable[[str], str],
        wall: Callable[[], str],
        record: Callable[[EventClass, str, dict[str, Any]], None],
    ) -> None:
        self._publisher = publisher
        self._reported_topic = reported_topic
        self._wall = wall
        self._record = record
        self._errors: dict[tuple[str, LayerName], DocumentError] = {}

    def desired(self, topic: Topic, message: Incoming) -> None:
        """A document arrived. An empty payload is ignored: nothing unsigned takes a layer away."""
        kind = topic.names[0]
        if not message.payload or kind == "trust":
            return
        layer: LayerName = "fleet" if topic.address.area == ALL else "area" if topic.address.booth == ALL else "booth"
        try:
            open_envelope(message.payload)
        except Refusal as caught:
            refusal = caught
        else:
            refusal = Refusal("untrusted-key", "", "this booth has no trust.json beside its agent.toml: it takes no document")
        error = DocumentError(layer, refusal.code, refusal.path, printable(refusal.message, 400))
        if self._errors.get((kind, layer)) != error:
            self._errors[kind, layer] = error
            self._record(cast("EventClass", kind), error.code, {"layer": layer, "message": error.message})
            log.warning("%s document refused: %s", kind, error.message, extra={"code": error.code})
        self._report(kind)

    def _report(self, kind: str) -> None:
        errors = [error for (of_kind, _), error in self._errors.items() if of_kind == kind]
        layers = dict.fromkeys(_LAYERS)
        make = UpdateReported if kind == "update" else Reported
        reported = make("rejected", layers, None, {}, errors, self._wall())
        self._publisher.retain("reported", self._reported_topic(kind), encode(plain(reported)))
