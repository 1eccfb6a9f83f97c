"""How an act of `boothctl` ends and what it prints: the exit statuses, failures in words, JSON or a page."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent.contract.documents import Refusal
from agent.contract.words import printable

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_NO_ANSWER = 0, 1, 2, 3

_LINE: Final = 400


class Failed(Exception):
    """An act that ends here; each line says what is wrong or what to do."""

    def __init__(self, *lines: str, status: int = EXIT_FAILED) -> None:
        super().__init__(*lines)
        self.lines = lines
        self.status = status


def refused(refusal: Refusal, what: object = "") -> Failed:
    """What a booth would refuse, with every reason; `what` is the file that it stands in."""
    reasons = [str(problem) for problem in refusal.problems] or [refusal.message]
    return Failed(*(f"{what}: {refusal.code}: {reason}" if what else f"{refusal.code}: {reason}" for reason in reasons))


def note(text: str) -> None:
    """A line beside the output, harmless whatever it holds."""
    print(f"boothctl: {printable(text, _LINE)}", file=sys.stderr)


def show(options: argparse.Namespace, data: object, page: Callable[[], str]) -> None:
    # ASCII: JSON leaves some control characters as they are, and a terminal may obey them.
    print(json.dumps(data, indent=1) if options.json else page())


def read_file(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Failed(f"{file}: {error.strerror}") from error


def write(options: argparse.Namespace, data: bytes, words: str, about: dict[str, object]) -> None:
    """To the file `-o`, with a line about it; without one to standard output, with the line beside it."""
    text = data.decode().rstrip("\n") + "\n"
    if options.out is None:
        sys.stdout.write(text)
        note(words)
        return
    try:
        options.out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failed(f"{options.out}: {error.strerror}") from error
    show(options, {"file": str(options.out)} | about, lambda: printable(words, _LINE))


def usage(text: str) -> Failed:
    """What the parser of the command line cannot see."""
    return Failed(text, status=EXIT_USAGE)
