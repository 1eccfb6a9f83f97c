"""Consoles: what is masked, what is stopped, and when SSH may be open. That an empty unit file masks is asked of systemd."""

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.contract.typed import Invalid, build
from agent.lockdown.consoles import RULE, Consoles, Window, looser
from agent.lockdown.rule import COMPLIANT, Place
from agent.privileged.machine import Machine
from tests.privileged.booth import Booth

MASKS = "etc/systemd/system.control"
SYSRQ = "proc/sys/kernel/sysrq"
SESSIONS = "run/systemd/sessions"
VISIT = {"from": "2026-12-07T09:00:00.000Z", "until": "2026-12-07T11:00:00.000Z"}
FREE = {"getty": True, "sysrq": True, "ctrl_alt_del": True}

windows = st.builds(lambda begin, length: Window(stamp(begin), stamp(begin + length)), st.integers(0, 48), st.integers(1, 24))
sections = st.builds(Consoles, st.booleans(), st.lists(windows, max_size=4), st.booleans(), st.booleans())


def stamp(hour: int) -> str:
    return f"{datetime(2026, 12, 7, tzinfo=UTC) + timedelta(hours=hour):%Y-%m-%dT%H:%M:%S.000Z}"


class Consoled(Booth):
    """Its systemd is a folder of units that run, its logind one of sessions."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.running, self.sessions, installed = root / "running", root / SESSIONS, root / "usr/lib/systemd/system"
        for folder in (self.running, self.sessions, installed, root / "proc/sys/kernel"):
            folder.mkdir(parents=True)
        (root / SYSRQ).write_text("438\n")
        self.program(
            "systemctl",
            f"""while [ "${{1#--no-}}" != "$1" ]; do shift; done
            verb=$1; shift
            case "$verb" in
                list-units) cd {self.running}; for unit; do ls -d $unit 2>/dev/null; done; exit 0;;
                stop) rm -f {self.running}/"$1";;
                start) touch {self.running}/"$1";;
                is-enabled) cat {installed}/"$1" 2>/dev/null;;
                show) grep -qs none {root}/etc/systemd/system.conf.d/60-booth.conf && echo none || echo reboot-force;;
            esac""",
        )
        self.program(
            "loginctl",
            f"""cd {self.sessions}
            case "$*" in
                *list-sessions) for each in *; do [ -e "$each" ] && echo "$each 1000 booth seat0"; done; exit 0;;
                show-session*) cat "$2";;
                *terminate-session*) rm "$3";;
            esac""",
        )

    def install(self, unit: str, state: str = "enabled") -> None:
        (self.root / "usr/lib/systemd/system" / unit).write_text(f"{state}\n")

    def runs(self) -> set[str]:
        return {file.name for file in self.running.iterdir()}

    def changes(self) -> list[str]:
        looks = ("list-units", "show", "list-sessions", "is-enabled")
        return [line for line in self.said if not any(look in line for look in looks)]


@pytest.fixture
def booth(tmp_path: Path) -> Consoled:
    return Consoled(tmp_path)


def policy(**section: Any) -> Consoles:
    return build(Consoles, section)


def at(utc: str | None, **other: Any) -> Place:
    """In Paris, in winter."""
    if utc is None:
        return Place(**other)
    now = datetime.fromisoformat(utc)
    return Place(now=now.replace(tzinfo=None) + timedelta(hours=1), now_utc=now, **other)


BEFORE, IN_IT, AFTER = at("2026-12-07T08:59:59Z"), at("2026-12-07T09:00:00Z"), at("2026-12-07T11:00:00Z")


@pytest.mark.parametrize(
    ("section", "path"),
    [
        ({"getty": 1}, "getty"),
        ({"ssh": [VISIT, VISIT | {"until": "2026-12-08T09:00:00.001Z"}]}, "ssh[1]"),
        ({"ssh": [VISIT | {"until": VISIT["from"]}]}, "ssh[0]"),
        ({"ssh": [VISIT | {"from": "2026-02-30T09:00:00.000Z"}]}, "ssh[0]"),
        ({"ssh": [VISIT | {"from": "2026-12-07 09:00"}]}, "ssh[0].from"),
        ({"ssh": [{"from": VISIT["from"]}]}, "ssh[0].until"),
        ({"ssh": [VISIT] * 17}, "ssh"),
        ({"rescue": True}, "rescue"),
    ],
)
def test_what_may_not_be_written_is_refused_where_it_stands(section: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as refused:
        policy(**section)
    assert [problem.path for problem in refused.value.problems] == [path]


def test_a_window_may_last_a_day() -> None:
    assert policy(ssh=[VISIT | {"until": "2026-12-08T09:00:00.000Z"}]).ssh[0].end == "2026-12-08T09:00:00.000Z"


# --- what is looser ---


@settings(deadline=None)
@given(sections)
def test_nothing_is_looser_than_itself_and_the_default_is_not_looser_than_anything(part: Consoles) -> None:
    assert not looser(part, part)
    assert not looser(part, Consoles())


@settings(deadline=None)
@given(sections, sections, sections)
def test_not_looser_is_transitive(one: Consoles, two: Consoles, three: Consoles) -> None:
    if not looser(one, two) and not looser(two, three):
        assert not looser(one, three)


@settings(deadline=None)
@given(sections, sections)
def test_looser_is_what_allows_anything_that_the_other_does_not(one: Consoles, other: Consoles) -> None:
    assert looser(one, other) == (not allows(other) <= allows(one))


def allows(part: Consoles) -> set[str]:
    found = {name for name in ("getty", "sysrq", "ctrl_alt_del") if getattr(part, name)}
    moments = map(stamp, range(73))
    return found | {moment for moment in moments if any(window.begin <= moment < window.end for window in part.ssh)}


# --- on the machine ---


def test_the_most_locked_is_masked_stopped_and_switched_off(booth: Consoled) -> None:
    machine = Machine(booth.root)
    for unit in (
        "getty@tty1.service",
        "getty@tty12.service",
        "serial-getty@ttyUSB0.service",
        "ssh.service",
        "booth-kiosk.service",
    ):
        (booth.running / unit).touch()
    assert RULE.measure(machine, BEFORE, Consoles()).state == "violated"
    RULE.apply(machine, BEFORE, Consoles())
    assert RULE.measure(machine, BEFORE, Consoles()) == COMPLIANT
    assert booth.runs() == {"booth-kiosk.service"}
    assert (booth.root / SYSRQ).read_text() == "0"
    assert "kernel.sysrq = 0" in (booth.root / "etc/sysctl.d/60-booth.conf").read_text()
    assert (booth.root / "etc/systemd/logind.conf.d/60-booth.conf").read_text() == "[Login]\nNAutoVTs=0\nReserveVT=0\n"
    assert "systemctl --no-ask-password kill ssh.service" in booth.said  # its connections too
    changes = booth.changes()
    assert changes.count("systemctl --no-ask-password daemon-reload") == 1
    RULE.apply(machine, BEFORE, Consoles())
    assert booth.changes() == changes


def test_systemd_itself_takes_all_of_them_for_masked(booth: Consoled) -> None:
    assert shutil.which("systemctl"), "systemctl is missing (apt-get install systemd)"
    RULE.apply(Machine(booth.root), BEFORE, Consoles())
    library = booth.root / "usr/lib/systemd/system"
    (booth.root / "lib").symlink_to("usr/lib")
    service = "[Service]\nExecStart=/bin/true\n[Install]\nAlias=sshd.service\n"
    for unit in ("getty@.service", "serial-getty@.service", "debug-shell.service", "ssh.service", "ssh.socket", "other.service"):
        (library / unit).write_text(service)
    (library / "ctrl-alt-del.target").write_text("[Unit]\n")
    (library / "autovt@.service").symlink_to("getty@.service")
    (booth.root / "etc/systemd/system").mkdir()
    (booth.root / "etc/systemd/system/getty@tty1.service").write_text(service)  # an instance's own file
    (booth.root / "etc/systemd/system/sshd.service").symlink_to("/lib/systemd/system/ssh.service")

    def states(*units: str) -> dict[str, str]:
        asked = {unit: ["systemctl", f"--root={booth.root}", "is-enabled", unit] for unit in units}
        return {
            unit: subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout.strip()
            for unit, command in asked.items()
        }

    masked = (
        *("getty@tty1.service", "getty@tty9.service", "autovt@tty2.service", "serial-getty@ttyAMA0.service"),
        *(
            "serial-getty@ttyUSB3.service",
            "debug-shell.service",
            "ssh.service",
            "sshd.service",
            "ssh.socket",
            "ctrl-alt-del.target",
        ),
    )
    assert states(*masked) == dict.fromkeys(masked, "masked")
    assert states("other.service") != {"other.service": "masked"}
    RULE.undo(Machine(booth.root), BEFORE)
    assert "masked" not in states(*masked).values()


def test_ssh_runs_in_its_window_and_at_no_other_time(booth: Consoled) -> None:
    machine, part = Machine(booth.root), policy(ssh=[VISIT])
    booth.install("ssh.service")
    booth.install("ssh.socket", "disabled")
    RULE.apply(machine, BEFORE, part)
    assert booth.runs() == set()
    assert RULE.measure(machine, IN_IT, part).state == "violated"
    RULE.apply(machine, IN_IT, part)
    assert booth.runs() == {"ssh.service"}
    assert RULE.measure(machine, IN_IT, part) == COMPLIANT
    changes = booth.changes()
    RULE.apply(machine, IN_IT, part)
    assert booth.changes() == changes
    assert RULE.measure(machine, AFTER, part).state == "violated"
    RULE.apply(machine, AFTER, part)
    assert booth.runs() == set()
    assert RULE.measure(machine, AFTER, part) == COMPLIANT


@pytest.mark.parametrize(
    ("installed", "started"),
    [
        ({}, set()),
        ({"ssh.service": "disabled", "ssh.socket": "disabled"}, {"ssh.service"}),
        ({"ssh.service": "disabled", "ssh.socket": "enabled"}, {"ssh.socket"}),
    ],
)
def test_in_its_window_ssh_runs_as_it_is_installed(booth: Consoled, installed: dict[str, str], started: set[str]) -> None:
    for unit, state in installed.items():
        booth.install(unit, state)
    RULE.apply(Machine(booth.root), IN_IT, policy(ssh=[VISIT]))
    assert booth.runs() == started


def test_at_boot_nothing_waits_for_a_logind_that_has_no_session(booth: Consoled) -> None:
    RULE.apply(Machine(booth.root), AFTER, policy())
    assert RULE.measure(Machine(booth.root), AFTER, policy()) == COMPLIANT
    assert not [line for line in booth.said if line.startswith("loginctl")]


def test_when_the_window_ends_its_sessions_end_and_no_other(booth: Consoled) -> None:
    machine = Machine(booth.root)
    for name, service, state in (
        ("1", "sshd", "active"),
        ("2", "cage", "active"),
        ("3", "login", "active"),
        ("4", "sshd", "closing"),
    ):
        (booth.sessions / name).write_text(f"Service={service}\nState={state}\n")
    RULE.apply(machine, IN_IT, policy(ssh=[VISIT]))
    assert RULE.measure(machine, IN_IT, policy(ssh=[VISIT])) == COMPLIANT
    RULE.apply(machine, AFTER, policy(ssh=[VISIT]))
    assert {file.name for file in booth.sessions.iterdir()} == {"2", "3", "4"}
    assert RULE.measure(machine, AFTER, policy(ssh=[VISIT])) == COMPLIANT
    (booth.sessions / "5").write_text("State=active\nService=sshd\n")
    assert RULE.measure(machine, AFTER, policy(ssh=[VISIT])).detail == "a session by SSH is open"


def test_while_the_clock_is_not_known_ssh_is_closed(booth: Consoled) -> None:
    booth.install("ssh.service")
    RULE.apply(Machine(booth.root), at(None), policy(ssh=[VISIT]))
    assert booth.runs() == set()
    assert RULE.next_change(at(None), policy(ssh=[VISIT])) is None


def test_the_next_change_is_the_next_boundary_in_local_time() -> None:
    later = {"from": "2026-12-07T11:00:00.000Z", "until": "2026-12-07T12:00:00.000Z"}
    part = policy(ssh=[later, VISIT])  # the one goes over into the other
    found = [RULE.next_change(place, part) for place in (BEFORE, IN_IT, AFTER, at("2026-12-07T12:00:00Z"))]
    assert found == [
        datetime.fromisoformat(text) if text else None for text in ("2026-12-07T10:00", *["2026-12-07T13:00"] * 2, "")
    ]


@pytest.mark.parametrize(
    "meddle",
    [
        lambda booth: (booth.root / MASKS / "getty@.service").unlink(),
        lambda booth: (booth.root / MASKS / "ssh.socket").write_text("[Socket]\nListenStream=22\n"),
        lambda booth: (booth.root / MASKS / "ctrl-alt-del.target").unlink(),
        lambda booth: [
            (booth.root / MASKS / "ssh.service").unlink(),
            (booth.root / MASKS / "ssh.service").symlink_to("/etc/motd"),
        ],
        lambda booth: (booth.root / "etc/systemd/logind.conf.d/60-booth.conf").write_text("[Login]\nNAutoVTs=6\n"),
        lambda booth: (booth.root / "etc/systemd/system.conf.d/60-booth.conf").unlink(),
        lambda booth: (booth.root / "etc/sysctl.d/60-booth.conf").write_text("kernel.sysrq = 1\n"),
        lambda booth: (booth.root / SYSRQ).write_text("1\n"),
        lambda booth: (booth.running / "getty@tty2.service").touch(),
        lambda booth: (booth.running / "debug-shell.service").touch(),
        lambda booth: (booth.running / "ssh@0-192.0.2.1:22-192.0.2.9:4000.service").touch(),
    ],
)
def test_what_was_changed_by_hand_is_a_violation_and_is_repaired(booth: Consoled, meddle: Any) -> None:
    machine = Machine(booth.root)
    RULE.apply(machine, BEFORE, Consoles())
    meddle(booth)
    assert RULE.measure(machine, BEFORE, Consoles()).state == "violated"
    RULE.apply(machine, BEFORE, Consoles())
    assert RULE.measure(machine, BEFORE, Consoles()) == COMPLIANT


def test_another_drop_in_that_makes_ctrl_alt_del_reboot_is_seen(booth: Consoled) -> None:
    machine = Machine(booth.root)
    RULE.apply(machine, BEFORE, Consoles())
    booth.program("systemctl", '[ "$1" != show ] || echo poweroff-force')
    assert RULE.measure(machine, BEFORE, Consoles()).detail == "Ctrl-Alt-Del, pressed seven times, means poweroff-force"


def test_a_kiosk_that_is_a_login_of_its_own_goes_on(booth: Consoled) -> None:
    machine, place = Machine(booth.root), at("2026-12-07T08:00:00Z", units={"kiosk": "getty@tty1.service"})
    for number in (1, 2):
        (booth.running / f"getty@tty{number}.service").touch()
    RULE.apply(machine, place, Consoles())
    assert booth.runs() == {"getty@tty1.service"}
    assert RULE.measure(machine, place, Consoles()) == COMPLIANT


def test_what_is_allowed_is_as_the_system_has_it(booth: Consoled) -> None:
    machine, part = Machine(booth.root), policy(**FREE)
    RULE.apply(machine, BEFORE, Consoles())
    RULE.apply(machine, BEFORE, part)
    assert RULE.measure(machine, BEFORE, part) == COMPLIANT
    assert {file.name.partition(".")[0] for file in (booth.root / MASKS).iterdir()} <= {
        *("ssh", "ssh@", "sshd", "sshd@", "sshd-unix-local", "sshd-vsock", "dropbear")
    }
    assert (booth.root / SYSRQ).read_text() == "438"
    assert "systemctl --no-ask-password --no-block start getty.target" in booth.said


def test_without_systemctl_the_files_count(booth: Consoled) -> None:
    machine = Machine(booth.root)
    (booth.root / "usr/bin/systemctl").unlink()
    RULE.apply(machine, BEFORE, Consoles())
    assert RULE.measure(machine, BEFORE, Consoles()) == COMPLIANT
    (booth.root / MASKS / "getty@.service").unlink()
    assert RULE.measure(machine, BEFORE, Consoles()).detail == "getty@.service is not masked"


def test_a_kernel_without_sysrq_has_nothing_to_switch_off(booth: Consoled) -> None:
    (booth.root / SYSRQ).unlink()
    RULE.apply(Machine(booth.root), BEFORE, Consoles())
    assert RULE.measure(Machine(booth.root), BEFORE, Consoles()) == COMPLIANT
    assert not (booth.root / SYSRQ).exists()


def test_undo_leaves_nothing(booth: Consoled) -> None:
    machine = Machine(booth.root)
    booth.install("ssh.service")
    (booth.root / "etc").mkdir()
    RULE.apply(machine, BEFORE, Consoles())
    RULE.undo(machine, BEFORE)
    assert not [file for file in (booth.root / "etc").rglob("*") if not file.is_dir()]
    assert (booth.root / SYSRQ).read_text() == "438"
    assert "ssh.service" in booth.runs()
    changes = booth.changes()
    RULE.undo(machine, BEFORE)
    assert booth.changes() == changes


def test_a_window_in_the_last_hours_of_the_calendar_stops_nobody() -> None:
    last = {"from": "9999-12-31T20:00:00.000Z", "until": "9999-12-31T23:30:00.000Z"}
    part = build(Consoles, {"ssh": [last]})
    assert not looser(part, part)
    evening = datetime(9999, 12, 31, 21, tzinfo=UTC)
    paris = Place(now=datetime(9999, 12, 31, 22), now_utc=evening)  # noqa: DTZ001 - local
    assert RULE.next_change(paris, part) is None
    with pytest.raises(Invalid):
        build(Consoles, {"ssh": [last | {"from": "9999-12-30T20:00:00.000Z"}]})
