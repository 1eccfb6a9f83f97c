"""Versions of the agent come and go on a whole booth: root's units in their sandboxes, three tries, and power that is cut.

Each test begins with what the one before has left in use. Those that take minutes are `long`: `make test-updates`.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from agent.contract.envelope import open_envelope
from tests.documents.operator import key
from tests.virtual_booth.booth import VirtualBooth
from tests.virtual_booth.guest.replacing import ENVELOPES, FORGED, NEVER, WANTED
from tests.virtual_booth.inside import AS_AGENT, TOPICS
from tests.virtual_booth.policies import FLEET, OPERATOR, put
from tests.virtual_booth.releases import FAST, SHOW, SLOW, Releases
from tests.virtual_booth.taken_over import taken_over, told

_UNITS = "/run/systemd/system"
_FAILED = "systemctl --failed --no-legend --plain"
_LINK = "readlink /opt/booth-agent/current"
_WRITABLE = "find /opt/booth-agent /var/lib/booth-update /var/lib/booth-forms ! -type l -writable 2> /dev/null || true"


@pytest.fixture(scope="module")
def releases(installed: VirtualBooth) -> Iterator[Releases]:
    """A booth that runs what `make install` has installed, and what an operator may publish."""
    made = Releases(installed)
    made.prepare(v0_2_0="none", v0_2_1="crashes", v0_2_2="hangs", v0_2_3="deaf", v0_3_0="none")
    yield made
    made.end()
    installed.run("/opt/booth-agent/bin/booth-lockdown undo && systemctl stop booth-lockdown-apply", 120)
    installed.run("rm -rf /var/lib/booth-lockdown/*")


def quick(booth: VirtualBooth, unit: str, text: str) -> None:
    """Where a test cannot wait for as long as a booth does; until its next boot."""
    booth.run(f"mkdir -p {_UNITS}/{unit}.d && printf '%b' '{text}' > {_UNITS}/{unit}.d/quick.conf && systemctl daemon-reload")


def as_before(booth: VirtualBooth, unit: str) -> None:
    booth.run(f"rm -r {_UNITS}/{unit}.d && systemctl daemon-reload")


def goes_back(booth: VirtualBooth, releases: Releases, version: str, reason: str, timeout_s: float = 400) -> None:
    """To the version before, which is online again, as if nothing had been."""
    before = releases.in_use()
    releases.publish(version)
    report = releases.until_phase("rolled-back", version, timeout_s)
    releases.until_online()
    assert (report["from"], report["status"], report["reason"]) == (before, "reverted", reason)
    assert releases.in_use() == before
    assert releases.told(version) == ["staged", "switched", "rolled-back"]
    assert booth.run(_FAILED) == ""
    assert booth.try_run("test -e /var/lib/booth-update/trial")[0] != 0
    assert booth.run("systemctl is-active booth-update-deadline.timer || true") == "inactive\n"
    # It is known, and is not tried again.
    releases.until_last("health/booth", f'"update-failed".*{version}|{version}.*"update-failed"')


def test_what_is_installed_lies_in_a_slot_and_nobody_but_root_can_change_it(installed: VirtualBooth, releases: Releases) -> None:
    assert installed.run("readlink /opt/booth-agent/current /opt/booth-agent/bin") in (
        "slots/a\ncurrent/bin\n",
        "slots/b\ncurrent/bin\n",
    )
    report = json.loads(installed.run(SHOW))["reported"]
    assert report["phase"] == "idle"
    assert releases.in_use() == report["sections"]["agent"]["version"]
    assert installed.run(f"{AS_AGENT} {_WRITABLE}") == ""
    assert installed.try_run(f"{AS_AGENT} ls /var/lib/booth-update")[0] != 0


def test_forms_come_onto_a_booth_that_had_none_and_nothing_is_started_anew(installed: VirtualBooth, releases: Releases) -> None:
    process = installed.run("systemctl show -P MainPID booth-agent")
    releases.publish_forms("/repository/provisioning/forms")
    releases.until_last("update/reported", '"forms":."status":"applied".*"phase":"committed"', 200)
    assert installed.run("systemctl show -P MainPID booth-agent") == process
    catalogue = "cat /var/lib/booth-forms/current/catalogue.json"
    assert installed.run(f"{AS_AGENT} {catalogue}") == installed.run("cat /repository/provisioning/forms/catalogue.json")
    assert installed.run(f"{AS_AGENT} {_WRITABLE}") == ""


def test_a_new_version_takes_over_within_seconds_and_nothing_is_lost(installed: VirtualBooth, releases: Releases) -> None:
    before, link = releases.in_use(), installed.run(_LINK)
    releases.publish("0.2.0")
    report = releases.until_phase("committed", "0.2.0")
    assert (report["from"], report["status"], report["reason"], report["errors"]) == (before, "applied", None, [])
    assert releases.in_use() == "0.2.0"
    assert installed.run(_LINK) != link
    releases.until_last("meta", '"agent":"0.2.0"')
    assert releases.told("0.2.0") == ["staged", "switched", "committed"]
    assert "working" in [light.payload for light in releases.said("led")], "do not unplug"
    # It goes on where the one before stopped.
    events = releases.events()
    assert len({event["stream"] for event in events}) == 1
    numbers = [event["seq"] for event in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    states = releases.said("state")
    last_s = max(said.at_s for said in states if said.json["agent"] == before)
    online_s = min(said.at_s for said in states if said.json["agent"] == "0.2.0" and said.json["state"] == "online")
    silent_s = online_s - last_s
    print(f"\nfrom the last word of {before} to the first of 0.2.0: {silent_s:.1f} s")
    assert silent_s < 60
    assert installed.run(f"{AS_AGENT} {_WRITABLE}") == ""
    assert installed.run("ls /var/lib/booth-agent/downloads /opt/booth-agent/slots | xargs") == (
        "/opt/booth-agent/slots: a b /var/lib/booth-agent/downloads:\n"
    )
    assert installed.run(_FAILED) == ""


def test_a_version_that_crashes_has_three_starts(installed: VirtualBooth, releases: Releases) -> None:
    goes_back(installed, releases, "0.2.1", "does-not-start")
    tried = "journalctl -b -u booth-agent -o cat --no-pager | grep -c 'SystemError: this version is broken'"
    assert installed.run(tried) == "3\n"


@pytest.mark.long
def test_a_version_that_hangs_before_it_is_ready_has_three_starts(installed: VirtualBooth, releases: Releases) -> None:
    quick(installed, "booth-agent.service", "[Service]\\nTimeoutStartSec=45")
    goes_back(installed, releases, "0.2.2", "does-not-start", 600)
    as_before(installed, "booth-agent.service")


@pytest.mark.long
def test_a_version_that_does_not_hear_its_broker_is_taken_back(installed: VirtualBooth, releases: Releases) -> None:
    """It runs, and says so; that alone proves nothing."""
    quick(installed, "booth-update-deadline.timer", "[Timer]\\nOnActiveSec=\\nOnActiveSec=100s")
    goes_back(installed, releases, "0.2.3", "no-round-trip", 600)
    as_before(installed, "booth-update-deadline.timer")


@pytest.mark.long
def test_power_that_is_cut_at_each_step_leaves_one_whole_version_and_the_update_ends_by_itself(
    installed: VirtualBooth, releases: Releases
) -> None:
    before = releases.in_use()
    releases.configure(SLOW)
    installed.run("systemctl restart booth-agent", 90)
    releases.until_online()
    releases.publish("0.3.0", "power-on")

    installed.wait_for("ls /var/lib/booth-agent/downloads/*.part", 120)
    installed.run("sync -f /var/lib/booth-agent")
    cut(installed)
    releases.until_online()
    assert releases.in_use() == before

    releases.configure(FAST)
    installed.run("systemctl restart booth-agent", 90)
    slots = "/opt/booth-agent/slots"
    laid = f"{slots}/$(test $({_LINK}) = slots/a && echo b || echo a)"
    installed.wait_for(f"test -d {slots}/incoming/files && test -d {laid}/lib && test ! -e {laid}/release.json", 200)
    cut(installed)
    releases.until_online()
    assert releases.in_use() == before

    releases.until_phase("waiting-idle", "0.3.0")
    assert releases.in_use() == before, "it waits for the shopkeeper to switch on"
    # The next boot switches; before it can start what it has switched to, the power is cut.
    stuck = "/etc/systemd/system/booth-update-start.service.d"
    installed.run(f"mkdir -p {stuck} && printf '[Service]\\nExecStartPre=/bin/sleep 50\\n' > {stuck}/slow.conf && sync")
    link = installed.run(_LINK).strip()
    cut(installed)
    installed.wait_for(f"test $({_LINK}) != {link}", 200)
    installed.run(f"rm -r {stuck} && sync")
    cut(installed)

    # What is on trial has just started.
    installed.wait_for("test -e /var/lib/booth-update/trial && systemctl show -P MainPID booth-agent | grep -vx 0", 120)
    assert installed.run(_LINK).strip() != link
    cut(installed)
    releases.until_phase("committed", "0.3.0")
    assert releases.in_use() == "0.3.0"
    assert installed.run(_FAILED) == ""
    assert installed.try_run("test -e /var/lib/booth-update/trial")[0] != 0


def cut(booth: VirtualBooth) -> None:
    """The master switch, off and on."""
    booth.cut_power()
    booth.boot()


# --- the agent is taken over ---


@pytest.fixture(scope="module")
def rows(installed: VirtualBooth, releases: Releases) -> list[dict[str, Any]]:
    """Each attempt at what is in use, its outcome, and whether something was gained; with what he has heard."""
    last = releases.said("update/reported")[-1].json["layers"]["booth"]["applied_rev"]
    doc = json.loads(open_envelope(releases.kept()).payload)["doc"]
    section = doc["agent"]
    never = {"agent": section | {"version": NEVER, "artifacts": {"amd64": section["artifacts"]["amd64"] | {"sha256": "0" * 64}}}}
    back = {"agent": never["agent"] | {"version": "0.0.1"}}
    no_address = {
        "agent": {"version": NEVER, "artifacts": {"amd64": section["artifacts"]["amd64"] | {"url": "file:///etc/shadow"}}}
    }
    envelopes = {
        "older": OPERATOR.sign("update", never, last - 1, TOPICS),
        "of-an-unknown-key": OPERATOR.sign("update", never, last + 1, TOPICS, keys=[key("thief")]),
        "that-steps-back-with-one-key": OPERATOR.sign("update", back, last + 1, TOPICS),
        "of-another-booth": OPERATOR.sign("update", never, last + 1, "booth/v1/61/61-0002"),
        "of-the-fleet": OPERATOR.sign("update", never, last + 1, FLEET),
        "a-configuration": OPERATOR.sign("config", {}, last + 1, TOPICS),
        "other-contents-of-a-revision": OPERATOR.sign("update", never, last, TOPICS),
        "of-an-unknown-kind": OPERATOR.sign("update", doc | {"kernel": never["agent"]}, last + 1, TOPICS),
        "with-an-address-that-is-none": OPERATOR.sign("update", no_address, last + 1, TOPICS),
    }
    assert envelopes.keys() == set(FORGED)
    envelopes[WANTED] = OPERATOR.sign("update", never, last + 2, TOPICS)
    for name, envelope in envelopes.items():
        put(installed, f"{ENVELOPES}/{name}", envelope)
    installed.run("systemctl stop booth-agent", 60)
    with taken_over(installed, "update") as found:
        installed.run(f"rm -rf /var/lib/booth-agent {ENVELOPES}")
    return found


def test_whoever_has_the_agent_has_no_other_program_run(rows: list[dict[str, Any]]) -> None:
    table = told(rows)
    print(f"\n{table}")
    assert len(rows) > 60, table
    assert [row for row in rows if row["gained"]] == [], table
    outcomes = {row["attempt"]: row["outcome"].rpartition(": ")[2] for row in rows}
    assert {name: outcomes[f"a release {name.replace('-', ' ')}"] for name in FORGED} == {
        "older": "rollback",
        "of-an-unknown-key": "untrusted-key",
        "that-steps-back-with-one-key": "not-enough-signatures",
        "of-another-booth": "wrong-audience",
        "of-the-fleet": "wrong-audience",
        "a-configuration": "unsupported",
        "other-contents-of-a-revision": "conflict",
        "of-an-unknown-kind": "invalid",
        "with-an-address-that-is-none": "invalid",
    }, table


def test_afterwards_the_same_version_runs_and_root_still_answers(
    installed: VirtualBooth, releases: Releases, rows: list[dict[str, Any]]
) -> None:
    assert rows
    link, before = installed.run(_LINK), json.loads(installed.run("cat /opt/booth-agent/current/release.json"))["version"]
    installed.run("systemctl start booth-agent", 90)
    releases.until_online()
    assert (installed.run(_LINK), releases.in_use()) == (link, before)
    assert installed.run("systemctl is-active booth-update-serve.socket") == "active\n"
    assert installed.run(_FAILED) == ""
