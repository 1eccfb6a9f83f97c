"""What the daemon tells the process that makes a diagnostics bundle. That process decides what of it goes in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.contract.state import Board
from agent.contract.topics import Address
from agent.contract.typed import plain
from agent.engine.publish import Publisher
from agent.engine.ward import Ward
from agent.settings import PeripheralSettings, Settings
from agent.system.mqtt import Mqtt
from agent.system.store import Store


@dataclass(frozen=True)
class SelfDescription:
    """The parts that know something. `moment` says the time and how good the clock is."""

    address: Address
    boot_id: str
    board: Callable[[], Board]
    moment: Callable[[], tuple[str, str]]
    settings: Callable[[], Settings]
    configured: Mapping[str, PeripheralSettings]
    publisher: Publisher
    ward: Ward
    mqtt: Mqtt
    store: Store
    figures: Callable[[], Mapping[str, float | int]]

    def __call__(self, max_bytes: int) -> dict[str, Any]:
        """The question of `agent.diagnostics`, as plain JSON."""
        at, clock = self.moment()
        root = self.address.root + "/"
        image = {topic.removeprefix(root): payload.decode() for topic, payload in self.publisher.image.items()}
        return {
            "max_bytes": max_bytes,
            "area": self.address.area,
            "booth": self.address.booth,
            "at": at,
            "clock": clock,
            "boot_id": self.boot_id,
            "board": plain(self.board()),
            "image": {topic: text for topic, text in image.items() if not topic.startswith("meta")},
            "peripherals": {
                name: {"kind": item.peripheral.kind, "options": plain(item.options)} for name, item in self.configured.items()
            },
            "settings": _plain(self.settings()),
            "healing": self.ward.saved(),
            "link": self._link(),
            "figures": dict(self.figures()),
        }

    def _link(self) -> dict[str, Any]:
        error, figures = self.mqtt.last_error, self.mqtt.figures
        link: dict[str, Any] = {
            "connected": self.mqtt.connected, "store": self.store.condition, "denied_topics": len(self.publisher.denied)
        }  # fmt: skip
        if error is not None:
            link |= {"stage": error.stage, "reason": error.reason}
        if figures is not None:
            link |= {
                "rtt_ms": figures.rtt_ms, "segments_out": figures.segments_out, "retransmitted": figures.retransmitted
            }  # fmt: skip
        return link


def _plain(settings: Settings) -> dict[str, Any]:
    """Without the names of files, and of the broker."""
    broker = settings.broker
    return {
        "reporting": plain(settings.reporting),
        "checks": plain(settings.checks),
        "heal": plain(settings.heal),
        "light": plain(settings.light),
        "hours": plain(settings.hours),
        "services": {name: {} for name in settings.services},
        "broker": {
            "tls": broker.tls, "port": broker.port, "keepalive_s": broker.keepalive_s,
            "certificate": broker.certificate is not None,
        },
    }  # fmt: skip
