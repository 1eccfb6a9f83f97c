"""systemd's units: which ones are of interest by name, and how they stand."""

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from agent.diagnostics.allowed import form, text

_OURS: Final = re.compile(
    # Not booth-act-wipe-session: it runs when a session ends, and would tell when.
    r"booth-(agent|light|button|pages|session|retry@|acts|act-(?!wipe)[a-z-]{3,24}@?|lockdown-[a-z]{3,12}@?)"
    r"\.(service|socket|timer|path|slice)"
)
_RELATED: Final = frozenset({
    "init.scope", "cups.service", "cups.socket", "cups.path", "cups-browsed.service", "avahi-daemon.service",
    "NetworkManager.service", "wpa_supplicant.service", "systemd-networkd.service", "dhcpcd.service", "networking.service",
    "ModemManager.service", "systemd-resolved.service", "systemd-timesyncd.service", "chrony.service", "ntpsec.service",
    "dbus.service", "polkit.service", "nftables.service", "ssh.service", "systemd-udevd.service", "systemd-journald.service",
    "systemd-logind.service", "systemd-modules-load.service", "systemd-tmpfiles-setup.service", "lightdm.service",
    "greetd.service", "getty@.service", "user@.service", "pipewire.service", "saned.socket",
    "bluetooth.service", "cron.service", "rsyslog.service",
})  # fmt: skip
_PROPERTIES: Final = (
    "Id", "LoadState", "ActiveState", "SubState", "UnitFileState", "Result", "NRestarts", "ExecMainStatus",
    "StateChangeTimestampMonotonic",
)  # fmt: skip
_ASKED: Final = ("booth-*", *sorted(name for name in _RELATED if "@" not in name))
_WORD: Final = form("[a-z][a-z-]{1,30}")
_WITHIN_S: Final = 10.0


class Names:
    """The names that may go in: ours, those that ours depend on, and those that `agent.toml` names (the kiosk's)."""

    def __init__(self, configured: Iterable[str] = ()) -> None:
        self.configured = frozenset(
            name for name in configured if re.fullmatch(r"[A-Za-z0-9:_.@-]{1,80}\.(service|scope|slice)", name)
        )

    def known(self, unit: object) -> str | None:
        """The unit's name, without the name of its instance: that of a socket's connection, a device or a person's account."""
        if not isinstance(unit, str):
            return None
        if unit in self.configured:
            return unit
        template = re.sub(r"@[^.]*(\.[^@]*)?\.(?=[a-z]+$)", "@.", unit)
        return template if template in _RELATED or _OURS.fullmatch(template) else None


def states(names: Names) -> list[dict[str, Any]] | dict[str, str]:
    """How each stands, or why that is not known; units that are not of interest and have failed are counted."""
    if not Path("/run/systemd/system").is_dir():
        return {"unavailable": "no systemd runs here"}
    command = ["systemctl", "show", "--no-pager", f"--property={','.join(_PROPERTIES)}", "--", *_ASKED, *sorted(names.configured)]
    try:
        shown = _run(command)
        failed = _run(["systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager"])
    except (OSError, subprocess.SubprocessError) as error:
        return {"unavailable": f"systemctl: {type(error).__name__}"}
    others = [line for line in failed.splitlines() if line.strip() and names.known(line.split()[0]) is None]
    return [*read(shown, names), {"unit": "(others that failed)", "count": len(others)}]


def read(shown: str, names: Names) -> list[dict[str, Any]]:
    """What `systemctl show` says, a block of lines for each unit."""
    found = []
    for block in shown.split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        unit = names.known(values.get("Id"))
        if unit is None or values.get("LoadState") == "not-found":
            continue
        entry: dict[str, Any] = {"unit": unit}
        for key, name in (("ActiveState", "active"), ("SubState", "sub"), ("UnitFileState", "enabled"), ("Result", "result")):
            if values.get(key):
                entry[name] = text(values[key], _WORD)
        for key, name in (("NRestarts", "restarts"), ("ExecMainStatus", "status"), ("StateChangeTimestampMonotonic", "since_us")):
            if values.get(key, "").isdigit():
                entry[name] = int(values[key])
        found.append(entry)
    return found


def _run(command: list[str]) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_WITHIN_S, check=False)
    return done.stdout.decode(errors="replace")
