"""Installing again changes nothing, and removing leaves nothing. The last of all."""

import pytest

from tests.virtual_booth.booth import VirtualBooth
from tests.virtual_booth.inside import FILES, SLOW
from tests.virtual_booth.policies import LOCKS, UNLOCKED

_BEFORE = "/var/lib/files-before"
_INSTALL = "make -C /repository install WHEELS=/opt/wheels"
# What tests and a running system have left there, on their own.
_OTHERS = r"^/\(etc/cups\|var/spool\|var/lib/systemd\|var/lib/private\|var/backups\)\(/\|$\)"


def files(booth: VirtualBooth) -> set[str]:
    return set(booth.run(f"{FILES} | grep -v '{_OTHERS}'").splitlines())


def test_installing_again_lays_the_other_slot_and_changes_no_other_file(installed: VirtualBooth) -> None:
    before_link = installed.run("readlink /opt/booth-agent/current")
    configuration = "cat /etc/booth-agent/*.toml; stat -c '%n %U %G %a' /etc/booth-agent /etc/booth-agent/*"
    before, configured = files(installed), installed.run(configuration)
    installed.run(_INSTALL, timeout_s=400)
    changed = {file for file in files(installed) ^ before if not file.startswith("/opt/booth-agent/slots/")}
    assert changed == {"/etc/systemd/system/multi-user.target.wants/booth-agent.service"}
    assert installed.run("readlink /opt/booth-agent/current") != before_link
    installed.run("test -x /opt/booth-agent/slots/a/bin/booth-agent && test -x /opt/booth-agent/slots/b/bin/booth-agent")
    assert installed.run(configuration) == configured
    others = "find /opt/booth-agent /etc/booth-agent /etc/systemd/system ! -type l ( ! -user root -o -perm /022 )"
    assert installed.run(others.replace("(", r"\(").replace(")", r"\)")) == ""


@pytest.fixture(scope="module")
def locked(installed: VirtualBooth) -> str:
    """What of the policy is on the machine, which then is removed."""
    installed.run("systemctl restart booth-lockdown-apply.service", timeout_s=120)
    installed.run("systemctl start booth-lockdown-check.path booth-lockdown-check.timer booth-lockdown-serve.socket")
    locked = installed.run(LOCKS)
    installed.run(f"rm -r {SLOW}")
    installed.run("make -C /repository uninstall", timeout_s=120)
    return locked


def test_removing_takes_every_rule_of_the_policy_off_the_machine(installed: VirtualBooth, locked: str) -> None:
    assert "table inet booth\n" in locked
    assert "/etc/systemd/system.control/getty@.service\n" in locked
    assert "sysrq 0\n" in locked
    assert installed.run(LOCKS) == UNLOCKED
    assert installed.run("systemctl is-enabled getty@.service").strip() != "masked"
    assert "booth agent" not in installed.run("cat /etc/cups/cupsd.conf /etc/cups/cups-files.conf")


@pytest.mark.usefixtures("locked")
def test_removing_leaves_nothing(installed: VirtualBooth) -> None:
    before = set(installed.run(f"grep -v '{_OTHERS}' {_BEFORE}").splitlines())
    assert files(installed) ^ before == set()
    assert installed.run("getent passwd booth-agent; getent group booth-agent booth-session; true") == ""
    assert installed.run("systemctl list-units --all --plain --no-legend 'booth-*'") == ""
    assert installed.run("ls -d /run/booth-* 2> /dev/null || true") == ""
