"""USB acts on a tree like the kernel's: what is written where, in which order, and what is never touched."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.devices.sysfs import KernelFiles
from agent.devices.usb import find
from agent.privileged import usb
from agent.privileged.machine import Machine
from agent.privileged.slots import Slots
from agent.privileged.verdict import Ended
from tests.privileged.booth import DEVICES, Booth, Recorded
from tests.privileged.booth import usb as slots_of

ACTS = [usb.rebind, usb.reset, usb.authorize, usb.power]
Act = Callable[[Machine, Slots, str], None]


def ended(act: Act, machine: Machine, port: str = "usb-1.2") -> Ended:
    with pytest.raises(Ended) as end:
        act(machine, slots_of(port), "receipt-printer")
    return end.value


def test_rebind_takes_each_interface_from_its_driver_and_gives_it_back(booth: Booth) -> None:
    booth.plug("1-1.2", {"07": "usblp", "ff": "ftdi_sio"})
    machine = Recorded(booth.root)
    usb.rebind(machine, slots_of("usb-1.2"), "receipt-printer")
    drivers = "sys/bus/usb/drivers"
    assert machine.done == [
        (f"{drivers}/usblp/unbind", "1-1.2:1.0"),
        (f"{drivers}/ftdi_sio/unbind", "1-1.2:1.1"),
        (f"{drivers}/usblp/bind", "1-1.2:1.0"),
        (f"{drivers}/ftdi_sio/bind", "1-1.2:1.1"),
    ]


def test_rebind_leaves_alone_what_has_no_driver_or_a_program_of_its_own(booth: Booth) -> None:
    booth.plug("1-1.2", {"07": "usbfs", "ff": None})
    assert ended(usb.rebind, machine := Recorded(booth.root)).code == "failed"
    assert machine.done == []


def test_rebind_of_a_driver_that_takes_its_interfaces_together(booth: Booth) -> None:
    """snd-usb-audio lets go of all of them with the first, and refuses to be told again."""
    device = booth.plug("1-1.2", {"01": "snd-usb-audio", "02": "snd-usb-audio"})
    links = [device / f"1-1.2:1.{number}/driver" for number in (0, 1)]

    def kernel(name: str, _: str | bytes) -> None:
        bound = [link for link in links if link.is_symlink()]
        if name.endswith("unbind") == (not bound):
            raise OSError(errno.ENODEV, "No such device")
        for link in links:
            link.unlink() if bound else link.symlink_to(booth.driver("snd-usb-audio"))

    usb.rebind(Recorded(booth.root, kernel), slots_of("usb-1.2"), "receipt-printer")
    assert all(link.is_symlink() for link in links)


def test_rebind_gives_back_what_it_took_though_something_failed(booth: Booth) -> None:
    device = booth.plug("1-1.2", {"07": "usblp", "ff": "ftdi_sio"})

    def kernel(name: str, _: str | bytes) -> None:
        if name.endswith("ftdi_sio/unbind"):
            raise OSError(errno.EIO, "Input/output error")
        if name.endswith("usblp/unbind"):
            (device / "1-1.2:1.0/driver").unlink()

    machine = Recorded(booth.root, kernel)
    with pytest.raises(OSError, match="Input/output"):
        usb.rebind(machine, slots_of("usb-1.2"), "receipt-printer")
    assert ("sys/bus/usb/drivers/usblp/bind", "1-1.2:1.0") in machine.done


def test_reset_is_said_to_the_devices_own_node(booth: Booth) -> None:
    device = booth.plug("3-1.2", {"07": "usblp"})
    (device / "devnum").write_text("17\n")
    node = booth.root / "dev/bus/usb/003/017"
    node.touch()
    machine = Recorded(booth.root)
    usb.reset(machine, slots_of("usb-1.2"), "receipt-printer")
    assert machine.done == [("reset", "dev/bus/usb/003/017")]


@pytest.mark.parametrize("number", ["", "../..", "1234", "-1"])
def test_a_node_is_named_by_numbers_alone(booth: Booth, number: str) -> None:
    (booth.plug("1-1.2", {"07": "usblp"}) / "devnum").write_text(number)
    assert ended(usb.reset, Recorded(booth.root)).code == "failed"


def test_authorize_says_no_then_yes(booth: Booth) -> None:
    booth.plug("1-1.2", {"07": "usblp"})
    machine = Recorded(booth.root)
    usb.authorize(machine, slots_of("usb-1.2"), "receipt-printer")
    file = f"{DEVICES}/1-1.2/authorized"
    assert machine.done == [(file, "0"), 1.0, (file, "1")]


def test_authorize_says_yes_though_it_was_told_to_end(booth: Booth) -> None:
    device = booth.plug("1-1.2", {"07": "usblp"})

    class Ending(Recorded):
        def pause(self, seconds: float) -> None:
            raise SystemExit(143)

    with pytest.raises(SystemExit):
        usb.authorize(Ending(booth.root), slots_of("usb-1.2"), "receipt-printer")
    assert (device / "authorized").read_text().startswith("1")


def test_authorize_does_not_allow_what_somebody_forbade(booth: Booth) -> None:
    (booth.plug("1-1.2", {}) / "authorized").write_text("0\n")
    machine = Recorded(booth.root)
    assert ended(usb.authorize, machine).code == "refused"
    assert machine.done == []


def test_authorize_does_not_allow_what_was_put_into_its_place_meanwhile(booth: Booth) -> None:
    device = booth.plug("1-1.2", {"07": "usblp"})

    class Swapping(Recorded):
        def pause(self, seconds: float) -> None:
            (device / "authorized").rename(booth.root / "gone")
            (device / "authorized").write_text("0\n")

    usb.authorize(Swapping(booth.root), slots_of("usb-1.2"), "receipt-printer")
    assert (device / "authorized").read_text() == "0\n"


@pytest.mark.parametrize("plugged", [True, False])
@pytest.mark.parametrize(("hub", "port", "device"), [("1-1", "usb-1.2", "1-1.2"), ("usb1", "usb-2", "1-2")])
def test_power_is_switched_at_the_hubs_port(booth: Booth, hub: str, port: str, device: str, plugged: bool) -> None:
    booth.hub(hub, 4)
    if plugged:
        booth.plug(device, {"07": "usblp"})
    machine = Recorded(booth.root)
    usb.power(machine, slots_of(port), "receipt-printer")
    file = str((booth.port(hub, 2) / "disable").relative_to(booth.root))
    assert machine.done == [(file, "1"), 2.0, (file, "0")]


def test_power_of_a_socket_with_two_halves_is_switched_on_both(booth: Booth) -> None:
    booth.hub("1-1", 4)
    booth.hub("2-1", 4)
    booth.pair(booth.port("1-1", 2), booth.port("2-1", 2))
    machine = Recorded(booth.root)
    usb.power(machine, slots_of("usb-1.2"), "receipt-printer")
    files = [f"{DEVICES}/{hub}/{hub}:1.0/{hub}-port2/disable" for hub in ("1-1", "2-1")]
    assert machine.done == [(files[0], "1"), (files[1], "1"), 2.0, (files[1], "0"), (files[0], "0")]


def test_power_comes_back_though_switching_it_off_failed(booth: Booth) -> None:
    booth.hub("1-1", 4)

    def kernel(_: str, data: str | bytes) -> None:
        if data == "1":
            raise OSError(errno.EPIPE, "Broken pipe")

    machine = Recorded(booth.root, kernel)
    with pytest.raises(OSError, match="Broken pipe"):
        usb.power(machine, slots_of("usb-1.2"), "receipt-printer")
    assert machine.done[-1] == (f"{DEVICES}/1-1/1-1:1.0/1-1-port2/disable", "0")


def test_power_without_a_switch_or_a_port_is_not_supported(booth: Booth) -> None:
    booth.hub("1-1", 2, switched=False)
    assert ended(usb.power, Recorded(booth.root)).code == "not-supported"
    assert ended(usb.power, Recorded(booth.root), "usb-1.3").code == "not-supported"
    assert ended(usb.power, Recorded(booth.root), "usb-4.3").code == "not-supported"


def test_power_is_not_taken_from_a_hub_with_a_disk(booth: Booth) -> None:
    """Many hubs say that they switch each port alone, and take the power from all: the booth may have started from it."""
    booth.hub("1-1", 4)
    booth.plug("1-1.2", {"07": "usblp"})
    (booth.root / DEVICES / "1-1/1-1.4/1-1.4:1.0/host0/target0:0:0/0:0:0:0/block/sda").mkdir(parents=True)
    machine = Recorded(booth.root)
    assert ended(usb.power, machine).code == "refused"
    assert machine.done == []


def test_power_is_not_taken_from_what_is_plugged_into_the_other_half(booth: Booth) -> None:
    booth.hub("1-1", 4)
    booth.hub("2-1", 4)
    booth.pair(booth.port("1-1", 2), booth.port("2-1", 2))
    stick = booth.plug("2-1.2", {"08": "usb-storage"})
    assert (booth.port("2-1", 2) / "device").resolve() == stick
    booth.plug("1-1.2", {"07": "usblp"})
    machine = Recorded(booth.root)
    assert ended(usb.power, machine).code == "refused"
    assert machine.done == []


FORBIDDEN = {
    "a hub": {"interfaces": {"09": "hub"}, "device_class": "09"},
    "a hub by its interface alone": {"interfaces": {"09": "hub"}},
    "a stick": {"interfaces": {"08": "usb-storage"}},
    "a stick without a driver": {"interfaces": {"08": None}},
    "a printer with a card reader": {"interfaces": {"07": "usblp", "08": "usb-storage"}},
    "a disk of an unknown class": {"interfaces": {"ff": "uas"}, "below": "host0/target0:0:0/0:0:0:0/block"},
    "an Ethernet adapter": {"interfaces": {"ff": "smsc95xx"}, "below": "net/eth0"},
    "a telephone as a modem": {"interfaces": {"02": "cdc_ether"}, "below": "net/usb0"},
    "an adapter whose interface is in another namespace": {"interfaces": {"ff": "r8152"}, "below": "net"},
    "a radio": {"interfaces": {"ff": "mt76x0u"}, "below": "ieee80211/phy0"},
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("what", FORBIDDEN)
def test_what_is_never_touched(booth: Booth, act: Act, what: str) -> None:
    booth.hub("1-1", 4)
    booth.plug("1-1.2", **FORBIDDEN[what])  # type: ignore[arg-type]
    machine = Recorded(booth.root)
    assert ended(act, machine).code == "refused"
    assert machine.done == []


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("missing", ["bDeviceClass", "1-1.2:1.0/bInterfaceClass"])
def test_what_does_not_say_what_it_is_is_not_touched(booth: Booth, act: Act, missing: str) -> None:
    booth.hub("1-1", 4)
    (booth.plug("1-1.2", {"07": "usblp"}) / missing).unlink()
    assert ended(act, Recorded(booth.root)).code == "refused"


@pytest.mark.parametrize("act", ACTS)
def test_the_same_port_on_two_buses_is_ambiguous(booth: Booth, act: Act) -> None:
    for bus in (1, 3):
        booth.hub(f"{bus}-1", 4)
        booth.plug(f"{bus}-1.2", {"07": "usblp"})
    machine = Recorded(booth.root)
    end = ended(act, machine)
    assert end.code == "refused"
    assert "ambiguous" in end.detail
    assert machine.done == []


def test_an_empty_port_on_two_buses_is_ambiguous_too(booth: Booth) -> None:
    booth.hub("1-1", 4)
    booth.hub("3-1", 4)
    assert ended(usb.power, Recorded(booth.root)).code == "refused"


@pytest.mark.parametrize("act", ACTS[:3])
def test_an_empty_port(booth: Booth, act: Act) -> None:
    booth.hub("1-1", 4)
    booth.plug("1-1.21", {"07": "usblp"})  # no prefix of it is meant
    end = ended(act, Recorded(booth.root))
    assert (end.code, end.detail) == ("failed", "nothing is plugged in at usb-1.2")


def test_a_port_is_named_as_the_agent_names_it(booth: Booth) -> None:
    device = booth.plug("7-1.4.2", {"07": "usblp"})
    (device / "idVendor").write_text("04b8\n")
    (device / "idProduct").write_text("0202\n")
    found = find(KernelFiles(booth.root), "04b8", "0202")
    assert found is not None
    machine = Recorded(booth.root)
    usb.reset(machine, slots_of(found.slot), "receipt-printer")
    assert machine.done == [("reset", "dev/bus/usb/007/001")]


def test_the_kernels_answer_is_an_os_error(tmp_path: Path) -> None:
    """A plain file is no USB node; nothing is made where none is."""
    node = tmp_path / "node"
    node.touch()
    with pytest.raises(OSError, match=r"\[Errno 25\]") as refusal:  # ENOTTY
        Machine(tmp_path).reset_usb(node)
    assert refusal.value.filename == str(node)
    with pytest.raises(FileNotFoundError):
        Machine(tmp_path).write(tmp_path / "authorized", "1")
    assert list(tmp_path.iterdir()) == [node]
