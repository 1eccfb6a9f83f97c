"""What whoever took the agent over would try against the policy: attempts for `hijacked`. /run/envelopes is what he has heard."""

import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.virtual_booth.guest import grabs
from tests.virtual_booth.guest.deliver import SOCKET, deliver, say

ENVELOPES: Final = Path("/run/envelopes")
_REPORT: Final = Path("/run/booth-lockdown/reported.json")

# Envelopes by what they are (tests/virtual_booth/test_lockdown.py signs them), and the layer for which they are put there.
FORGED: Final = {
    "older": "booth",
    "of-an-unknown-key": "booth",
    "of-one-key-and-looser": "booth",
    "of-another-booth": "booth",
    "of-the-fleet": "booth",
    "a-configuration": "booth",
    "other-contents-of-a-revision": "booth",
    "below-the-floor": "booth",
}
_GARBAGE: Final = {
    "nothing": b"",
    "an empty line": b"\n",
    "an empty object": b"{}\n",
    "another act": b'{"kind":"undo","layer":"booth","bytes":1}\n0',
    "another layer": b'{"kind":"policy","layer":"floor","bytes":2}\n{}',
    "one key more": b'{"kind":"policy","layer":"booth","bytes":2,"root":"/tmp"}\n{}',
    "a path for a layer": b'{"kind":"policy","layer":"../../etc","bytes":2}\n{}',
    "no bytes": b'{"kind":"policy","layer":"booth","bytes":0}\n',
    "a thousand million bytes": b'{"kind":"policy","layer":"booth","bytes":1000000000}\n{}',
    "fewer bytes than it says": b'{"kind":"policy","layer":"booth","bytes":100}\n{}',
    "an envelope that is none": b'{"kind":"policy","layer":"booth","bytes":2}\n{}',
    "an envelope of zeros": b'{"kind":"policy","layer":"booth","bytes":1000}\n' + b"\0" * 1000,
    "deep brackets": b'{"kind":"policy","layer":"booth","bytes":200000}\n' + b"[" * 200000,
    "a first line without end": b"a" * 1_000_000,
    "no UTF-8": b"\xff\xfe\n\xff",
}
_WRITES: Final = """
/etc/booth-agent/trust.json /usr/lib/booth-agent/floor.json /etc/chromium/policies/managed/booth-web.json
/etc/chromium-browser/policies/managed/booth-web.json /etc/udev/rules.d/60-booth-usb.rules /etc/modprobe.d/booth-usb.conf
/etc/udev/rules.d/72-booth-camera.rules /run/booth-lockdown/firewall.nft /run/booth-lockdown/firewall.listing
/etc/systemd/system.control/getty@.service /etc/sysctl.d/60-booth.conf /etc/systemd/logind.conf.d/60-booth.conf
/etc/systemd/system.conf.d/60-booth.conf /etc/booth-session/limits.json /etc/booth-session/printing.json /etc/cups/cupsd.conf
/etc/cups/cups-files.conf /run/booth-lockdown/reported.json /run/booth-lockdown/errors.json /run/booth-lockdown/lock
/var/lib/booth-lockdown/policy/state.json /proc/sys/kernel/sysrq /etc/systemd/system/booth-lockdown-apply.service
/etc/systemd/system/booth-lockdown-.service.d/common.conf /opt/booth-agent/bin/booth-lockdown
"""
_FOLDERS: Final = """
/usr/lib/booth-agent /etc/chromium/policies/managed /etc/systemd/system.control /etc/booth-session
/run/booth-lockdown /var/lib/booth-lockdown /var/lib/booth-lockdown/policy /run/systemd/system.control /etc/nftables.d
"""
_COMMANDS: Final = """
/opt/booth-agent/bin/booth-lockdown undo; /opt/booth-agent/bin/booth-lockdown apply; /opt/booth-agent/bin/booth-lockdown check
systemctl stop booth-lockdown-check.timer; systemctl stop booth-lockdown-check.path; systemctl stop booth-lockdown-serve.socket
systemctl mask booth-lockdown-apply.service; systemctl unmask getty@.service; systemctl start getty@tty2.service
nft delete table inet booth; nft flush table inet booth; nft list ruleset; sysctl -w kernel.sysrq=1
udevadm trigger --action=change --subsystem-match=usb; modprobe usb-storage; systemctl start ssh.service
"""


