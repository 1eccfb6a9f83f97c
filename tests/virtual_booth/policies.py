"""The operator of a virtual booth: policies that the keys of tests sign, published at its broker; and what root says of them."""

import base64
import json
from typing import Any, Final

from tests.documents.operator import Operator
from tests.virtual_booth.booth import VirtualBooth
from tests.virtual_booth.inside import AS_AGENT, JOURNAL, TOPICS, until_heard, write

OPERATOR: Final = Operator()
FLEET: Final = "booth/v1/_all/_all"
RULES: Final = ("camera", "consoles", "firewall", "hours", "printing", "session", "usb", "web")
CHECK: Final = "systemctl start booth-lockdown-check.service"
REPORT: Final = "/run/booth-lockdown/reported.json"
# What the rules put on a machine, one line each; and what is there while nothing is locked.
LOCKS: Final = (
    "nft list tables; systemctl is-active booth-lockdown-apply.service; echo sysrq $(cat /proc/sys/kernel/sysrq);"
    " ls -d /etc/systemd/system.control/* /etc/chromium /run/booth-lockdown /etc/booth-session /etc/modprobe.d/booth-*"
    " /etc/udev/rules.d/*-booth-usb.rules 2> /dev/null; systemctl is-active serial-getty@ttyS0.service || true"
)
UNLOCKED: Final = "inactive\nsysrq 438\nactive\n"

_TRUST: Final = "/etc/booth-agent/trust.json"
_SENT: Final = "/run/desired"


def trust(booth: VirtualBooth) -> None:
    """The operator's trust list is put beside agent.toml, as an image has it."""
    write(booth, _TRUST, json.dumps(OPERATOR.trust()))


def signed(doc: Any, rev: int, audience: str = TOPICS, **over: Any) -> bytes:
    """A policy, signed by both keys if no others are named."""
    return OPERATOR.sign("policy", doc, rev, audience, **({"keys": OPERATOR.both} | over))


def put(booth: VirtualBooth, path: str, data: bytes) -> None:
    """These bytes, into a file that everybody can read."""
    booth.run(f"mkdir -p $(dirname {path}) && base64 -d > {path} <<'END'\n{base64.encodebytes(data).decode()}END")


def publish(booth: VirtualBooth, envelope: bytes, place: str = TOPICS) -> None:
    """At the booth's broker, retained; not as root, who may be cut off from there."""
    put(booth, _SENT, envelope)
    booth.run(f"{AS_AGENT} mosquitto_pub -V mqttv5 -q 1 -r -t {place}/policy/desired -f {_SENT}")


def applied_in_s(booth: VirtualBooth, envelope: bytes, rev: int, place: str = TOPICS) -> float:
    """Publish it; how many seconds later the booth has said at the broker that it is applied."""
    layer = "fleet" if place == FLEET else "booth"
    pattern = f'"status":"applied".*"{layer}":."seen_rev":{rev},"applied_rev":{rev}'
    put(booth, _SENT, envelope)
    asked = (
        f"before=$(date +%s%N); mosquitto_pub -V mqttv5 -q 1 -r -t {place}/policy/desired -f {_SENT};"
        f" timeout 100 sh -c \"until grep -q '^{TOPICS}/policy/reported .*{pattern.replace(chr(34), '.')}' /run/heard;"
        ' do sleep 0.1; done" && echo $(($(date +%s%N) - before))'
    )
    status, output = booth.try_run(asked, 120)
    assert status == 0, f"{output}\n{booth.run(f'cat {REPORT}; journalctl -b -o cat --no-pager | tail -30')}"
    return int(output) / 1e9


def reported(booth: VirtualBooth) -> dict[str, Any]:
    """What root measured last."""
    report: dict[str, Any] = json.loads(booth.run(f"cat {REPORT}"))
    return report


def states(report: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    """What was measured of each rule."""
    return {name: (rule["measured"], rule["detail"]) for name, rule in report["rules"].items()}


def statuses(messages: list[dict[str, Any]]) -> list[str]:
    """Of `policy/reported`, as they were said; the same one after another is one."""
    said: list[str] = []
    for message in messages:
        if said[-1:] != [message["status"]]:
            said.append(message["status"])
    return said


class Heard:
    """What the broker has heard since this was made."""

    def __init__(self, booth: VirtualBooth) -> None:
        self._booth = booth
        self._from = int(booth.run("stat -c %s /run/heard")) + 1

    def said(self, topic: str) -> list[dict[str, Any]]:
        """Oldest first."""
        lines = self._booth.run(f"{self._lines(topic)} || true").splitlines()
        return [json.loads(line.partition(" ")[2]) for line in lines]

    def until(self, topic: str, pattern: str, timeout_s: float = 60) -> None:
        self._booth.wait_for(f"{self._lines(topic)} | grep -E '{pattern}' || {{ {JOURNAL}; false; }}", timeout_s)

    def until_drift(self, rule: str) -> list[str]:
        """The broker has heard of the drift, and then that all is well. Every status that was said from the drift on: what was
        well before may be said late."""
        # The same again within minutes is no other event.
        until_heard(self._booth, "event/security", f'"code":"policy-drift".*"{rule}"', 60)
        self.until("policy/reported", '"status":"drifted"')
        from_drift = f"""{self._lines("policy/reported")} | sed -n '/"status":"drifted"/,$p'"""
        self._booth.wait_for(f"""{from_drift} | grep '"status":"applied","layers"'""", 60)  # and not of a section
        said = statuses(self.said("policy/reported"))
        return said[said.index("drifted") :]

    def _lines(self, topic: str) -> str:
        return f"tail -c +{self._from} /run/heard | grep '^{TOPICS}/{topic} '"
