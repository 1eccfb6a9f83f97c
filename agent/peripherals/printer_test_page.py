"""The page of `test-print`: one A4 sheet with the words and greys that an installer looks at, as PDF or as plain text.

PDF is written by hand (ISO 32000-1): one page, one of the fourteen fonts that every reader of PDF has, in the encoding of
code page 1252, which knows €, œ and typographic quotes.
"""

import unicodedata
from collections.abc import Collection
from typing import Final

PDF: Final = "application/pdf"
TEXT: Final = "text/plain"
RAW: Final = "application/vnd.cups-raw"

TITLE: Final = "Page d'essai"
_A4_PT: Final = (595, 842)
_MARGIN_PT: Final = 28  # 1 cm: what every laser printer reaches
_LINE_PT: Final = 24
_WORDS: Final = (
    "Imprimée le {date}, à l'heure de la borne.",
    "",
    "Accents : é è ê ë à â ç î ï ô ù û ü É È À Ç",
    "Ligatures : œuvre, cœur, Œ, æ, Æ",
    "Signes : 12,50 € ; n° 7 ; « guillemets » ; “ ” ‘ ’ ; – — …",
    "Chiffres : 0123456789",
    "",
    "Le cadre doit être complet, et les quatre carrés nets, du noir au gris clair.",
    "",
    "Cette page a été demandée par un technicien. Elle ne contient aucune donnée",
    "personnelle : vous pouvez la jeter.",
)
_GREYS: Final = (0.0, 0.3, 0.6, 0.85)  # 0 is black
# What compatibility decomposition leaves as it is.
_PLAIN: Final = str.maketrans(
    {"€": "EUR", "œ": "oe", "Œ": "OE", "æ": "ae", "Æ": "AE", "«": '"', "»": '"', "“": '"', "”": '"', "‘": "'", "’": "'",
     "–": "-", "—": "-", "°": "o"}
)  # fmt: skip


def page(formats: Collection[str], date: str, *, raw: bool) -> tuple[str, bytes]:
    """The format and the bytes for a queue. `raw`: it filters nothing, so that what it says it takes is not what its printer
    takes: then characters alone, which nearly every laser printer prints as they are. Raises ValueError where the queue takes
    neither."""
    words = [TITLE, "", *(line.format(date=date) for line in _WORDS)]
    if raw:
        return RAW, _ascii(words)
    if PDF in formats:
        return PDF, _pdf(words)
    if TEXT in formats:
        return TEXT, "\n".join([*words, ""]).encode()
    raise ValueError(f"the queue takes neither {PDF} nor {TEXT}")


def _ascii(words: list[str]) -> bytes:
    """Without accents: which code page a printer has is unknown. The form feed puts the sheet out."""
    text = unicodedata.normalize("NFKD", "\r\n".join([*words, "\f"]).translate(_PLAIN))
    return text.encode("ascii", "ignore")


def _pdf(words: list[str]) -> bytes:
    drawn = _drawing(words)
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %d %d] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>" % _A4_PT,
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawn), drawn),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    )
    document = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(document))
        document += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table_at = len(document)
    document += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    document += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    document += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table_at)
    return bytes(document)


def _drawing(words: list[str]) -> bytes:
    """A page's content: a frame at the margins, the words, four squares."""
    width, height = _A4_PT
    left, top = 2 * _MARGIN_PT, height - 3 * _MARGIN_PT
    parts = [b"1 w %d %d %d %d re S" % (_MARGIN_PT, _MARGIN_PT, width - 2 * _MARGIN_PT, height - 2 * _MARGIN_PT), b"BT"]
    for number, line in enumerate(words):
        size = 24 if number == 0 else 13
        shown = line.encode("cp1252")
        for special in (b"\\", b"(", b")"):
            shown = shown.replace(special, b"\\" + special)
        parts.append(b"/F1 %d Tf 1 0 0 1 %d %d Tm (%s) Tj" % (size, left, top - number * _LINE_PT, shown))
    parts.append(b"ET")
    below = top - (len(words) + 3) * _LINE_PT
    parts += [b"%.2f g %d %d 60 60 re f" % (grey, left + 90 * number, below) for number, grey in enumerate(_GREYS)]
    return b"\n".join(parts)