def attempts() -> Iterator[tuple[str, Callable[[], str | None]]]:
    for name, layer in FORGED.items():
        yield f"a policy {name}".replace("-", " "), partial(_forged, name, layer)
    yield "a trust list of one's own", _trust
    yield "only the booth's layer, with all that the daemon keeps deleted", _withhold
    yield from ((f"root's socket: {name}", partial(_garbage, data)) for name, data in _GARBAGE.items())
    yield "root's socket: two hundred that say nothing", _flood
    yield "root's socket: in its place", lambda: grabs.done(Path(SOCKET).unlink, "unlinked")
    yield from ((f"write {path}", partial(grabs.write, path)) for path in _WRITES.split())
    yield from ((f"put a file into {folder}", partial(grabs.put, Path(folder))) for folder in _FOLDERS.split())
    yield "read what root keeps", lambda: grabs.any_of("var/lib/booth-lockdown/*", grabs.read)
    for command in _COMMANDS.strip().replace("\n", "; ").split("; "):
        yield command, partial(grabs.run, *command.split())
    yield "unauthorized USB devices", lambda: grabs.any_of("sys/bus/usb/devices/*/authorized", grabs.write)
    yield "out to where the policy does not let", _out


def _in_force() -> str:
    """What is said to be in force."""
    return str(json.loads(_REPORT.read_text())["effective_sha256"])


def _answer(reports: list[dict[str, Any]], before: str) -> str | None:
    """Gained where another policy is in force; refused where root said why."""
    if _in_force() != before:
        return json.dumps(reports)
    if not reports:
        raise PermissionError("hung up")
    errors = reports[-1].get("errors") or [{"code": reports[-1].get("status")}]
    raise PermissionError(f"{reports[-1].get('status') or reports[-1].get('outcome')}: {errors[-1]['code']}")


def _forged(name: str, layer: str) -> str | None:
    before = _in_force()
    return _answer(_patiently(layer, (ENVELOPES / name).read_bytes()), before)


def _trust() -> str | None:
    before = _in_force()
    reports = _patiently("fleet", (ENVELOPES / "trust").read_bytes(), "trust")
    return json.dumps(reports) if reports[-1]["outcome"] == "accepted" else _answer(reports, before)


def _withhold() -> str | None:
    """Root has each layer that it ever accepted, whatever the daemon keeps or hands over."""
    before = _in_force()
    for entry in grabs.OWN.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    report = _patiently("booth", (ENVELOPES / "in-force").read_bytes())[-1]
    if report["layers"]["fleet"] is None or report["effective_sha256"] != before:
        return json.dumps(report)
    raise PermissionError(f"{report['status']}: the fleet's revision {report['layers']['fleet']['applied_rev']} still counts")


def _garbage(data: bytes) -> str | None:
    before = _in_force()
    return _answer(say(data), before)


def _patiently(layer: str, message: bytes, kind: str = "policy") -> list[dict[str, Any]]:
    """Again as long as root hangs up, since it may be busy."""
    until_s = time.monotonic() + 60
    while not (reports := deliver(layer, message, kind)):
        if time.monotonic() > until_s:
            raise PermissionError("hung up, again and again")
        time.sleep(0.5)
    return reports


def _flood() -> str | None:
    """Held for some seconds, and let go: root must answer again."""
    before = _in_force()
    with ExitStack() as stack:
        for _ in range(200):
            line = stack.enter_context(socket.socket(socket.AF_UNIX))
            line.settimeout(1)
            with suppress(OSError):
                line.connect(SOCKET)
                line.sendall(b'{"kind":"policy"')
        time.sleep(3)
    reports = _patiently("booth", (ENVELOPES / "in-force").read_bytes())
    return _answer(reports, before)


def _out() -> str | None:
    """To a port that no service of the policy has, at the gateway: the kernel must say no, not the network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.sendto(b"x", ("10.0.2.2", 9999))
    return f"sent, {os.getpid()}"
