"""An operator's broker, web server and bundles, all in the virtual booth itself, where they outlive a power cut."""

import base64
import json
from dataclasses import dataclass
from typing import Any, Final

from tests.virtual_booth.booth import VirtualBooth
from tests.virtual_booth.inside import TOPICS, write
from tests.virtual_booth.policies import OPERATOR, put, trust

FOLDER: Final = "/var/lib/releases"
SHOW: Final = "/opt/booth-agent/base/bin/booth-update show"

_HEARD: Final = "/run/heard-at"
_KEY: Final = "/root/update.key"
_MAKE: Final = "/usr/bin/python3 -B /repository/tests/virtual_booth/guest/releases.py"
_BOOTHCTL: Final = "/opt/booth-agent/bin/boothctl"
_TO_BOOTH: Final = f"61-0001 --url http://127.0.0.1:8000/ --key {_KEY} --broker mqtt://127.0.0.1 --window"
_JOURNAL: Final = "journalctl -b -o cat --no-pager -u booth-agent -u 'booth-update-*' | tail -40"
_SETTINGS: Final = """
[booth]
id = "61-0001"
area = "61"
[broker]
url = "mqtt://127.0.0.1"
[updates]
spread_s = 0
rate_kib_s = %d
[peripherals.board]
kind = "board"
"""
_UNITS: Final = {
    "broker": "/usr/sbin/mosquitto -p 1883",
    "heard": f"/usr/bin/mosquitto_sub -V mqttv5 -h 127.0.0.1 -F '%%U %%t %%p' -t {TOPICS}/#",
    "web-server": f"/usr/bin/python3 -m http.server --bind 127.0.0.1 --directory {FOLDER} 8000",
}
_UNIT: Final = """
[Unit]
Before=booth-agent.service
[Service]
ExecStart=%s
StandardOutput=append:/run/%s
Restart=always
RestartSec=500ms
[Install]
WantedBy=multi-user.target
"""
FAST, SLOW = 100_000, 64  # KiB/s


@dataclass(frozen=True)
class Said:
    """What the broker heard, in seconds since 1970."""

    at_s: float
    topic: str
    payload: str

    @property
    def json(self) -> Any:
        return json.loads(self.payload)


class Releases:
    """`prepare` first; `end` takes all of it away."""

    def __init__(self, booth: VirtualBooth) -> None:
        self._booth = booth

    def prepare(self, **faults: str) -> None:
        """Bundles are made (`v0_2_0="none"`: guest/releases.py), and the agent runs, now and from each boot on."""
        self._booth.run("rm -rf /var/lib/booth-agent")
        self.configure(FAST)
        write(self._booth, "/etc/booth-agent/slots.toml", "")
        trust(self._booth)
        put(self._booth, _KEY, OPERATOR.first.to_pem())
        self._booth.run(f"chmod 600 {_KEY}")
        wanted = " ".join(f"{name.removeprefix('v').replace('_', '.')}={fault}" for name, fault in faults.items())
        self._booth.run(f"{_MAKE} {FOLDER} {wanted}", 200)
        for name, command in _UNITS.items():
            write(self._booth, f"/etc/systemd/system/{name}.service", _UNIT % (command, f"{name}-at"))
        names = " ".join(_UNITS)
        self._booth.run(f"systemctl daemon-reload && systemctl --quiet enable --now {names}")
        self._booth.wait_for("mosquitto_pub -t ready -n")
        self._booth.run("systemctl --quiet enable booth-agent && systemctl start booth-agent", 90)
        self.until_online()

    def end(self) -> None:
        """What was installed stays, whatever version is in use."""
        names = " ".join(_UNITS)
        self._booth.run(f"systemctl --quiet disable --now booth-agent {names}", 60)
        files = " ".join(f"/etc/systemd/system/{name}.service" for name in _UNITS)
        self._booth.run(f"rm -rf {files} {FOLDER} {_KEY} /run/*-at /etc/booth-agent/trust.json && systemctl daemon-reload")

    def configure(self, rate_kib_s: int) -> None:
        """How fast it may fetch. For the agent's next start."""
        write(self._booth, "/etc/booth-agent/agent.toml", _SETTINGS % rate_kib_s)

    def publish(self, version: str, window: str = "now") -> None:
        bundle = f"{FOLDER}/booth-agent-{version}-amd64.tar"
        self._booth.run(f"{_BOOTHCTL} update publish {bundle} {_TO_BOOTH} {window}", 120)

    def publish_forms(self, folder: str) -> None:
        file = f"{FOLDER}/forms.tar"
        self._booth.run(f"{_BOOTHCTL} forms pack {folder} -o {file}", 120)
        self._booth.run(f"{_BOOTHCTL} forms publish {file} {_TO_BOOTH} now", 120)

    def kept(self) -> bytes:
        """The envelope that root keeps for this booth."""
        return base64.b64decode(self._booth.run("base64 /var/lib/booth-update/documents/booth*"))

    def said(self, topic: str) -> list[Said]:
        """All that was said at topics that begin so since the boot, oldest first."""
        lines = self._booth.run(f"grep ' {TOPICS}/{topic}' {_HEARD} || true").splitlines()
        parts = [line.split(" ", 2) for line in lines]
        return [Said(float(at_s), name.removeprefix(f"{TOPICS}/"), payload) for at_s, name, payload in parts]

    def until_last(self, topic: str, pattern: str, timeout_s: float = 90) -> None:
        """Wait until the newest that was said there fits."""
        last = f"grep ' {TOPICS}/{topic} ' {_HEARD} | tail -n 1"
        self._booth.wait_for(f"{last} | grep -E '{pattern}' || {{ {last}; {_JOURNAL}; false; }}", timeout_s)

    def until_online(self) -> None:
        self.until_last("state", '"state":"online"', 120)

    def until_phase(self, phase: str, version: str, timeout_s: float = 300) -> dict[str, Any]:
        """The report that says so of the agent's version."""
        self.until_last("update/reported", f'"to":"{version}","phase":"{phase}"', timeout_s)
        report: dict[str, Any] = self.said("update/reported")[-1].json
        return report

    def events(self) -> list[dict[str, Any]]:
        """Each once: what was under way when the agent ended is said again, as the same."""
        return list({event["id"]: event for event in (said.json for said in self.said("event/"))}.values())

    def told(self, version: str) -> list[str]:
        """The events of this version's update."""
        updates = [event for event in self.events() if event["class"] == "update"]
        return [event["code"] for event in updates if event["data"].get("to") == version]

    def in_use(self) -> str:
        """The version in the slot that counts; it must be whole, and the one whose program runs."""
        slot = self._booth.run("readlink /opt/booth-agent/current").strip()
        process = "tr '\\0' ' ' < /proc/$(systemctl show -P MainPID booth-agent)/cmdline"
        assert self._booth.run(process).startswith(f"/opt/booth-agent/{slot}/bin/python3 ")
        version: str = json.loads(self._booth.run(f"cat /opt/booth-agent/{slot}/release.json"))["version"]
        self._booth.run(
            f"grep -F 'VERSION: Final = \"{version}\"' /opt/booth-agent/{slot}/lib/python3*/site-packages/agent/__init__.py"
        )
        return version
