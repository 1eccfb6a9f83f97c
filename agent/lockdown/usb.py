"""USB by class and port: what is not allowed is not authorized. Hubs, network devices, the touch screen and the disk that the
system runs from always are.

Interface by interface (Linux, Documentation/usb/authorization.rst): a scanner that also is a card reader still scans. A udev
rule decides when something is plugged in, `apply` about what is plugged in already.
"""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal

from agent.contract.typed import Length
from agent.contract.words import Name
from agent.lockdown.rule import COMPLIANT, Machine, Measured, Place, Rule

Class = Literal[
    "storage", "printer", "scanner", "video", "audio", "hid", "serial", "smartcard", "bluetooth", "application", "vendor",
]  # fmt: skip
Classes = Annotated[tuple[Class, ...], Length(16)]

# usb.org, Defined Class Codes, as `bInterfaceClass` has them. Many scanners and serial adapters are of their maker's class.
_CODES: Final[dict[str, frozenset[str]]] = {
    "storage": frozenset({"08"}),
    "printer": frozenset({"07"}),
    "scanner": frozenset({"06", "ff"}),
    "video": frozenset({"0e", "10"}),
    "audio": frozenset({"01"}),
    "hid": frozenset({"03"}),
    "serial": frozenset({"02", "ff"}),
    "smartcard": frozenset({"0b"}),
    "bluetooth": frozenset({"e0"}),
    "application": frozenset({"fe"}),  # firmware, measuring instruments
    "vendor": frozenset({"ff"}),
}
# A hub; and the data half of a CDC device, which does nothing without its other half.
_ALWAYS: Final = ("09", "0a")
# Networks: class, subclasses, protocols. CDC modems (AT commands), ECM, EEM, NCM, MBIM; RNDIS in its three disguises.
_NETWORK: Final = (
    ("02", ("02",), ("01", "02", "03", "04", "05", "06", "ff")),
    ("02", ("06", "0c", "0d", "0e"), ()),
    ("e0", ("01",), ("03",)),
    ("ef", ("04",), ("01", "02", "03", "04", "05", "06", "07")),
)
_NETWORK_BELOW: Final = ("net", "ieee80211", "wwan")  # the kernel's classes
# Where a driver's source lies, and its module too.
_NETWORK_DRIVERS: Final = "drivers/net/"
_STORAGE_MODULES: Final = "drivers/usb/storage/"
# They also drive devices that do not say that they are disks (drivers/usb/storage/unusual_devs.h).
_STORAGE_DRIVERS: Final = ("usb-storage", "uas", "ums-*")
_TOUCH: Final = "touch-screen"
_TOUCH_CODES: Final = frozenset({"03", "ff"})
# Below them people's disks are mounted, and never the system; but that one is what overlayroot makes of its root.
_PEOPLES: Final = ("/media/", "/run/media/", "/mnt/")
_OVERLAID_ROOT: Final = "/media/root-ro"

_DEVICES: Final = "sys/bus/usb/devices"
_RULES: Final = "etc/udev/rules.d/60-booth-usb.rules"  # before 80-drivers.rules, which loads the driver
_MODULES: Final = "etc/modprobe.d/booth-usb.conf"
_NO_STORAGE: Final = """\
# By the operator's policy, kept by the booth agent: no USB disk. `blacklist` would not keep what needs them (modprobe.d(5)).
install usb-storage /bin/false
install uas /bin/false
"""
_ASK_S: Final = 10.0


@dataclass(frozen=True)
class Usb:
    """`classes` are allowed at every port, `slots` in addition at a peripheral's own (its port stands in root's slots.toml)."""

    classes: Classes = ()
    slots: Annotated[dict[Name, Classes], Length(32)] = field(default_factory=dict)


def looser(before: Usb, after: Usb) -> bool:
    everywhere = _codes(before.classes)
    if not _codes(after.classes) <= everywhere:
        return True
    return any(not _codes(more) <= everywhere | _codes(before.slots.get(slot, ())) for slot, more in after.slots.items())


def apply(machine: Machine, place: Place, part: Usb) -> None:
    if machine.text(machine.path(_RULES)) != _rules(place, part).strip():
        machine.put(machine.path(_RULES), _rules(place, part))
        _reload(machine)
    if not _modules_blocked(machine, part):
        machine.remove(machine.path(_MODULES))
    elif machine.text(machine.path(_MODULES)) != _NO_STORAGE.strip():
        machine.put(machine.path(_MODULES), _NO_STORAGE)
    _settle(machine, _judge(machine, place, part))


