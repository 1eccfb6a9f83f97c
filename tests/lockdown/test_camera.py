"""The rule `camera`: nodes of cameras and microphones that only the agent opens, by udev and as measured on the nodes."""

import errno
import os
import shlex
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.typed import Invalid, build
from agent.lockdown.camera import RULE, Camera
from agent.lockdown.rule import Ended, Place
from agent.privileged.machine import Machine
from tests.machine.namespace import missing_mounts
from tests.privileged.booth import Booth

PLACE = Place()
FILE = "etc/udev/rules.d/72-booth-camera.rules"
NODES = ("dev/video0", "dev/video1", "dev/v4l-subdev0", "dev/snd/pcmC0D0c")
OTHERS = ("dev/snd/pcmC0D0p", "dev/snd/controlC0", "dev/video")
OPEN = Camera(use="visio-sessions", microphone=True)
PARTS = st.builds(Camera, use=st.sampled_from(("denied", "visio-sessions")), microphone=st.booleans())
ALL = [Camera(use, microphone) for use in ("denied", "visio-sessions") for microphone in (False, True)]

AGENT = os.getgid()
# What udev gives by default, for this the group video.
VIDEO = 4242 if os.geteuid() == 0 else next((group for group in os.getgroups() if group != AGENT), None)
# What udev does of it, at each node that was asked for: the file's own group and mode, or for "add" alone its usual ones.
UDEV = """
[ "$1" = trigger ] || exit 0
action=$2
case "$*" in
    *video4linux*) word=video4linux; set -- dev/video[0-9]* dev/v4l-subdev* ;;
    *) word=sound; set -- dev/snd/pcmC*c ;;
esac
if grep -q "SUBSYSTEM==\\"$word\\"" {file} 2>/dev/null; then group={agent}
elif [ "$action" = --action=add ]; then group={video}
else exit 0; fi
for node; do [ -e {root}/"$node" ] && chgrp $group {root}/"$node" && chmod 660 {root}/"$node"; done
exit 0
"""


@pytest.fixture
def booth(tmp_path: Path) -> Booth:
    if VIDEO is None:
        pytest.skip("a user of one group alone cannot give a node to another")
    booth = Booth(tmp_path)
    root = shlex.quote(str(tmp_path))
    booth.program("udevadm", f"cd {root}\n" + UDEV.format(root=root, file=FILE, agent=AGENT, video=VIDEO))
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/group").write_text(f"root:x:0:\nbooth-agent-not:x:1:\nbooth-agent:x:{AGENT}:\nvideo:x:{VIDEO}:\n")
    (tmp_path / "dev/snd").mkdir(parents=True)
    for name in (*NODES, *OTHERS):
        node = tmp_path / name
        node.touch()
        os.chown(node, -1, VIDEO)
        node.chmod(0o660)
    return booth


@pytest.fixture
def machine(booth: Booth) -> Machine:
    return Machine(booth.root)


def agents(machine: Machine) -> set[str]:
    return {name for name in (*NODES, *OTHERS) if machine.path(name).stat().st_gid == AGENT}


@given(PARTS, PARTS, PARTS)
def test_looser_is_a_partial_order_above_the_default(one: Camera, two: Camera, three: Camera) -> None:
    assert not RULE.looser(one, one)
    assert not RULE.looser(one, Camera())
    if not RULE.looser(one, two) and not RULE.looser(two, one):
        assert one == two
    if not RULE.looser(one, two) and not RULE.looser(two, three):
        assert not RULE.looser(one, three)


def test_the_camera_and_the_microphone_loosen_each() -> None:
    assert RULE.looser(Camera(), Camera(use="visio-sessions"))
    assert RULE.looser(Camera(), Camera(microphone=True))
    assert RULE.looser(Camera(use="visio-sessions"), Camera(microphone=True))


