"""What is printed on a receipt printer, by python-escpos: only ever in a worker.

It is slow to import (a quarter of a second, 22 MiB), leaves a folder behind at each import, sets up logging, and a write of its
own has no deadline. It knows each model's code pages, columns and cutter: so it composes, and `receipt_line` prints.
"""

import importlib
import tempfile
from collections.abc import Callable
from typing import Any, Final

from agent.devices.receipt_layout import WIDE, laid_out
from agent.devices.receipt_line import Gone, ReceiptLine, printed

# The page that a whole document is printed in: the first of them that the model has. CP1252 has every letter of French, the
# euro and typographic quotes; CP858 lacks the quotes and œ, which are spelled then; the last ones lack the euro, too.
PAGES: Final = ("CP1252", "ISO_8859-15", "CP858", "CP850", "CP437")
_LIKELY: Final = ("CP1252", "CP858", "ISO_8859-15", "CP850")  # what a printer sold in France has: an installer reads these first
SAMPLE: Final = "ÀÂÇÉÈÊËÎÏÔŒÙÛ àâçéèêëîïôœùûü « “œuf” » d’été… – 3 €"

_RESET: Final = b"\x1b@"
_SINGLE_BYTES: Final = b"\x1c."  # FS . leaves the mode of Chinese and Japanese printers, where two bytes are one letter
_NO_PUSHES: Final = b"\x1da\x00"  # GS a 0: its frames look like the answer to GS r
_ASK_WHEN_DONE: Final = b"\x1dr\x01"  # GS r 1, the roll: buffered, so that the answer comes when all before it is printed
_STYLES: Final = {"plain": b"\x1b!\x00", "strong": b"\x1b!\x08", "large": b"\x1b!\x38"}


def print_document(request: dict[str, Any]) -> dict[str, Any]:
    """Print `paragraphs` (see `receipt_layout`), cut, and say whether it came out: `receipt_line.printed`.

    `place` is the printer's (see `receipt_line`), `profile` names the model among python-escpos's, `page` one of its code pages,
    or null for the best that it has. Without `paragraphs`, each of the code pages is printed with a line of French. `error`
    where the printer was not reached or cannot be written for: no word of the document is ever in it.
    """
    try:
        composed = _composed(request)
    except _Unknown as error:
        return {"error": str(error)}
    sent = False
    try:
        with ReceiptLine(request["place"]) as line:
            sent = True
            return printed(line, composed)
    except Gone as error:
        return {"error": str(error), "sent": sent}


def compose(request: dict[str, Any]) -> dict[str, Any]:
    """The bytes alone, in hexadecimal, for whoever wants to look at them."""
    try:
        return {"bytes": _composed(request).hex()}
    except _Unknown as error:
        return {"error": str(error)}


class _Unknown(Exception):
    """A model or code page that there is not; the message says what to write."""


def _composed(request: dict[str, Any]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        former, tempfile.tempdir = tempfile.tempdir, folder  # python-escpos makes one of its own at import, and forgets it
        try:
            known = importlib.import_module("escpos.capabilities").CAPABILITIES["profiles"]
            if request["profile"] not in known:
                raise _Unknown(f"unknown profile {request['profile']!r}; write one of {', '.join(sorted(known))}")
            printer = importlib.import_module("escpos.printer").Dummy(profile=request["profile"])
        finally:
            tempfile.tempdir = former
    raw: Callable[[bytes], None] = printer._raw  # noqa: SLF001 - its only way to send bytes as they are
    raw(_RESET + _SINGLE_BYTES + _NO_PUSHES)
    if request.get("paragraphs") is None:
        _print_code_pages(printer)
    else:
        _print(printer, request["paragraphs"], _page_of(printer, request.get("page")))
    printer.cut()
    raw(_ASK_WHEN_DONE)
    return bytes(printer.output)


def _print(printer: Any, paragraphs: list[dict[str, Any]], page: str) -> None:
    columns = min(WIDE, printer.profile.get_columns("a"))
    printer.magic.force_encoding(page)
    style = "plain"
    for styled, text in laid_out(paragraphs, columns, _has(printer, page)):
        if styled != style:
            printer._raw(_STYLES[styled])  # noqa: SLF001
            style = styled
        printer.text(f"{text}\n")
    if style != "plain":
        printer._raw(_STYLES["plain"])  # noqa: SLF001


def _print_code_pages(printer: Any) -> None:
    """For the installer: the page whose line reads well is the one. Letters are spelled as in a document, so that a page is not
    taken for a wrong one because of an œ."""
    columns = min(WIDE, printer.profile.get_columns("a"))
    pages = {page: int(number) for page, number in _pages(printer).items() if _has(printer, page)("é")}
    rank = {page: place for place, page in enumerate(_LIKELY)}
    for page in sorted(pages, key=lambda page: (rank.get(page, len(rank)), pages[page])):
        printer.magic.force_encoding(page)
        sample = {"text": f"{page} ({pages[page]}): {SAMPLE}", "style": "plain", "hang": 2}
        for _, text in laid_out([sample], columns, _has(printer, page)):
            printer.text(f"{text}\n")


def _has(printer: Any, page: str) -> Callable[[str], bool]:
    """Whether a code page has a letter."""
    return lambda letter: bool(printer.magic.encoder.can_encode(page, letter))


def _pages(printer: Any) -> dict[str, Any]:
    """Those that python-escpos knows the letters of."""
    encoder = printer.magic.encoder
    return {page: number for page, number in encoder.codepages.items() if encoder.can_encode(page, " ") and _known(encoder, page)}


def _known(encoder: Any, page: str) -> bool:
    try:
        encoder.encode("é", page)
    except LookupError:
        return False
    return True


def _page_of(printer: Any, wanted: str | None) -> str:
    pages = _pages(printer)
    if wanted is not None:
        if wanted not in pages:
            raise _Unknown(f"this profile has no code page {wanted!r}; write one of {', '.join(sorted(pages))}")
        return wanted
    return next((page for page in PAGES if page in pages), min(pages))