def measure(machine: Machine, place: Place, part: Usb) -> Measured:
    if not machine.has("udevadm"):
        return Measured("not-applicable", "udev is not installed")
    if machine.text(machine.path(_RULES)) != _rules(place, part).strip():
        return Measured("violated", f"/{_RULES} is not the policy's")
    wanted = _NO_STORAGE.strip() if _modules_blocked(machine, part) else None
    if machine.text(machine.path(_MODULES)) != wanted:
        return Measured("violated", f"/{_MODULES} is not the policy's")
    for device in _devices(machine):
        if machine.text(device / "authorized") == "0":
            return Measured("violated", f"the whole device at {_port(device)} is locked")
    allowed = _judge(machine, place, part)
    for face in _faces(machine):
        authorized = machine.text(face.path / "authorized")
        where = f"class {face.code} at {face.port}"
        if allowed(face) and authorized == "0":
            return Measured("violated", f"{where} is locked, and may not be")
        if not allowed(face) and (authorized != "0" or face.driver is not None):
            return Measured("violated", f"{where} is not locked")
    return COMPLIANT


def undo(machine: Machine, _place: Place) -> None:
    if machine.path(_RULES).exists():
        machine.remove(machine.path(_RULES))
        _reload(machine)
    machine.remove(machine.path(_MODULES))
    _settle(machine, lambda _face: True)


def _codes(words: tuple[Class, ...]) -> frozenset[str]:
    return frozenset().union(*(_CODES[word] for word in words))


def _everywhere(place: Place, part: Usb) -> frozenset[str]:
    """Without a touch screen that has a place of its own, a mouse may be one anywhere: a locked-out one is a dead booth."""
    touch = any(name.startswith(_TOUCH) for name in place.usb)
    return _codes(part.classes) | (frozenset() if touch else _CODES["hid"])


def _at_ports(place: Place, part: Usb) -> dict[str, frozenset[str]]:
    """What is allowed in addition at a port."""
    found: dict[str, frozenset[str]] = {}
    for name, port in sorted(place.usb.items()):
        more = _codes(part.slots.get(name, ())) | (_TOUCH_CODES if name.startswith(_TOUCH) else frozenset())
        found[port] = found.get(port, frozenset()) | more - _everywhere(place, part)
    return {port: codes for port, codes in found.items() if codes}


def _modules_blocked(machine: Machine, part: Usb) -> bool:
    storage = any(_CODES["storage"] <= _codes(words) for words in (part.classes, *part.slots.values()))
    return not storage and not _system_disks(machine)


# --- when something is plugged in ---


def _rules(place: Place, part: Usb) -> str:
    """udev(7). What was there before udev ("add" with SYNTH_UUID) may be the disk that the system runs from: `apply` looks at
    it at boot."""
    end = 'GOTO="booth_usb_end"'
    drivers = "|".join(_STORAGE_DRIVERS)
    everywhere, at_ports = _everywhere(place, part), _at_ports(place, part)
    lines = [
        "# By the operator's policy, kept by the booth agent: which USB interfaces get a driver.",
        f'ACTION!="add|bind", {end}',
        f'SUBSYSTEM!="usb", {end}',
        f'ENV{{DEVTYPE}}!="usb_interface", {end}',
        f'ENV{{SYNTH_UUID}}=="?*", ATTR{{bInterfaceClass}}=="08", {end}',
        f'ENV{{SYNTH_UUID}}=="?*", DRIVER=="{drivers}", {end}',
    ]
    if "08" not in everywhere:
        disks = "|".join(_kernel(port) for port, codes in at_ports.items() if "08" in codes)
        elsewhere = f'KERNEL!="{disks}", ' if disks else ""
        lines.append(f'DRIVER=="{drivers}", {elsewhere}ATTR{{authorized}}="0", {end}')
    lines.append(f'ATTR{{bInterfaceClass}}=="{"|".join(sorted(everywhere.union(_ALWAYS)))}", {end}')
    for port, codes in at_ports.items():
        lines.append(f'KERNEL=="{_kernel(port)}", ATTR{{bInterfaceClass}}=="{"|".join(sorted(codes))}", {end}')
    for code, subclasses, protocols in _NETWORK:
        finer = f', ATTR{{bInterfaceProtocol}}=="{"|".join(protocols)}"' if protocols else ""
        lines.append(f'ATTR{{bInterfaceClass}}=="{code}", ATTR{{bInterfaceSubClass}}=="{"|".join(subclasses)}"{finer}, {end}')
    # A network adapter of its maker's own class. Its driver may not be loaded yet: then modinfo knows where it lies.
    vendor = 'ATTR{bInterfaceClass}=="ff"'
    lines += [f'{vendor}, TEST=="{kind}", {end}' for kind in _NETWORK_BELOW]
    for option in ("-n", "-F file"):
        lines.append(f'{vendor}, PROGRAM=="/usr/sbin/modinfo {option} $env{{MODALIAS}}", RESULT=="*{_NETWORK_DRIVERS}*", {end}')
    lines += ['ATTR{authorized}="0"', 'LABEL="booth_usb_end"']
    return "\n".join(lines) + "\n"


def _kernel(port: str) -> str:
    """The interfaces of whatever is plugged in there. Buses are numbered anew at each boot."""
    return f"[0-9]*-{port.removeprefix('usb-')}:*"


def _reload(machine: Machine) -> None:
    if machine.has("udevadm"):
        machine.do("udevadm", "control", "--reload", within_s=_ASK_S)