@pytest.mark.parametrize(
    ("wrong", "path"), [({"use": "always"}, "camera.use"), ({"microphone": 1}, "camera.microphone"), ({"c": 1}, "camera.c")]
)
def test_a_bad_value_is_refused_where_it_stands(wrong: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as refused:
        build(RULE.schema, wrong, "camera")
    assert [problem.path for problem in refused.value.problems] == [path]


@pytest.mark.parametrize("before", ALL)
@pytest.mark.parametrize("part", ALL)
def test_from_any_state_to_any_other(machine: Machine, before: Camera, part: Camera) -> None:
    RULE.apply(machine, PLACE, before)
    RULE.apply(machine, PLACE, part)
    assert RULE.measure(machine, PLACE, part).state == "compliant"
    cameras = set(NODES[:3]) if part.use == "denied" else set()
    assert agents(machine) == cameras | (set() if part.microphone else {NODES[3]})
    for other in ALL:
        assert (RULE.measure(machine, PLACE, other).state == "compliant") is (other == part)


def test_what_plays_and_what_sets_the_loudness_stays_the_kiosk_s(machine: Machine) -> None:
    RULE.apply(machine, PLACE, Camera())
    assert agents(machine).isdisjoint(OTHERS)


def test_the_second_time_nothing_is_written_or_asked(booth: Booth, machine: Machine) -> None:
    RULE.apply(machine, PLACE, Camera())
    said, before = booth.said, machine.path(FILE).stat()
    assert said == [
        "udevadm control --reload",
        "udevadm trigger --action=change --settle --subsystem-match=video4linux",
        "udevadm trigger --action=change --settle --subsystem-match=sound --sysname-match=pcmC*D*c",
    ]
    RULE.apply(machine, PLACE, Camera())
    assert (booth.said, machine.path(FILE).stat()) == (said, before)


def linked(root: Path) -> None:
    text = (root / FILE).read_text()
    (root / FILE).unlink()
    (root / "elsewhere").write_text(text)
    (root / FILE).symlink_to(root / "elsewhere")


TAMPERING: dict[str, Callable[[Path], object]] = {
    "file edited": lambda root: (root / FILE).write_text("# nothing\n"),
    "file deleted": lambda root: (root / FILE).unlink(),
    "file writable by others": lambda root: (root / FILE).chmod(0o666),
    "file elsewhere": linked,
    "node given away": lambda root: os.chown(root / "dev/video1", -1, VIDEO or 0),
    "node for everybody": lambda root: (root / "dev/video0").chmod(0o666),
    "microphone for everybody": lambda root: (root / "dev/snd/pcmC0D0c").chmod(0o664),
}


@pytest.mark.parametrize("tampering", TAMPERING.values(), ids=TAMPERING.keys())
def test_any_change_is_seen_and_repaired(booth: Booth, machine: Machine, tampering: Callable[[Path], object]) -> None:
    RULE.apply(machine, PLACE, Camera())
    tampering(booth.root)
    assert RULE.measure(machine, PLACE, Camera()).state == "violated"
    RULE.apply(machine, PLACE, Camera())
    assert RULE.measure(machine, PLACE, Camera()).state == "compliant"


def test_what_logind_had_given_to_whoever_sits_there_is_taken_back(machine: Machine) -> None:
    RULE.apply(machine, PLACE, Camera())
    node = machine.path("dev/video0")
    nobody = 2**32 - 1
    entries = [(0x01, 6, nobody), (0x02, 6, 1000), (0x04, 6, nobody), (0x10, 6, nobody), (0x20, 0, nobody)]  # acl(5)
    try:
        os.setxattr(node, "system.posix_acl_access", struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries))
    except OSError as error:
        assert error.errno == errno.EOPNOTSUPP
        pytest.skip("this file system has no access lists")
    measured = RULE.measure(machine, PLACE, Camera())
    assert (measured.state, measured.detail) == ("violated", "/dev/video0 has an access list")
    RULE.apply(machine, PLACE, Camera())
    assert RULE.measure(machine, PLACE, Camera()).state == "compliant"
    assert os.listxattr(node) == []


def test_undone_leaves_no_file_and_gives_the_nodes_back(machine: Machine) -> None:
    RULE.apply(machine, PLACE, Camera())
    RULE.undo(machine, PLACE)
    RULE.undo(machine, PLACE)
    assert agents(machine) == set()
    assert not machine.path(FILE).exists()
    assert RULE.measure(machine, PLACE, OPEN).state == "compliant"


def test_without_the_agent_s_group_nothing_is_denied_in_silence(machine: Machine) -> None:
    machine.path("etc/group").write_text("root:x:0:\n")
    with pytest.raises(Ended, match="no group booth-agent"):
        RULE.apply(machine, PLACE, Camera())
    RULE.apply(machine, PLACE, OPEN)
    assert RULE.measure(machine, PLACE, OPEN).state == "compliant"
    RULE.undo(machine, PLACE)


def test_without_udev_it_does_not_apply(booth: Booth, machine: Machine) -> None:
    (booth.root / "usr/bin/udevadm").unlink()
    RULE.apply(machine, PLACE, Camera())
    measured = RULE.measure(machine, PLACE, Camera())
    assert (measured.state, measured.detail) == ("not-applicable", "udev is not installed")


@pytest.mark.parametrize("part", [Camera(), Camera(use="visio-sessions"), Camera(microphone=True)])
def test_the_real_udev_understands_every_line(booth: Booth, machine: Machine, part: Camera) -> None:
    """In a mount namespace of its own: what `udevadm test` complains of names the file and the line."""
    if reason := missing_mounts():
        pytest.skip(reason)
    assert shutil.which("udevadm"), "apt-get install udev"
    RULE.apply(machine, PLACE, part)

    binds = f"mount --bind {shlex.quote(str(booth.root / 'etc/group'))} /etc/group && mount --bind {{}} /etc/udev/rules.d"

    def said(rules: Path) -> str:
        script = f"{binds.format(shlex.quote(str(rules.parent)))} && exec udevadm test /devices/virtual/mem/null"
        done = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, timeout=30, check=False)
        assert f"Reading rules file: /etc/udev/rules.d/{rules.name}" in done.stderr
        return "\n".join(line for line in done.stderr.splitlines() if f"{rules.name}:" in line)

    assert said(machine.path(FILE)) == ""
    with machine.path(FILE).open("a") as more:
        more.write('NONSENSE="1"\n')
    assert "NONSENSE" in said(machine.path(FILE))
