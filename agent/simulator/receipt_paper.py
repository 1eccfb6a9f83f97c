"""The paper of an emulated receipt printer, and what is on it."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# ESC t n, as Epson numbers them.
CODE_PAGES: Final = {
    0: "cp437", 2: "cp850", 3: "cp860", 4: "cp863", 5: "cp865", 16: "cp1252", 18: "cp852", 19: "cp858", 40: "iso8859-15",
}  # fmt: skip
_PRINTS_UP_TO: Final = 20_000  # characters of paper that are kept
_ROLL_UP_TO: Final = 2_000  # lines of it
_WIDE: Final = 0x20
_CUT_HERE: Final = "- - - 8< - - -"

Row = list[tuple[str, int]]  # letters with their style
CUT: Final[Row] = [("", -1)]


@dataclass
class Typewriter:
    """How it prints what comes next: the code page, and the bits of ESC ! (08 bold, 10 high, 20 wide)."""

    page: str = "cp437"
    style: int = 0


class Paper:
    """`paper` is what was printed, as text; `roll` is the same as the eye sees it, line by line, with `CUT` where the cutter went.
    `columns` is its width: what is longer goes on in the next line. `on_row` is told each line when it is over, and each cut."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.typewriter = Typewriter()
        self.paper = ""
        self.roll: list[Row] = [[]]
        self.on_row: Callable[[Row], object] = lambda _: None
        self._later: tuple[int, Callable[[], object]] | None = None

    def after_lines(self, count: int, happens: Callable[[], object]) -> None:
        """In the middle of printing: when so many more lines are on the paper."""
        self._later = (count, happens)

    def print_text(self, text: bytes) -> None:
        """Letters, and at most one line feed, at the end."""
        letters = text.decode(self.typewriter.page, "replace")
        self.paper = (self.paper + letters)[-_PRINTS_UP_TO:]
        style = self.typewriter.style
        for letter in letters:
            if letter == "\n":
                self.feed(1)
            elif letter >= " ":
                if sum(_columns(other) for _, other in self.roll[-1]) + _columns(style) > self.columns:
                    self._next_row()
                self.roll[-1].append((letter, style))

    def feed(self, lines: int) -> None:
        for _ in range(lines):
            self._next_row()
            if self._later is not None:
                left, happens = self._later
                self._later = (left - 1, happens) if left > 1 else None
                if self._later is None:
                    happens()
        del self.roll[:-_ROLL_UP_TO]

    def cut(self) -> None:
        if self.roll[-1]:
            self._next_row()
        self.roll[-1:] = [CUT, []]
        self.on_row(CUT)

    def _next_row(self) -> None:
        self.on_row(self.roll[-1])
        self.roll.append([])


class TextOfRoll:
    """What comes out of the printer, as plain text: appended to `file` line by line, the newest lines kept in `lines`, and each
    handed to `on_line`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.lines: deque[str] = deque(maxlen=100)
        self.on_line: Callable[[str], object] = lambda _: None

    def row(self, row: Row) -> None:
        line = _CUT_HERE if row == CUT else "".join(letter for letter, _ in row).rstrip()
        with open(self.file, "a", encoding="utf-8") as text:
            text.write(line + "\n")
        self.lines.append(line)
        self.on_line(line)


def _columns(style: int) -> int:
    return 2 if style & _WIDE else 1
