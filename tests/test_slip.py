"""`booth-agent slip`: python-escpos in a worker, against the emulator as a stranger would use it."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from agent.devices.receipt_layout import laid_out
from agent.devices.workers import Workers
from agent.system.session import LOCK_NAME, open_lock, try_lock
from agent.ticket.paragraphs import plain_paragraphs
from agent.ticket.slip import slip as slip_paragraphs
from tests.world import BIN, World, world


async def slip(w: World, *arguments: str, temporary: Path | None = None, locked: bool = True) -> tuple[int, str, str]:
    """`locked`: an agent has been there, and made the session lock."""
    if locked:
        os.close(open_lock(w.runtime_dir))
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
        assert "œ Œ æ Æ « » € – — … ’ “ ”" in w.printer.paper
        assert "?" not in w.printer.paper  # what python-escpos prints for a letter that it finds no code page for
        assert "came out" in out


async def test_without_paper_nothing_is_sent_and_the_slip_says_so(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.printer.change(paper="out")
        status, _, err = await slip(w)
        assert status == 1
        assert "not ready (paper empty)" in err
        w.printer.change(paper="plenty")
        assert w.printer.paper == "", "nor does it come out later"


async def test_the_page_of_candidates_has_a_line_of_french_for_each_code_page(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.config["peripherals"]["receipt-printer"]["profile"] = "TM-T88III"
        assert (await slip(w, "--code-pages"))[0] == 0
        lines = [line for line in w.printer.paper.split("\n") if "): " in line]
        pages = [line.partition(" (")[0] for line in lines]
        assert pages[:4] == ["CP1252", "CP858", "CP850", "CP437"], "likely ones first"
        assert "CP932" not in pages, "a page without é"
        assert "ÀÂÇÉÈÊËÎÏÔŒÙÛ" in lines[0]
        assert "ÀÂÇÉÈÊËÎÏÔOEÙÛ" in lines[1], "as it would be printed"
        assert "?" not in w.printer.paper
        w.config["peripherals"]["receipt-printer"]["page"] = "CP858"
        assert (await slip(w))[0] == 0
        assert 'oe OE æ Æ « » € - - ... \' " "' in w.printer.paper, "what the page lacks is spelled"


async def test_a_page_that_the_profile_does_not_have_is_named_with_those_that_it_has(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.config["peripherals"]["receipt-printer"] |= {"profile": "TM-T88III", "page": "CP1250"}
        status, _, err = await slip(w)
        assert (status, "no code page 'CP1250'; write one of CP1252, CP437" in err) == (1, True)


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


async def test_where_nothing_tells_whether_a_citizen_is_there_only_who_insists_gets_a_slip(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        for place in (w.runtime_dir, tmp_path / "nowhere"):
            status, _, err = await slip(w, "--runtime-dir", str(place), locked=False)
            assert status == 1
            assert "nobody knows whether a citizen uses the booth" in err
            assert "--runtime-dir DIR" in err
            assert not w.printer.paper
        assert not (tmp_path / "nowhere").exists()
        assert not (w.runtime_dir / LOCK_NAME).exists(), "a lock of its own would be nobody else's"
        assert (await slip(w, "--anyway", locked=False))[0] == 0
        assert "Borne 61-0007" in w.printer.paper


async def test_whoever_insists_disturbs_no_citizen(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        session = open_lock(w.runtime_dir)
        assert try_lock(session)
        assert (await slip(w, "--anyway"))[0] == 1
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


async def test_f57_a_printer_that_says_nothing_is_sent_nothing() -> None:
    """A pseudo terminal that nobody reads."""
    master, slave = os.openpty()
    os.set_blocking(master, False)
    try:
        request = {"place": ["file", os.ttyname(slave)], "profile": "default", "paragraphs": plain_paragraphs(slip_paragraphs())}
        answer = await Workers().call("printer", "agent.devices.receipt_text:print_document", request, 20)
        assert answer == {"sent": False, "status": None, "by": None}
        assert os.read(master, 100) == b"\x10\x04\x01"
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
    for booth in ("61-0007", "booth-with-the-longest-name-that-there-is"):
        lines = laid_out(plain_paragraphs(slip_paragraphs(booth)), 32, lambda _: False)
        assert max(len(text) for _, text in lines) <= 32
