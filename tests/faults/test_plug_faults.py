"""The fault catalogue on what is plugged in: a stick (row 73), another printer (row 79); and on limits too low (row 69)."""

import asyncio
import contextlib
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.contract.command import FINAL
from agent.simulator import usb_tree
from agent.system.uevents import Uevent
from tests.commands.technician import dated
from tests.peripherals.whole_booth import PORT, SERIAL, WHOLE, QuickBooth
from tests.world import ROOT, Observer, world


@contextlib.asynccontextmanager
async def plugged_booth(folder: Path) -> AsyncIterator[tuple[QuickBooth, Observer]]:
    """Its document printer is on USB."""
    booth = QuickBooth(folder, profile="fonctionnaire-virtuel", heals=False)
    booth.plug_document_printer()
    observer: Observer | None = None
    try:
        await booth.start()
        observer = Observer(booth.broker.port)
        await observer.until(lambda: observer.last("led") == "ok", "a booth where all is well")
        yield booth, observer
        assert not observer.problems
    finally:
        if observer is not None:
            observer.close()
        await booth.stop()


async def accept(booth: QuickBooth, observer: Observer, name: str) -> dict[str, Any]:
    """What a technician's command in front of the booth ends with."""
    assert booth._agent is not None
    request = {"id": "c-79", "args": {"peripheral": name}, "code": booth._agent.ticket_code.new(), **dated()}
    observer.publish(f"{ROOT}/cmd/accept-device/req", json.dumps(request))

    def ended() -> dict[str, Any] | None:
        status: dict[str, Any] | None = observer.last("cmd/accept-device/c-79/status")
        return status if status is not None and status["state"] in FINAL else None

    status: dict[str, Any] = await observer.until(ended, "the end of the command")
    return status


@WHOLE
async def test_f73_an_unknown_usb_stick_is_one_security_event(tmp_path: Path) -> None:
    async with plugged_booth(tmp_path) as (booth, observer):
        root = booth.machine.files.path(".")
        usb_tree.plug(root, "1-1.4", "X1", ids="0781:5567", maker="Stick\x1b[2J", model="Blade", interface_class="08")
        usb_tree.plug(root, "1-1.3", "X2", ids="046d:c31c", maker="Logitech", model="Keyboard", interface_class="03")
        for port in ("1-1.3", "1-1.4", "1-1.4"):  # each arrival is announced twice, by the kernel and by udev
            booth.machine.uevents.announce(Uevent("add", "usb", f"/bus/usb/devices/{port}/{port}:1.0"))

        def told() -> list[dict[str, object]]:
            return [event["data"] for event in observer.events() if event["class"] == "security"]

        await observer.until(told, "the security event")
        booth.machine.uevents.announce(Uevent("remove", "usb", "/bus/usb/devices/1-1.4/1-1.4:1.0"))
        assert told() == [{"slot": "usb-1.4", "ids": "0781:5567"}]


@WHOLE
async def test_f79_a_replaced_printer_is_changed_and_not_absent_also_when_it_was_swapped_with_the_power_off(
    tmp_path: Path,
) -> None:
    def swap(booth: QuickBooth) -> None:
        booth.unplug_document_printer()
        usb_tree.plug(booth.machine.files.path("."), PORT, "NEW", ids="03f0:002a", maker="HP", model="LaserJet")

    async with plugged_booth(tmp_path) as (booth, observer):
        swap(booth)
        await observer.until(lambda: "device-changed" in observer.codes("document-printer"), "the change")
        health = observer.last("health/document-printer")
        assert health["status"] == "fault"
        (finding,) = health["findings"]
        assert (finding["fix_by"], finding["detail"]) == ("technician", {"found": "03f0:002a LaserJet NEW"})
        usb_tree.unplug(booth.machine.files.path("."), PORT)
        await observer.until(lambda: observer.codes("document-printer") == ["no-device"], "nothing there at all")
        usb_tree.plug(booth.machine.files.path("."), PORT, SERIAL)
        await observer.until(lambda: observer.codes("document-printer") == [], "the old one back")
        await booth.stop_agent()
        swap(booth)
        booth.start_agent()
        await observer.until(lambda: "device-changed" in observer.codes("document-printer"), "the change after the night")
        status = await accept(booth, observer, "document-printer")
        assert (status["state"], status["result"]["was"], status["result"]["now"]) == (
            "succeeded", f"04f9:0054/{SERIAL}", "03f0:002a/NEW",
        )  # fmt: skip
        assert "lpstat -v" in status["result"]["then"], "CUPS has an opinion of its own"
        await observer.until(lambda: observer.codes("document-printer") == [], "the new one is the expected one")
        await booth.stop_agent()
        observer.retained.clear()
        booth.start_agent()
        await observer.until(lambda: observer.last("led") == "ok", "and still is after another night")


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="missing here: prlimit (util-linux)")
@WHOLE
async def test_f69_at_the_limit_of_descriptors_it_sheds_says_so_and_goes_on(tmp_path: Path) -> None:
    """Workers need six descriptors each; the agent itself has what it needs, and is as quick as ever."""
    async with world(tmp_path) as w:
        w.config["peripherals"]["camera"] = {"kind": "camera", "device": "csi:0", "csi_program": "/bin/false"}
        agent = await w.start_agent()
        in_use = len(list(Path(f"/proc/{agent.pid}/fd").iterdir()))
        await agent.stop()
        await w.start_agent(wrapper=("prlimit", f"--nofile={in_use + 3}"))
        await w.until(lambda: "probe-failed" in w.observer.codes("camera"), "the camera's check that found no descriptor")
        detail = w.observer.last("health/camera")["findings"][0]["detail"]
        assert "Too many open files" in str(detail)
        await w.until(lambda: w.observer.last("alarm/camera/probe-failed"), "the alarm")
        w.printer.change(paper="out")
        await w.until(lambda: w.observer.codes("receipt-printer") == ["media-empty"], "what the printer pushes", 5.0)


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="missing here: prlimit (util-linux)")
async def test_f69_without_a_single_descriptor_to_be_had_its_telemetry_says_less_and_nothing_ends(tmp_path: Path) -> None:
    async with world(tmp_path, reporting={"telemetry_s": 5}) as w:
        agent = await w.start_agent()
        await w.until(lambda: any("rss_bytes" in m.json for m in w.observer.of("tele/agent")), "telemetry", 15.0)
        kept = set(range(1024))
        for _ in range(20):  # what is open for a moment leaves a number free
            await asyncio.sleep(0.05)
            kept &= {int(entry.name) for entry in Path(f"/proc/{agent.pid}/fd").iterdir()}
        lowest_free = next(number for number in range(1024) if number not in kept)
        subprocess.run(["prlimit", f"--pid={agent.pid}", f"--nofile={lowest_free}:"], check=True)
        less = await w.until(
            lambda: [m.json for m in w.observer.of("tele/agent") if "rss_bytes" not in m.json], "telemetry without memory", 30.0
        )
        assert less[0]["cpu_s"] >= 0
        w.printer.change(paper="out")
        await w.until(lambda: w.observer.codes("receipt-printer") == ["media-empty"], "what the printer pushes", 5.0)
