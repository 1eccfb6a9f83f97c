"""Tickets as they are sent and as they look: `python -m tests.ticket.golden_files` writes golden/ anew; look at what changed."""

import asyncio
import html
import sys
from pathlib import Path
from typing import Final

from agent.devices.workers import Workers
from agent.simulator.receipt_paper import CUT, Row
from agent.simulator.receipt_printer import ReceiptPrinter, _Line
from agent.ticket.paragraphs import Paragraph, plain_paragraphs
from agent.ticket.ticket import ticket
from tests.ticket.situations import SITUATIONS

FOLDER: Final = Path(__file__).parent / "golden"
# A model with CP1252 on 80 mm; one whose CP1252 is not to be trusted on 58 mm.
PAPERS: Final = {"80mm": ("TM-T88III", None, 42), "58mm": ("POS-5890", "CP858", 32)}
_CELL, _LINE = 10, 22  # pixels of a column and a line in the picture


class Conversation(_Line):
    """A line to the emulator whose other end keeps what it answers."""

    answers = b""

    def send(self, data: bytes) -> None:
        self.answers += data


async def composed(paragraphs: list[Paragraph], profile: str, page: str | None) -> bytes:
    """The bytes, from python-escpos in a worker."""
    request = {"profile": profile, "page": page, "paragraphs": plain_paragraphs(paragraphs)}
    answer = await Workers().call("printer", "agent.devices.receipt_text:compose", request, 30)
    return bytes.fromhex(answer["bytes"])


def printed(data: bytes, columns: int) -> list[Row]:
    """What an emulated printer makes of them. A model of 58 mm has no cutter."""
    printer = ReceiptPrinter(columns)
    line = Conversation(printer)
    line.received(data)
    assert line.answers == b"\x00", "it is asked at the end whether all of it came out"
    return [row for row in printer.roll if row != CUT]


def words(rows: list[Row]) -> str:
    """As text, each line as the paper shows it."""
    return "\n".join("".join(letter for letter, _ in row) for row in rows)


def picture(rows: list[Row], columns: int) -> str:
    """As SVG, each letter in its cell."""
    lines: list[str] = []
    y = _LINE
    for row in rows:
        tall = any(style & 0x10 for _, style in row)
        y += _LINE * (2 if tall else 1)
        text = "".join(letter for letter, _ in row)
        if text.strip():
            width = sum(2 if style & 0x20 else 1 for _, style in row) * _CELL
            bold = ' font-weight="bold"' if any(style & 0x08 for _, style in row) else ""
            size = 2 * _LINE - 10 if tall else _LINE - 5
            shape = f'font-size="{size}"{bold} textLength="{width}" lengthAdjust="spacingAndGlyphs" xml:space="preserve"'
            lines.append(f'<text x="{_CELL}" y="{y}" {shape}>{html.escape(text)}</text>')
    width, height = (columns + 2) * _CELL, y + _LINE
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="monospace">',
        f'<rect width="{width}" height="{height}" fill="#fffef8"/>',
        *lines,
        "</svg>\n",
    ])  # fmt: skip


async def golden() -> dict[str, bytes]:
    """Every file of the folder, by its name."""
    files: dict[str, bytes] = {}
    for name, situation in SITUATIONS.items():
        for paper, (profile, page, columns) in PAPERS.items():
            data = await composed(ticket(situation), profile, page)
            files[f"{name}-{paper}.escpos"] = data
            files[f"{name}-{paper}.svg"] = picture(printed(data, columns), columns).encode()
    return files


def main() -> int:
    FOLDER.mkdir(exist_ok=True)
    for file in FOLDER.glob("*-*mm.*"):
        file.unlink()
    for name, data in asyncio.run(golden()).items():
        (FOLDER / name).write_bytes(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
