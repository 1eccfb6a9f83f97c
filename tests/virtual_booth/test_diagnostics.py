"""The bundle in the agent's own sandbox: a real journal, real units, and a real service manager's words about them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from agent.rules.bundle import Assembly, unpacked
from tests.virtual_booth.booth import SETTINGS, VirtualBooth
from tests.virtual_booth.inside import STARTS_S, TOPICS, heard, until_said
from tests.virtual_booth.inside import agent as running_agent

_SECRET = "Jeanne Dupont 0612345678"
_BUNDLE_S = 180.0


@pytest.fixture(scope="module")
def agent(installed: VirtualBooth) -> Iterator[VirtualBooth]:
    """Its unit runs; another one has failed before its eyes, with somebody's name in its last words."""
    with running_agent(installed, SETTINGS):
        until_said(installed, "state", '"state":"online"')
        installed.run(f"systemd-run --wait --unit jeanne-dupont sh -c 'echo {_SECRET}; exit 1' || true")
        installed.run(f"logger -t cups '{_SECRET}'; systemctl kill -s KILL booth-agent")
        installed.wait_for("systemctl show -P NRestarts booth-agent | grep -v '^0$' && systemctl is-active booth-agent", STARTS_S)
        until_said(installed, "state", '"state":"online"')
        yield installed
    installed.run("systemctl reset-failed jeanne-dupont || true")


def bundle(booth: VirtualBooth, id_: str) -> dict[str, Any]:
    """What the agent's unit sends, put together."""
    request = json.dumps({"id": id_})
    booth.run(f"mosquitto_pub -V mqttv5 -q 1 -t {TOPICS}/cmd/diagnostics/req -m '{request}'")
    until_said(booth, f"cmd/diagnostics/{id_}/status", '"state":"succeeded"', _BUNDLE_S)
    status = json.loads(booth.run(f"mosquitto_sub -W 10 -C 1 -t {TOPICS}/cmd/diagnostics/{id_}/status"))
    assembly = Assembly()
    for payload in heard(booth, f"cmd/diagnostics/{id_}/chunk/[0-9]*"):
        assembly.take(payload.encode())
    return unpacked(assembly.bundle(status["result"]))


def test_in_its_sandbox_it_reads_the_journal_and_asks_for_the_units(agent: VirtualBooth) -> None:
    found = bundle(agent, "c-1")
    journal = found["journal"]
    assert journal["unavailable"] is None
    ours = {line["message"] for line in journal["entries"] if line["unit"] == "booth-agent.service" and "message" in line}
    assert "connected to the broker" in ours
    events = {(line["unit"], line["event"]) for line in journal["entries"] if "event" in line}
    assert ("booth-agent.service", "failed") in events
    assert ("booth-agent.service", "started") in events
    assert "(kernel)" in journal["counts"]
    units = {unit["unit"]: unit for unit in found["units"]}
    assert units["booth-agent.service"]["active"] == "active"
    assert units["booth-agent.service"]["restarts"] >= 1
    assert units["(others that failed)"]["count"] >= 1
    assert found["versions"]["packages"]["systemd"]
    for word in ("jeanne", "dupont", "0612345678"):
        assert word not in json.dumps(found).lower()


def test_without_the_unit_that_may_the_bundle_says_that_there_is_no_journal(agent: VirtualBooth) -> None:
    agent.run("systemctl stop booth-journal.socket")
    try:
        found = bundle(agent, "c-2")
        assert "systemd-journal" in found["journal"]["unavailable"]
        assert found["units"], "the rest is there"
    finally:
        agent.run("systemctl start booth-journal.socket")
