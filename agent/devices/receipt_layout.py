"""Text onto the paper of a receipt printer: letters that its code page has, and lines that break between words. Pure."""

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

WIDE: Final = 42  # columns of a roll of 80 mm; one of 58 mm has 32
LINES_AT_MOST: Final = 200  # nearly a metre of paper

_GLUE: Final = "\u00a0"  # a space that no line breaks at; printed as a plain one
_SPACES: Final = frozenset("\u00a0\u202f\u2007")
_SPELLED: Final = {
    "œ": "oe", "Œ": "OE", "æ": "ae", "Æ": "AE", "ß": "ss", "€": "EUR", "…": "...", "’": "'", "‘": "'", "‚": ",", "“": '"',
    "”": '"', "„": '"', "«": '"', "»": '"', "‹": "'", "›": "'", "–": "-", "—": "-", "‑": "-", "−": "-", "•": "-",
    "·": ".", "×": "x",
}  # fmt: skip
_UNKNOWN: Final = "?"


def laid_out(paragraphs: Iterable[Mapping[str, Any]], columns: int, has: Callable[[str], bool]) -> list[tuple[str, str]]:
    """The lines as (style, text), none longer than the paper is wide.

    A paragraph has `text`, `style` (`plain`, `strong`, `large` of two columns a letter, `rule` for a line across), and `hang`:
    so many columns its further lines are moved in. `has` says whether the printer has a letter that is not ASCII.
    """
    lines: list[tuple[str, str]] = []
    for paragraph in paragraphs:
        style = paragraph["style"]
        if style == "rule":
            lines.append(("plain", "-" * columns))
            continue
        room = columns // 2 if style == "large" else columns
        lines += [(style, line) for line in wrapped(spelled(paragraph["text"], has), room, paragraph["hang"])]
    return lines[:LINES_AT_MOST]


def spelled(text: str, has: Callable[[str], bool]) -> str:
    """The text in letters that the printer has. No control character is in it, whatever was in `text`."""
    return "".join(_letter(letter, has) for letter in unicodedata.normalize("NFC", text))


def _letter(letter: str, has: Callable[[str], bool]) -> str:
    if letter in _SPACES:
        return _GLUE
    if letter.isascii():
        return letter if letter.isprintable() else _UNKNOWN
    if letter.isprintable() and has(letter):
        return letter
    if letter in _SPELLED:
        return _SPELLED[letter]
    bare = [part for part in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(part)]
    return "".join(bare) if bare and all(part.isascii() and part.isprintable() for part in bare) else _UNKNOWN


def wrapped(text: str, columns: int, hang: int = 0) -> list[str]:
    """Lines of at most `columns`; only a word that is longer than a line is cut. An empty text is an empty line."""
    indent = " " * min(hang, columns - 1)
    lines: list[str] = []
    line, begun = "", False
    for word in filter(None, text.split(" ")):
        if begun and len(line) + 1 + len(word) > columns:
            lines.append(line)
            line, begun = indent, False
        line += f" {word}" if begun else word
        begun = True
        while len(line) > columns:
            lines.append(line[:columns])
            line = indent + line[columns:]
    return [each.replace(_GLUE, " ") for each in (*lines, line)]
