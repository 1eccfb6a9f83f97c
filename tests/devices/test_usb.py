"""USB devices in a tree like the kernel's, with the links that it makes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.words import TEXT_LIMIT, printable
from agent.devices import usb
from agent.devices.sysfs import KernelFiles

DEVICES = "sys/bus/usb/devices"


def plug(root: Path, path: str, vendor_id: str, product_id: str, **texts: bytes) -> Path:
    """A USB device as sysfs shows it; `texts` are raw descriptor strings."""
    directory = root / DEVICES / path
    directory.mkdir(parents=True)
    (directory / "idVendor").write_text(vendor_id + "\n")
    (directory / "idProduct").write_text(product_id + "\n")
    for name, text in texts.items():
        (directory / name).write_bytes(text + b"\n")
    return directory


def test_a_device_is_found_by_its_ids_and_named_by_its_physical_port(tmp_path: Path) -> None:
    plug(tmp_path, "usb1", "1d6b", "0002")
    plug(tmp_path, "1-1", "0424", "9514")
    plug(tmp_path, "1-1.2", "04b8", "0202", manufacturer=b"EPSON", product=b"TM-T88III", serial=b"J1")
    (tmp_path / DEVICES / "1-1.2:1.0").mkdir()
    found = usb.find(KernelFiles(tmp_path), "04b8", "0202")
    assert found == usb.UsbDevice("1-1.2", "04b8", "0202", "EPSON", "TM-T88III", "J1")
    assert found.slot == "usb-1.2"
    assert [device.path for device in usb.plugged(KernelFiles(tmp_path))] == ["1-1", "1-1.2", "usb1"]


def test_a_serial_number_tells_two_of_the_same_kind_apart(tmp_path: Path) -> None:
    plug(tmp_path, "1-1.2", "04b8", "0202", serial=b"A")
    plug(tmp_path, "1-1.3", "04b8", "0202", serial=b"B")
    plug(tmp_path, "1-1.4", "04b8", "0202")
    files = KernelFiles(tmp_path)
    assert [getattr(usb.find(files, "04b8", "0202", serial), "path", None) for serial in (None, "A", "B", "C")] == [
        "1-1.2", "1-1.2", "1-1.3", None,
    ]  # fmt: skip


def test_a_device_without_ids_or_without_texts_harms_nobody(tmp_path: Path) -> None:
    (tmp_path / DEVICES / "1-2").mkdir(parents=True)  # unplugged while we looked
    plug(tmp_path, "1-3", "04b8", "0202", product=b"")
    assert list(usb.plugged(KernelFiles(tmp_path))) == [usb.UsbDevice("1-3", "04b8", "0202", None, None, None)]
    assert list(usb.plugged(KernelFiles(tmp_path / "nowhere"))) == []


def test_the_printer_node_is_the_one_below_an_interface(tmp_path: Path) -> None:
    directory = plug(tmp_path, "1-1.2", "04b8", "0202")
    files = KernelFiles(tmp_path)
    device = usb.find(files, "04b8", "0202")
    assert device is not None
    assert usb.printer_node(files, device) is None
    (directory / "1-1.2:1.0" / "usbmisc" / "lp3").mkdir(parents=True)
    assert usb.printer_node(files, device) == "dev/usb/lp3"


def test_a_serial_port_is_traced_to_the_usb_device_behind_it(tmp_path: Path) -> None:
    real = tmp_path / "sys/devices/platform/usb1/1-1/1-1.3"
    port = real / "1-1.3:1.0" / "ttyUSB0"
    port.mkdir(parents=True)
    (real / "idVendor").write_text("0403\n")
    (real / "idProduct").write_text("6001\n")
    (real / "serial").write_text("FT1\n")
    (tmp_path / "sys/class/tty/ttyUSB0").mkdir(parents=True)
    (tmp_path / "sys/class/tty/ttyUSB0/device").symlink_to(port)
    (tmp_path / "sys/class/tty/ttyS0").mkdir()
    (tmp_path / "sys/class/tty/ttyS0/device").symlink_to(tmp_path / "sys/devices/platform")
    files = KernelFiles(tmp_path)
    assert usb.of_tty(files, "ttyUSB0") == usb.UsbDevice("1-1.3", "0403", "6001", None, None, "FT1")
    assert usb.of_tty(files, "ttyS0") is None
    assert usb.of_tty(files, "ttyUSB9") is None


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"\x1b[2J\x1b]0;owned\x07", "\\x1b[2J\\x1b]0;owned\\x07"),
        (b"TM\x00\r\nT88", "TM\\x00\\nT88"),  # as text, a line end is one character
        ("caf\u00e9 \u202eevil".encode(), "café \\u202eevil"),  # right-to-left override
        (b"\xed\xa0\x80\xff", "����"),  # a surrogate is no UTF-8
        (b"A" * 10_000, "A" * 127 + "…"),
        (b"\x1b" * 10_000, ("\\x1b" * 32)[:127] + "…"),
    ],
)
def test_f66_descriptor_strings_are_escaped_and_capped(tmp_path: Path, raw: bytes, shown: str) -> None:
    plug(tmp_path, "1-1", "04b8", "0202", manufacturer=raw, product=raw, serial=raw)
    device = usb.find(KernelFiles(tmp_path), "04b8", "0202")
    assert device is not None
    assert (device.vendor, device.product, device.serial) == (shown, shown, shown)


@given(st.text(max_size=400) | st.text(st.characters(categories=["Cs", "Cc", "Cf", "Co", "Zl", "Zp"]), max_size=200))
def test_f66_whatever_a_device_calls_itself_is_printable_capped_and_utf8(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown) <= TEXT_LIMIT
    shown.encode()
    assert printable(shown) == shown
