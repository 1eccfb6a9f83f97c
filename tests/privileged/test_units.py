"""The units around root's acts: each act has its socket and its sandbox, and no crash loop ends in a dead unit."""

import configparser
from pathlib import Path

import pytest

from agent.lockdown import rules
from agent.privileged.acts import ACTS

_OTHERS_FILES = "CAP_DAC_OVERRIDE CAP_FOWNER"
UNITS = Path(__file__).parents[2] / "systemd"


def unit(name: str) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser(delimiters=("=",), comment_prefixes=("#",), strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    with open(UNITS / name, encoding="utf-8") as stream:
        parser.read_file(stream)
    return {section: dict(parser[section]) for section in parser.sections()}


def test_each_act_has_a_socket_and_a_service_and_there_are_no_others() -> None:
    names = {f"booth-act-{act}.socket" for act in ACTS} | {f"booth-act-{act}@.service" for act in ACTS}
    assert {file.name for file in UNITS.glob("booth-act-*") if file.is_file()} == names


@pytest.mark.parametrize("act", ACTS)
def test_its_socket_is_the_agents_alone_and_outlives_a_flood(act: str) -> None:
    socket = unit(f"booth-act-{act}.socket")
    assert socket["Install"] == {"WantedBy": "sockets.target"}
    wanted = {
        "ListenStream": f"/run/booth-acts/{act}.sock",
        "DirectoryMode": "0755",
        "SocketUser": "root",
        # The kiosk's application asks that its own traces be wiped; the agent has no business there.
        "SocketGroup": "booth-session" if act == "wipe-session" else "booth-agent",
        "SocketMode": "0660",
        "Accept": "yes",
        "MaxConnections": "1",
        "TriggerLimitIntervalSec": "0",
    }
    assert wanted.items() <= socket["Socket"].items()


@pytest.mark.parametrize("act", ACTS)
def test_its_service_runs_this_act_and_may_do_no_more_than_it_needs(act: str) -> None:
    service = unit(f"booth-act-{act}@.service")["Service"]
    assert service["ExecStart"] == f"/opt/booth-agent/bin/booth-act {act}"
    if ACTS[act].lasting:
        assert service["StateDirectory"] == "booth-acts"
    else:
        assert service["RuntimeDirectory"] == f"booth-act-limits/{act}"
    capabilities = {"bounce-link": "CAP_NET_ADMIN", "free-disk": _OTHERS_FILES, "wipe-session": _OTHERS_FILES}
    assert service["CapabilityBoundingSet"] == capabilities.get(act, "")
    assert service["PrivateUsers"] == ("no" if act in capabilities else "yes")
    assert service["PrivateNetwork"] == ("no" if "interfaces" in ACTS[act].tables and act != "reboot" else "yes")
    assert service.get("PrivateDevices", "no") == ("no" if act in ("usb-reset", "radio-cycle") else "yes")
    assert service["IPAddressDeny"] == "any"
    assert set(service["RestrictAddressFamilies"].split()) <= {"none", "AF_UNIX", "AF_NETLINK"}
    writes = {
        "usb-rebind": "/sys/bus/usb/drivers",
        "usb-authorize": "/sys/devices",
        "usb-power": "/sys/devices",
        "reload-driver": "/sys/bus",
        "free-disk": "-/var/spool/booth-scans -/var/log/journal -/run/log/journal",
        "wipe-session": "-/home -/srv -/var -/run",
    }
    assert service.get("ReadWritePaths") == writes.get(act)


def test_what_all_of_them_have_in_common_cannot_be_loosened_by_one() -> None:
    """A drop-in comes after the unit, and its plain keys win."""
    common = unit("booth-act-.service.d/common.conf")
    assert common["Service"].items() >= {
        "StandardInput": "socket", "StandardOutput": "socket", "StandardError": "journal", "Slice": "booth-acts.slice",
        "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectKernelTunables": "yes", "MemoryDenyWriteExecute": "yes",
        "RuntimeDirectoryPreserve": "yes",
    }.items()  # fmt: skip
    assert common["Unit"] == {"CollectMode": "inactive-or-failed"}
    for act in ACTS:
        assert not common["Service"].keys() & unit(f"booth-act-{act}@.service")["Service"].keys()


def test_a_flood_costs_little() -> None:
    assert unit("booth-acts.slice")["Slice"].keys() >= {"CPUQuota", "MemoryMax", "TasksMax"}


@pytest.mark.parametrize("name", ["booth-agent", "booth-light", "booth-button"])
def test_a_crash_loop_ends_in_a_slow_retry_not_in_a_dead_unit(name: str) -> None:
    crashing = unit(f"{name}.service")
    assert crashing["Service"]["Restart"] == "always"
    assert crashing["Unit"]["StartLimitIntervalSec"] == "10min"
    assert crashing["Unit"]["OnFailure"] == "booth-retry@%N.timer"
    # Its usual restarts, each a second long, reach the limit within the interval.
    assert int(crashing["Unit"]["StartLimitBurst"]) * (int(crashing["Service"]["RestartSec"]) + 1) < 600
    timer = unit("booth-retry@.timer")["Timer"]
    assert timer["RemainAfterElapse"] == "no", "or it would be tried again only once"
    assert timer["OnActiveSec"] == "10min"


def test_the_boards_watchdog_is_one_that_a_pi_has() -> None:
    manager = unit("booth-watchdog.conf")["Manager"]
    assert int(manager["RuntimeWatchdogSec"].removesuffix("s")) <= 15


def test_every_file_that_a_rule_watches_is_watched() -> None:
    text = (UNITS / "booth-lockdown-check.path").read_text()
    watched = {line.removeprefix("PathChanged=/") for line in text.splitlines() if line.startswith("PathChanged=")}
    assert watched == {name for rule in rules().values() for name in rule.watched}


def test_most_of_the_boot_does_not_wait_for_the_policy() -> None:
    """basic.target waits for every path unit that does not say otherwise, and this one waits for the policy: whatever a rule asks
    D-Bus, or cupsd, would then wait for the rule."""
    path = unit("booth-lockdown-check.path")
    assert "booth-lockdown-apply.service" in path["Unit"]["After"]
    assert path["Unit"]["DefaultDependencies"] == "no"
    assert path["Install"]["WantedBy"] == "multi-user.target"


def test_at_boot_the_policy_is_not_held_back_by_what_a_flood_may_cost() -> None:
    assert unit("booth-lockdown-.service.d/common.conf")["Service"]["Slice"] == "booth-acts.slice"
    assert unit("booth-lockdown-apply.service.d/slice.conf")["Service"] == {"Slice": "system.slice"}


def test_the_sandbox_shows_what_the_rules_look_at_and_lets_nothing_else_be_written() -> None:
    text = (UNITS / "booth-lockdown-.service.d/common.conf").read_text()
    assert "\nProtectKernelModules=" not in text, "modinfo could not tell a network adapter from other devices"
    assert "\nReadWritePaths=-/sys/devices -/sys/bus/usb -/proc/sys/kernel/sysrq\n" in text


def test_the_policy_is_applied_before_anybody_comes() -> None:
    before = unit("booth-lockdown-apply.service")["Unit"]["Before"].split()
    # Where nothing brings a network up, network.target is nowhere, and only the sessions keep a kiosk back.
    comers = {"network-pre.target", "systemd-user-sessions.service", "display-manager.service", "booth-agent.service"}
    assert comers <= set(before)
