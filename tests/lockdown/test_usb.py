"""The rule `usb`: what is allowed where, on the kernel's files below a temporary folder. What the kernel does is played here."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.typed import Invalid, build
from agent.lockdown import usb
from agent.lockdown.rule import COMPLIANT, Place
from agent.lockdown.usb import RULE, Class, Usb
from agent.privileged.machine import Machine
from tests.privileged.booth import Booth

RULES = "etc/udev/rules.d/60-booth-usb.rules"
MODULES = "etc/modprobe.d/booth-usb.conf"
PLACE = Place(usb={"scanner": "usb-1.2", "document-printer": "usb-1.3", "touch-screen": "usb-1.4"})
NO_TOUCH = Place(usb={"scanner": "usb-1.2"})

WORDS = st.lists(st.sampled_from(get_args(Class)), max_size=4).map(tuple)
POLICIES = st.builds(Usb, WORDS, st.dictionaries(st.sampled_from(["scanner", "document-printer", "camera"]), WORDS))


@pytest.fixture
def booth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Booth:
    booth = Booth(tmp_path)
    booth.program("udevadm")
    (tmp_path / "sys/bus/usb/drivers_probe").touch()
    write = usb._write

    def kernel(file: Path, text: str) -> None:
        write(file, text)
        if file.name == "authorized" and text == "0" and (file.parent / "driver").is_symlink():
            (file.parent / "driver").unlink()

    monkeypatch.setattr(usb, "_write", kernel)
    return booth


def plug(booth: Booth, path: str, *interfaces: str | tuple[str, str | None], below: str | None = None) -> list[Path]:
    """Interfaces as `08` or `02/06/00`, each with its driver if it has one. Returns their folders."""
    pairs = [item if isinstance(item, tuple) else (item, None) for item in interfaces]
    device = booth.plug(path, {}, below=below)
    made = []
    for index, (kind, driver) in enumerate(pairs):
        face = device / f"{path}:1.{index}"
        face.mkdir()
        triple = [*kind.split("/"), "00", "00"][:3]
        for name, text in zip(("Class", "SubClass", "Protocol"), triple, strict=True):
            (face / f"bInterface{name}").write_text(f"{text}\n")
        (face / "authorized").write_text("1\n")
        if driver is not None:
            (face / "driver").symlink_to(booth.driver(driver))
        if below is not None:
            (face / below).mkdir()
        made.append(face)
    return made


def authorized(face: Path) -> bool:
    return (face / "authorized").read_text().strip()[:1] == "1"


def settle(booth: Booth, policy: Usb, place: Place = PLACE) -> None:
    RULE.apply(Machine(booth.root), place, policy)
    assert RULE.measure(Machine(booth.root), place, policy) == COMPLIANT


def files(root: Path) -> dict[str, Any]:
    return {str(file): (file.stat().st_mtime_ns, file.stat().st_ino) for file in root.rglob("*") if file.is_file()}


# --- the order ---


@given(POLICIES, POLICIES, POLICIES)
def test_the_order(one: Usb, two: Usb, three: Usb) -> None:
    assert not RULE.looser(one, one)
    assert not RULE.looser(one, Usb()), "nothing is as locked as what is written nowhere"
    if not RULE.looser(one, two) and not RULE.looser(two, three):
        assert not RULE.looser(one, three)
    if not RULE.looser(one, two) and not RULE.looser(two, one):
        assert usb._rules(PLACE, one) == usb._rules(PLACE, two), "the same in effect"


@given(POLICIES, st.sampled_from(get_args(Class)))
def test_a_class_more_is_looser_unless_it_was_allowed_by_another_name(policy: Usb, word: Class) -> None:
    more = dataclasses.replace(policy, classes=(*policy.classes, word))
    assert RULE.looser(policy, more) is not (usb._codes((word,)) <= usb._codes(policy.classes))
    assert not RULE.looser(more, policy)


def test_what_is_allowed_everywhere_is_allowed_at_a_port() -> None:
    assert not RULE.looser(Usb(classes=("printer",)), Usb(slots={"document-printer": ("printer",)}))
    assert RULE.looser(Usb(slots={"document-printer": ("printer",)}), Usb(classes=("printer",)))
    assert RULE.looser(Usb(slots={"scanner": ("printer",)}), Usb(slots={"document-printer": ("printer",)}))


@pytest.mark.parametrize(
    ("section", "path"),
    [
        ({"classes": ["floppy"]}, "classes[0]"),
        ({"classes": "storage"}, "classes"),
        ({"slots": {"Printer": ["printer"]}}, "slots"),
        ({"slots": {"printer": ["printer", "08"]}}, "slots.printer[1]"),
        ({"slots": {f"p{number}": [] for number in range(33)}}, "slots"),
        ({"devices": []}, "devices"),
    ],
)
def test_what_may_not_be_written(section: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as refused:
        build(Usb, section)
    assert [problem.path for problem in refused.value.problems] == [path]


# --- what is plugged in ---


@pytest.mark.parametrize("kind", ["08/06/50", "07", "06", "0e", "01", "03", "02/02/00", "0b", "e0/01/01", "fe", "ff", "58"])
def test_with_no_word_in_the_policy_nothing_gets_a_driver(booth: Booth, kind: str) -> None:
    (face,) = plug(booth, "1-1.1", (kind, "some"))
    settle(booth, Usb())
    assert not authorized(face)


@pytest.mark.parametrize("kind", ["09", "0a", "02/06/00", "02/0d/00", "02/0e/00", "02/02/01", "02/02/ff", "e0/01/03", "ef/04/01"])
def test_hubs_and_networks_are_never_locked_out(booth: Booth, kind: str) -> None:
    (face,) = plug(booth, "1-1.1", kind)
    (face / "authorized").write_text("0")
    settle(booth, Usb())
    assert authorized(face)


@pytest.mark.parametrize("below", ["net", "ieee80211", "wwan"])
def test_an_adapter_of_its_makers_class_is_a_network_by_what_the_kernel_made_of_it(booth: Booth, below: str) -> None:
    (face,) = plug(booth, "1-1.1", ("ff", "r8152"), below=below)
    settle(booth, Usb())
    assert authorized(face)


@pytest.mark.parametrize(
    ("answer", "spared"),
    [
        ("-n) echo /lib/modules/6.1/kernel/drivers/net/usb/r8152.ko ;;", True),
        ("-n) echo '(builtin)' ;; -F) echo drivers/net/usb/smsc95xx ;;", True),
        ("-n) echo /lib/modules/6.1/kernel/drivers/usb/serial/ftdi_sio.ko ;;", False),
        ("-n) exit 1 ;;", False),
    ],
)
def test_or_by_the_driver_that_it_will_have(booth: Booth, answer: str, spared: bool) -> None:
    booth.program("modinfo", f'case "$1" in {answer} esac')
    (face,) = plug(booth, "1-1.1", "ff")
    (face / "modalias").write_text("usb:v0BDAp8152d2000dc00dsc00dp00icFFiscFFip00in00\n")
    settle(booth, Usb())
    assert authorized(face) is spared


def test_the_card_reader_of_a_scanner_is_locked_and_the_scanner_scans(booth: Booth) -> None:
    scan, card = plug(booth, "1-1.2", ("ff", "usbfs"), ("08/06/50", "usb-storage"))
    settle(booth, Usb(slots={"scanner": ("scanner",)}))
    assert (authorized(scan), authorized(card)) == (True, False)
    assert not (card / "driver").exists()


@pytest.mark.parametrize("path", ["1-1.3", "1-1.2.1", "1-1", "1-11.2", "1-2"])
def test_a_port_is_that_port_whatever_the_bus(booth: Booth, path: str) -> None:
    policy = Usb(slots={"scanner": ("scanner",)})
    (elsewhere,), (here,) = plug(booth, path, "06"), plug(booth, "3-1.2", "06")
    settle(booth, policy)
    assert (authorized(elsewhere), authorized(here)) == (False, True)


@pytest.mark.parametrize("driver", ["usb-storage", "uas", "ums-realtek"])
def test_a_disk_that_says_it_is_something_else_is_locked(booth: Booth, driver: str) -> None:
    (face,) = plug(booth, "1-1.2", ("ff", driver))
    (face / "modalias").write_text("usb:v0BC2p3320d0100dc00dsc00dp00icFFisc06ip50in00\n")
    booth.program("modinfo", f'[ "$1" != -n ] || echo /lib/modules/6.1/kernel/drivers/usb/storage/{driver}.ko')
    settle(booth, Usb(classes=("vendor",)))
    assert not authorized(face)
    settle(booth, Usb(classes=("vendor", "storage")))
    assert authorized(face)


def test_a_touch_screen_with_a_place_of_its_own_is_the_only_pointer(booth: Booth) -> None:
    (screen,), (keyboard,) = plug(booth, "1-1.4", "03"), plug(booth, "1-1.1", "03/01/01")
    settle(booth, Usb())
    assert (authorized(screen), authorized(keyboard)) == (True, False)
    settle(booth, Usb(classes=("hid",)))
    assert authorized(keyboard)


def test_without_such_a_place_any_pointer_may_be_the_screen(booth: Booth) -> None:
    (face,) = plug(booth, "1-1.1", "03")
    (face / "authorized").write_text("0")
    settle(booth, Usb(), NO_TOUCH)
    assert authorized(face)


def mounted(booth: Booth, *lines: str) -> None:
    file = booth.root / "proc/self/mountinfo"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize(
    "mount",
    [
        "21 1 8:2 / / rw - ext4 /dev/sda2 rw",
        "21 1 0:99 / / rw - btrfs /dev/sda2 rw",  # no device number of its own
        "21 1 253:0 / / rw - ext4 /dev/mapper/root rw",
        "21 1 8:2 / /media/root-ro ro - ext4 /dev/root ro",
        "21 1 8:2 / /boot/firmware rw - vfat /dev/sda1 rw",
    ],
)
def test_the_disk_that_the_system_runs_from_is_never_locked_out(booth: Booth, mount: str) -> None:
    (system,), (stick,) = plug(booth, "1-1.1", ("08", "usb-storage")), plug(booth, "1-1.2", ("08", "usb-storage"))
    partition = system / "host0/target0/block/sda/sda2"
    mapped = booth.root / "sys/devices/virtual/block/dm-0"
    partition.mkdir(parents=True)
    (mapped / "slaves").mkdir(parents=True)
    (mapped / "slaves/sda2").symlink_to(partition)
    for name, target in (("dev/block/8:2", partition), ("dev/block/253:0", mapped), ("class/block/sda2", partition)):
        link = booth.root / "sys" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    mounted(booth, "20 1 0:5 / /dev rw - devtmpfs udev rw", mount)
    settle(booth, Usb())
    assert (authorized(system), authorized(stick)) == (True, False)
    assert not (booth.root / MODULES).exists(), "the system's disk needs the module"
    mounted(booth, "21 1 8:2 / /media/somebody/STICK rw - vfat /dev/sda2 rw")
    settle(booth, Usb())
    assert not authorized(system)


def test_what_is_allowed_again_is_authorized_and_probed(booth: Booth) -> None:
    (face,) = plug(booth, "1-1.3", ("07", "usblp"))
    settle(booth, Usb())
    settle(booth, Usb(slots={"document-printer": ("printer",)}))
    assert authorized(face)
    assert (booth.root / "sys/bus/usb/drivers_probe").read_text() == "1-1.3:1.0"


def test_a_device_that_was_locked_as_a_whole_is_judged_by_its_interfaces(booth: Booth) -> None:
    (face,) = plug(booth, "1-1.3", "07")
    (face.parent / "authorized").write_text("0")
    measured = RULE.measure(Machine(booth.root), PLACE, Usb())
    assert measured.state == "violated"
    settle(booth, Usb())
    assert (authorized(face.parent), authorized(face)) == (True, False)


# --- the files ---


def test_the_module_is_kept_away_where_no_disk_is_allowed(booth: Booth) -> None:
    settle(booth, Usb())
    assert "install usb-storage /bin/false\ninstall uas /bin/false\n" in (booth.root / MODULES).read_text()
    settle(booth, Usb(slots={"scanner": ("storage",)}))
    assert not (booth.root / MODULES).exists()


def test_twice_is_once(booth: Booth) -> None:
    plug(booth, "1-1.1", ("08", "usb-storage"))
    plug(booth, "1-1.4", "03")
    settle(booth, Usb())
    before, said = files(booth.root), booth.said
    RULE.apply(Machine(booth.root), PLACE, Usb())
    assert (files(booth.root), booth.said) == (before, said)


DRIFTS: dict[str, Callable[[Path], object]] = {
    "a line more in the rule": lambda root: (root / RULES).write_text((root / RULES).read_text() + "#\n"),
    "no rule": lambda root: (root / RULES).unlink(),
    "no file for the modules": lambda root: (root / MODULES).unlink(),
    "another for the modules": lambda root: (root / MODULES).write_text(""),
    "a stick that is authorized": lambda root: next(root.glob("sys/bus/usb/devices/1-1.1/*/authorized")).write_text("1"),
    "a screen that is not": lambda root: next(root.glob("sys/bus/usb/devices/1-1.4/*/authorized")).write_text("0"),
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_drift_is_seen_and_corrected(booth: Booth, drift: str) -> None:
    plug(booth, "1-1.1", ("08", "usb-storage"))
    plug(booth, "1-1.4", "03")
    settle(booth, Usb())
    DRIFTS[drift](booth.root)
    assert RULE.measure(Machine(booth.root), PLACE, Usb()).state == "violated"
    settle(booth, Usb())


def test_a_driver_that_holds_on_is_seen(booth: Booth) -> None:
    (face,) = plug(booth, "1-1.1", ("08", "usb-storage"))
    settle(booth, Usb())
    (face / "driver").symlink_to(booth.driver("usb-storage"))
    measured = RULE.measure(Machine(booth.root), PLACE, Usb())
    assert (measured.state, measured.detail) == ("violated", "class 08 at usb-1.1 is not locked")


def test_undone_nothing_is_left(booth: Booth) -> None:
    (face,) = plug(booth, "1-1.1", ("08", "usb-storage"))
    settle(booth, Usb())
    RULE.undo(Machine(booth.root), PLACE)
    assert authorized(face)
    assert not [file for file in (booth.root / "etc").rglob("*") if file.is_file()]
    RULE.undo(Machine(booth.root), PLACE)


def test_without_udev_it_does_not_apply(booth: Booth) -> None:
    (booth.root / "usr/bin/udevadm").unlink()
    assert RULE.measure(Machine(booth.root), PLACE, Usb()).state == "not-applicable"


@given(POLICIES)
def test_every_line_of_the_rule_is_udevs_language(policy: Usb) -> None:
    token = r'[A-Z]+(\{\w+\})?(==|!=|=)"[^"]+"'
    text = usb._rules(PLACE, policy)
    assert all(re.fullmatch(f"{token}(, {token})*", line) for line in text.splitlines() if not line.startswith("#"))
    assert text.endswith('ATTR{authorized}="0"\nLABEL="booth_usb_end"\n'), "what no line lets pass is locked"
