"""`booth-agent probe --slots`: what an installer writes into root's list, which root then takes."""

from pathlib import Path

from agent import probe
from agent.peripherals import declared
from agent.privileged import slots
from agent.settings import read

CONFIG = {
    "booth": {"id": "61-0007", "area": "61"},
    "broker": {"url": "mqtt://127.0.0.1"},
    "peripherals": {
        "tickets": {"kind": "receipt-printer", "device": "usb://04b8:0e15"},
        "forms": {"kind": "document-printer", "device": "ipp://127.0.0.1:631/printers/A4"},
        "far-forms": {"kind": "document-printer", "device": "ipp://192.0.2.9/ipp/print"},
        "screen": {"kind": "kiosk", "unit": "booth-kiosk.service"},
        "network": {"kind": "network"},
        "board": {"kind": "board"},
    },
}
WHERE = {"tickets": "usb-1.2", "forms": "usb-1.3", "far-forms": "network", "screen": None, "network": "wlan0", "board": None}


def test_what_is_suggested_is_what_root_reads(tmp_path: Path) -> None:
    settings = read(CONFIG, declared(), tmp_path)
    results = [{"peripheral": item.name, "kind": item.peripheral.kind, "slot": WHERE[item.name]} for item in settings.peripherals]
    folder = tmp_path / "etc"
    folder.mkdir(mode=0o700)
    file = folder / "slots.toml"
    file.write_text(probe.slots(settings, results))
    file.chmod(0o600)
    assert slots.load(file) == slots.Slots(
        usb={"tickets": "usb-1.2", "forms": "usb-1.3"},
        queues={"forms": "A4"},
        interfaces={"network": "wlan0"},
        units={"screen": "booth-kiosk.service"},
        boards={"board": ()},
    )


def test_a_booth_where_nothing_is_plugged_in_gets_an_empty_list(tmp_path: Path) -> None:
    settings = read(CONFIG, declared(), tmp_path)
    assert probe.slots(settings, []) == "[usb]\n[queues]\n[interfaces]\n[units]\n[boards]"
