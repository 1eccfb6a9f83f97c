"""Which versions are at work: the system's packages that matter to a booth, and our own libraries."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any, Final

from agent import VERSION as AGENT
from agent.diagnostics.allowed import VERSION, text

_PACKAGES: Final = (
    "alsa-utils", "avahi-daemon", "chromium", "chromium-browser", "cups", "cups-browsed", "cups-daemon", "cups-filters", "dbus",
    "firmware-brcm80211", "firmware-realtek", "ghostscript", "ipp-usb", "libcamera-apps", "libcamera-tools", "libsane1",
    "libssl3", "libssl3t64", "linux-image-rpi-2712", "linux-image-rpi-v8", "network-manager", "nftables", "openssh-server",
    "printer-driver-brlaser", "python3", "raspberrypi-sys-mods", "raspi-firmware", "rpicam-apps", "sane-airscan",
    "sane-utils", "systemd", "systemd-timesyncd", "wpasupplicant",
)  # fmt: skip
_LIBRARIES: Final = ("cryptography", "gpiod", "paho-mqtt", "pyserial", "python-escpos", "python-sane", "systemd-python")
_WITHIN_S: Final = 15.0


def versions() -> dict[str, Any]:
    return {
        "agent": AGENT,
        "python": platform.python_version(),
        "kernel": text(platform.release(), VERSION),
        "os": _os(),
        "libraries": {name: version for name in _LIBRARIES if (version := _library(name)) is not None},
        "packages": _packages(),
    }


def _os() -> dict[str, str | None]:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return {}
    return {key.lower(): text(release.get(key), VERSION) for key in ("ID", "VERSION_ID", "VERSION_CODENAME")}


def _library(name: str) -> str | None:
    try:
        return text(importlib.metadata.version(name), VERSION)
    except importlib.metadata.PackageNotFoundError:
        return None


def _packages() -> dict[str, str | None]:
    """Those that are installed; none where there is no dpkg."""
    if not Path("/var/lib/dpkg/status").is_file():
        return {}
    command = ["dpkg-query", "--show", "--showformat=${Package} ${Version}\\n", "--", *_PACKAGES]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_WITHIN_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return {}
    lines = [line.split(" ") for line in done.stdout.decode(errors="replace").splitlines()]
    return {line[0]: text(line[1], VERSION) for line in lines if len(line) == 2 and line[0] in _PACKAGES and line[1]}