# --- what is plugged in ---


@dataclass(frozen=True)
class _Face:
    """An interface of a device."""

    path: Path
    port: str
    code: str
    kind: tuple[str, str]  # subclass and protocol
    driver: str | None


def _devices(machine: Machine) -> list[Path]:
    """But for root hubs, which are nobody's."""
    folder = machine.path(_DEVICES)
    return sorted(file for file in folder.iterdir() if re.fullmatch(r"[0-9]+-[0-9.]+", file.name)) if folder.is_dir() else []


def _port(device: Path) -> str:
    return f"usb-{device.name.partition('-')[2]}"


def _faces(machine: Machine) -> Iterator[_Face]:
    for device in _devices(machine):
        with suppress(FileNotFoundError):  # pulled out in this moment
            for path in sorted(file for file in device.iterdir() if file.name.startswith(f"{device.name}:")):
                code, subclass, protocol = (
                    machine.text(path / f"bInterface{name}") or "" for name in ("Class", "SubClass", "Protocol")
                )
                driver = (path / "driver").readlink().name if (path / "driver").is_symlink() else None
                yield _Face(path, _port(device), code, (subclass, protocol), driver)


def _judge(machine: Machine, place: Place, part: Usb) -> Callable[[_Face], bool]:
    """Whether an interface is allowed."""
    everywhere, at_ports, disks = _everywhere(place, part), _at_ports(place, part), _system_disks(machine)

    def allowed(face: _Face) -> bool:
        if face.path.name in disks:
            return True
        codes = everywhere | at_ports.get(face.port, frozenset())
        if "08" not in codes and _stores(machine, face):
            return False
        return face.code in codes or face.code in _ALWAYS or _network(machine, face)

    return allowed


def _network(machine: Machine, face: _Face) -> bool:
    subclass, protocol = face.kind
    for code, subclasses, protocols in _NETWORK:
        if face.code == code and subclass in subclasses and (not protocols or protocol in protocols):
            return True
    if face.code != "ff":
        return False
    if any((face.path / kind).is_dir() for kind in _NETWORK_BELOW):
        return True
    return _NETWORK_DRIVERS in _driver_files(machine, face)


def _stores(machine: Machine, face: _Face) -> bool:
    """Whether a disk's driver has it; one that was locked is not let in again to find out."""
    if face.driver is not None:
        return any(Path(face.driver).match(name) for name in _STORAGE_DRIVERS)
    return machine.text(face.path / "authorized") == "0" and _STORAGE_MODULES in _driver_files(machine, face)


def _driver_files(machine: Machine, face: _Face) -> str:
    """Of those that ask for it: where their module lies, or their source where they are built in."""
    alias = machine.text(face.path / "modalias")
    if alias is None or not machine.has("modinfo"):
        return ""
    return "".join(machine.ask("modinfo", *option, alias, within_s=_ASK_S).output for option in (("-n",), ("-F", "file")))


def _system_disks(machine: Machine) -> set[str]:
    """The interfaces behind which the system's own file systems lie, such as `1-1.2:1.0`. By what is mounted where no person's
    disk is ever mounted."""
    found: set[str] = set()
    for line in (machine.text(machine.path("proc/self/mountinfo")) or "").splitlines():
        fields = line.split()  # proc(5)
        if fields[4].startswith(_PEOPLES) and fields[4] != _OVERLAID_ROOT:
            continue
        source = fields[fields.index("-") + 2].rpartition("/")[2]
        for node in (f"sys/dev/block/{fields[2]}", f"sys/class/block/{source}"):
            found |= _carriers(machine.path(node))
    return found


def _carriers(node: Path) -> set[str]:
    if not node.name or not node.exists():
        return set()
    disk = node.resolve()
    found = {part for part in disk.parts if re.fullmatch(r"[0-9]+-[0-9.]+:[0-9]+\.[0-9]+", part)}
    below = disk / "slaves"  # what an encrypted or joined disk consists of
    return found.union(*(_carriers(slave) for slave in below.iterdir())) if below.is_dir() else found


def _settle(machine: Machine, allowed: Callable[[_Face], bool]) -> None:
    for device in _devices(machine):
        if machine.text(device / "authorized") == "0":
            _write(device / "authorized", "1")  # it gets its interfaces, which are judged one by one
    for face in _faces(machine):
        wanted = "1" if allowed(face) else "0"
        if machine.text(face.path / "authorized") in (None, wanted):
            continue
        _write(face.path / "authorized", wanted)
        if wanted == "1":
            with suppress(OSError):  # nothing here drives it
                _write(machine.path("sys/bus/usb/drivers_probe"), face.path.name)


def _write(file: Path, text: str) -> None:
    """Into a file of the kernel's, which can only be written in place."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):  # pulled out in this moment
            raise


RULE: Final = Rule(
    "usb",
    schema=Usb,
    looser=looser,
    apply=apply,
    measure=measure,
    undo=undo,
    watched=(_RULES, _MODULES),
)
