"""`booth-agent slip`: python-escpos in a worker, against the emulator as a stranger would use it."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from agent.devices.workers import WorkerFailed, Workers
from agent.slip import slip_lines
from agent.system.session import open_lock, try_lock
from tests.world import BIN, World, world


async def slip(w: World, *arguments: str, temporary: Path | None = None) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        str(BIN / "booth-agent"), "slip", "--config", str(w.write_config()), "--runtime-dir", str(w.runtime_dir), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=os.environ | ({"TMPDIR": str(temporary)} if temporary else {}),
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_a_slip_has_the_booths_name_and_every_accent_in_the_printers_code_page(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.config["peripherals"]["receipt-printer"]["profile"] = "TM-T88III"
        status, out, err = await slip(w)
        assert (status, err) == (0, "")
        assert "look at it" in out
        assert "Borne 61-0007" in w.printer.paper
        assert "Si ces lignes se lisent bien" in w.printer.paper
        assert "?" not in w.printer.paper  # what python-escpos prints for a letter that it finds no code page for


async def test_the_running_agent_sees_the_same_printer_meanwhile(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.start_agent()
        await w.until(lambda: (w.observer.last("health/receipt-printer") or {}).get("status") == "ok", "the printer ready")
        assert (await slip(w))[0] == 0
        w.printer.change(paper="out")
        await w.until(lambda: w.observer.codes("receipt-printer") == ["media-empty"], "the pushed status")


async def test_nothing_is_printed_while_a_citizen_is_there(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        session = open_lock(w.runtime_dir)
        assert try_lock(session)
        status, _, err = await slip(w)
        assert status == 1
        assert "a citizen uses the booth" in err
        assert not w.printer.paper
        os.close(session)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "tcp://127.0.0.1:1"}, "no slip from receipt-printer"),
        ({"profile": "Xerox-914"}, "unknown profile"),
        ({"device": "usb://1234:5678"}, "not plugged in"),
        ({"device": "serial:///dev/nowhere"}, "no slip from receipt-printer"),
    ],
)
async def test_what_stands_in_the_way_is_said(tmp_path: Path, options: dict[str, str], said: str) -> None:
    async with world(tmp_path) as w:
        w.config["peripherals"]["receipt-printer"] |= options
        status, _, err = await slip(w)
        assert status == 1
        assert said in err
        assert "Traceback" not in err


async def test_which_printer_has_to_be_clear(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        assert (await slip(w, "scanner"))[0] == 2
        w.config["peripherals"]["second"] = dict(w.config["peripherals"]["receipt-printer"])
        status, _, err = await slip(w)
        assert (status, "receipt-printer, second" in err) == (2, True)
        assert (await slip(w, "second"))[0] == 0


async def test_f57_a_printer_that_takes_no_bytes_holds_a_worker_and_nothing_else() -> None:
    """A pseudo terminal that nobody reads: python-escpos waits for ever, its worker does not."""
    master, slave = os.openpty()
    os.set_blocking(master, False)
    try:
        lines = ["x" * 1000] * 500
        request = {"place": ["file", os.ttyname(slave)], "profile": "default", "lines": lines}
        with pytest.raises(WorkerFailed) as caught:
            await Workers().call("printer", "agent.devices.receipt_text:print_lines", request, 5)
        assert caught.value.code == "not-responding"
    finally:
        os.close(master)
        os.close(slave)


async def test_nothing_is_left_in_the_temporary_folder_and_nothing_imported_here(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    async with world(tmp_path) as w:
        assert (await slip(w, temporary=temporary))[0] == 0
    assert not list(temporary.iterdir())
    assert "agent.devices.receipt_text" not in sys.modules


def test_a_slip_fits_the_narrowest_paper() -> None:
    assert max(map(len, slip_lines("booth-with-the-longest-name"))) <= 40
    assert all(len(line) <= 32 for line in slip_lines("61-0007"))
