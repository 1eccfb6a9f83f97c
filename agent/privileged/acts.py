"""All that root does for the daemon, on one page: the act, in which tables its slot may stand, how often, and what is run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agent.privileged import board, cups, network, pages, usb, wipe
from agent.privileged.limits import Limit
from agent.privileged.machine import Machine
from agent.privileged.slots import Slots

_HOUR_S: Final = 3600


@dataclass(frozen=True)
class Act:
    """`run` gets a slot that stands in one of `tables`. The limit holds for each slot; for the act as a whole, and across
    reboots, where it is `lasting`."""

    tables: tuple[str, ...]
    limit: Limit
    run: Callable[[Machine, Slots, str], None]
    lasting: bool = False


ACTS: Final = {
    "usb-rebind": Act(("usb",), Limit(10, _HOUR_S), usb.rebind),
    "usb-reset": Act(("usb",), Limit(10, _HOUR_S), usb.reset),
    "usb-authorize": Act(("usb",), Limit(10, _HOUR_S), usb.authorize),
    "usb-power": Act(("usb",), Limit(10, _HOUR_S), usb.power),
    "purge-spool": Act(("queues",), Limit(60, _HOUR_S), cups.purge),
    "enable-queue": Act(("queues",), Limit(60, _HOUR_S), pages.enable),
    "restart-cups": Act(("queues",), Limit(6, _HOUR_S), cups.restart),
    "renew-address": Act(("interfaces",), Limit(12, _HOUR_S), network.renew),
    "bounce-link": Act(("interfaces",), Limit(12, _HOUR_S), network.bounce),
    "restart-network": Act(("interfaces",), Limit(12, _HOUR_S), network.restart),
    "radio-cycle": Act(("interfaces",), Limit(12, _HOUR_S), network.cycle_radio),
    "reload-driver": Act(("interfaces",), Limit(12, _HOUR_S), network.reload_driver),
    "restart-kiosk": Act(("units",), Limit(12, _HOUR_S), board.restart_kiosk),
    "free-disk": Act(("boards",), Limit(4, _HOUR_S), board.free_disk),
    "restart-units": Act(("boards",), Limit(6, _HOUR_S), board.restart_units),
    "wipe-session": Act(("session",), Limit(600, _HOUR_S), wipe.run),
    "reboot": Act(
        ("usb", "queues", "interfaces", "units", "boards"), Limit(1, 6 * _HOUR_S), board.reboot, lasting=True
    ),
}  # fmt: skip
