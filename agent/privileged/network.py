"""The booth's network interface: address, link, manager, radio, driver."""

import re
import struct
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from agent.privileged.machine import Machine
from agent.privileged.slots import Slots
from agent.privileged.verdict import Ended

_MANAGERS: Final = ("NetworkManager", "systemd-networkd", "dhcpcd", "networking")  # the last is Debian's ifupdown
_ANSWER_S: Final = 5.0
_CONNECT_S: Final = 15.0
_DOWN_S: Final = 1.0
_RADIO_OFF_S: Final = 2.0
# linux/rfkill.h: struct rfkill_event {index, type, operation, soft, hard}. Unlike `soft` in sysfs it asks for no capability.
_RFKILL_EVENT: Final = "=IBBBB"
_RFKILL_CHANGE: Final = 2


def renew(machine: Machine, slots: Slots, slot: str) -> None:
    """Ask for the address again, without a break where that can be had."""
    interface = _interface(machine, slots.interfaces[slot]).name
    match _manager_of(machine, interface):
        case "NetworkManager":
            if machine.ask("nmcli", "--wait", "10", "device", "reapply", interface, within_s=_CONNECT_S).status != 0:
                _connect(machine, interface)  # it was not connected
        case "systemd-networkd":
            machine.do("networkctl", "--no-pager", "renew", interface, within_s=_ANSWER_S)
        case "dhcpcd":
            machine.do("dhcpcd", "--rebind", interface, within_s=_ANSWER_S)
        case _:
            raise Ended("not-supported", "nothing here renews an address alone; restart-network does")


def bounce(machine: Machine, slots: Slots, slot: str) -> None:
    """The link down and up again, as if the cable was pulled."""
    interface = _interface(machine, slots.interfaces[slot]).name
    manager = _manager_of(machine, interface)
    if manager == "networking":
        raise Ended("not-supported", "ifupdown does not bring the routes back; restart-network does")
    with ExitStack() as always:
        if manager == "NetworkManager":
            always.callback(_connect, machine, interface)
            machine.do("nmcli", "--wait", "10", "device", "disconnect", interface, within_s=_CONNECT_S)
        else:
            always.callback(machine.do, "ip", "link", "set", "dev", interface, "up", within_s=_ANSWER_S)
            machine.do("ip", "link", "set", "dev", interface, "down", within_s=_ANSWER_S)
        machine.pause(_DOWN_S)


def restart(machine: Machine, slots: Slots, slot: str) -> None:
    """Start anew whatever manages the network here, one that failed too."""
    _interface(machine, slots.interfaces[slot])
    units = [f"{name}.service" for name in _MANAGERS]
    said = machine.ask("systemctl", "is-active", *units, within_s=_ANSWER_S).output.split()
    states = dict(zip(units, said, strict=False))
    running = [unit for unit in units if states.get(unit) in ("active", "activating", "reloading", "failed")]
    # ifupdown is active on every Debian, if only for the loopback: it counts where it is alone.
    chosen = [unit for unit in running if unit != units[-1]] or running
    if not chosen:
        raise Ended("not-supported", "no known network manager runs here")
    for unit in chosen:
        machine.do("systemctl", "--no-ask-password", "restart", unit, within_s=30.0)


def cycle_radio(machine: Machine, slots: Slots, slot: str) -> None:
    """The interface's own radio off and on, by its kill switch in the kernel."""
    folder = _interface(machine, slots.interfaces[slot]) / "phy80211"
    switches = [match[1] for entry in _names(folder) if (match := re.fullmatch("rfkill([0-9]+)", entry))]
    if not switches:
        raise Ended("not-supported", "it has no radio")
    device = machine.path("dev/rfkill")

    def block(soft: int) -> None:
        machine.write(device, struct.pack(_RFKILL_EVENT, int(switches[0]), 0, _RFKILL_CHANGE, soft, 0))

    with ExitStack() as always:
        always.callback(block, 0)
        block(1)
        machine.pause(_RADIO_OFF_S)


def reload_driver(machine: Machine, slots: Slots, slot: str) -> None:
    """Take the interface's device from its driver, and give it back: no module is loaded."""
    device = _interface(machine, slots.interfaces[slot]) / "device"
    driver = device / "driver"
    if not driver.is_dir():
        raise Ended("not-supported", "it has no driver of its own")
    name, folder = device.resolve().name, driver.resolve()  # the interface's folder goes away with the driver
    with ExitStack() as always:
        always.callback(machine.write, folder / "bind", name)
        machine.write(folder / "unbind", name)
        machine.pause(_DOWN_S)


def _interface(machine: Machine, name: str) -> Path:
    folder = machine.path(f"sys/class/net/{name}")
    if not folder.is_dir():
        raise Ended("failed", f"there is no interface {name}")
    return folder


def _manager_of(machine: Machine, interface: str) -> str | None:
    """What gave the interface its address; None where nothing runs that could."""
    if machine.has("nmcli"):
        said = machine.ask("nmcli", "--terse", "--get-values", "GENERAL.STATE", "device", "show", interface, within_s=_ANSWER_S)
        if said.status == 0 and said.output.split()[:1] != ["10"]:  # NM_DEVICE_STATE_UNMANAGED; 100 is connected
            return _MANAGERS[0]
    for name in _MANAGERS[1:]:
        if machine.ask("systemctl", "is-active", f"{name}.service", within_s=_ANSWER_S).status == 0:
            return name
    return None


def _connect(machine: Machine, interface: str) -> None:
    try:
        machine.do("nmcli", "--wait", "12", "device", "connect", interface, within_s=_CONNECT_S)
    finally:  # after a disconnect that nobody undid, NetworkManager would wait for a person
        machine.ask("nmcli", "device", "set", interface, "autoconnect", "yes", within_s=_ANSWER_S)


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
