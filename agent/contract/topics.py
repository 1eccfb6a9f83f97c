"""Topic names, written and read. `B` is `booth/v1/{area}/{booth}`."""

import re
from dataclasses import dataclass
from typing import Final, Self

PREFIX: Final = "booth/v1"
ALL: Final = "_all"
DOCUMENT_KINDS: Final = ("config", "policy", "update", "trust")
EVENT_CLASSES: Final = ("health", "heal", "config", "policy", "command", "update", "security", "lifecycle")


@dataclass(frozen=True)
class Address:
    """The place of one booth in the topic tree."""

    area: str
    booth: str

    @property
    def prefix(self) -> str:
        """Of everything that booths publish."""
        return f"{PREFIX}/"

    @property
    def root(self) -> str:
        return f"{PREFIX}/{self.area}/{self.booth}"

    @property
    def state(self) -> str:
        return f"{self.root}/state"

    @property
    def meta(self) -> str:
        return f"{self.root}/meta"

    @property
    def led(self) -> str:
        return f"{self.root}/led"

    @property
    def echo(self) -> str:
        return f"{self.root}/echo"

    def health(self, peripheral: str) -> str:
        return f"{self.root}/health/{peripheral}"

    def service(self, service: str) -> str:
        return f"{self.root}/service/{service}"

    def alarm(self, peripheral: str, code: str) -> str:
        return f"{self.root}/alarm/{peripheral}/{code}"

    def event(self, class_: str) -> str:
        return f"{self.root}/event/{class_}"

    def telemetry(self, group: str) -> str:
        return f"{self.root}/tele/{group}"

    def reported(self, kind: str) -> str:
        return f"{self.root}/{kind}/reported"

    def command_status(self, verb: str, id_: str) -> str:
        return f"{self.root}/cmd/{verb}/{id_}/status"

    def chunk(self, id_: str, number: int) -> str:
        return f"{self.root}/cmd/diagnostics/{id_}/chunk/{number}"

    def subscriptions(self) -> list[str]:
        """What a booth listens to: its own, its area's and the fleet's documents, commands, its echo. Trust lists first: they
        decide about what follows. Updates from the fleet's on: where a rollout has emptied the booth's own document, the version
        stays named."""
        places = (self.root, f"{PREFIX}/{self.area}/{ALL}", f"{PREFIX}/{ALL}/{ALL}")
        kinds = ("trust", *(kind for kind in DOCUMENT_KINDS if kind != "trust"))
        in_order = {"update": places[::-1]}
        documents = [f"{place}/{kind}/desired" for kind in kinds for place in in_order.get(kind, places)]
        return [*documents, f"{self.root}/cmd/+/req", self.echo]


@dataclass(frozen=True)
class Topic:
    """A topic that was read: whose it is, which kind of message, and the names in it."""

    address: Address
    kind: str  # state, meta, led, echo, health, service, alarm, event, tele, desired, reported, cmd-req, cmd-status
    names: tuple[str, ...] = ()

    @classmethod
    def parse(cls, topic: str) -> Self | None:
        """The parts of a topic of this contract, or None for any other."""
        for kind, pattern in _PATTERNS.items():
            if found := pattern.fullmatch(topic):
                area, booth, *names = found.groups()
                return cls(Address(area, booth), kind, tuple(names))
        return None


def _pattern(tail: str, many: str = "") -> re.Pattern[str]:
    return re.compile(rf"{PREFIX}/([a-z0-9-]{{1,32}}{many})/([a-z0-9-]{{3,40}}{many})/{tail}")


_NAME = "([a-z0-9-]{1,64})"
_PATTERNS: Final = {
    "state": _pattern("state"),
    "meta": _pattern("meta"),
    "led": _pattern("led"),
    "echo": _pattern("echo"),
    "health": _pattern(f"health/{_NAME}"),
    "service": _pattern(f"service/{_NAME}"),
    "alarm": _pattern(f"alarm/{_NAME}/{_NAME}"),
    "event": _pattern(f"event/({'|'.join(EVENT_CLASSES)})"),
    "tele": _pattern(f"tele/{_NAME}"),
    "desired": _pattern(f"({'|'.join(DOCUMENT_KINDS)})/desired", many=f"|{ALL}"),
    "reported": _pattern("(config|policy|update)/reported"),
    "cmd-req": _pattern(f"cmd/{_NAME}/req"),
    "chunk": _pattern("cmd/diagnostics/([A-Za-z0-9_-]{1,64})/chunk/([0-9]{1,6})"),
    "cmd-status": _pattern(f"cmd/{_NAME}/([A-Za-z0-9_-]{{1,64}})/status"),
}
