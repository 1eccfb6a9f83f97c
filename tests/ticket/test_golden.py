"""Tickets byte by byte, and as an emulated printer shows them: in French, on both widths of paper."""

import pytest

from agent.devices.receipt_layout import spelled
from agent.simulator.receipt_paper import CUT
from agent.simulator.receipt_printer import ReceiptPrinter
from agent.ticket.slip import slip
from tests.ticket.golden_files import FOLDER, PAPERS, Conversation, composed, golden, printed, words
from tests.ticket.situations import CODE, SITUATIONS


async def test_tickets_are_what_they_were() -> None:
    files = await golden()
    stored = {file.name: file.read_bytes() for file in FOLDER.glob("*-*mm.*")}
    changed = sorted(name for name in files.keys() | stored.keys() if files.get(name) != stored.get(name))
    assert not changed, f"look at what changed: `python -m tests.ticket.golden_files`, then `git diff`: {changed}"


def words_of(name: str, paper: str) -> set[str]:
    """Every word of a ticket, as it is printed, but with the letters that one of the models has to spell spelled."""
    data = (FOLDER / f"{name}-{paper}.escpos").read_bytes()
    return {word for word in spelled(words(printed(data, 500)).replace("\n", " "), str.isascii).split() if word.strip("-")}


@pytest.mark.parametrize("name", SITUATIONS)
def test_no_line_is_wider_than_the_paper_and_no_word_is_cut(name: str) -> None:
    for paper, (_, _, columns) in PAPERS.items():
        data = (FOLDER / f"{name}-{paper}.escpos").read_bytes()
        assert words(printed(data, columns)) == words(printed(data, 500)), "the printer itself broke a line"
    assert words_of(name, "80mm") == words_of(name, "58mm")


def test_the_printer_is_told_once_how_to_print_and_asked_at_the_end() -> None:
    data = (FOLDER / "her-turn-80mm.escpos").read_bytes()
    assert data.startswith(b"\x1b@\x1c.\x1da\x00\x1bt\x10"), "reset, single bytes, no pushes, CP1252"
    assert data.count(b"\x1bt") == 1
    assert data.endswith(b"\x1dV\x00\x1dr\x01"), "cut, and say when it is done"
    assert f"{CODE[:4]}-{CODE[4:]}".encode() in data


@pytest.mark.parametrize(
    ("page", "line"),
    [
        ("CP1252", "œ Œ æ Æ « » € – — … ’ “ ”"),
        ("CP858", 'oe OE æ Æ « » € - - ... \' " "'),
        ("CP437", 'oe OE æ Æ « » EUR - - ... \' " "'),
    ],
)
async def test_letters_that_a_code_page_lacks_are_spelled(page: str, line: str) -> None:
    shown = words(printed(await composed(slip("61-0007"), "TM-T88III", page), 42))
    assert line in shown.splitlines()
    assert "éèêëàâäîïôöùûüÿç" in shown
    assert "?" not in shown


async def test_a_paper_without_a_cutter_is_not_cut() -> None:
    printer = ReceiptPrinter(32)
    Conversation(printer).received(await composed(slip(), "POS-5890", None))
    assert CUT not in printer.roll
