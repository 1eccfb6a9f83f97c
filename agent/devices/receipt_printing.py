"""Printing on a receipt printer, from the daemon's side: one worker for one document, and no word of python-escpos here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.devices import usb
from agent.devices.lines import LineAddress
from agent.devices.sysfs import KernelFiles
from agent.devices.workers import WorkerFailed, Workers

LONGEST_S: Final = 30.0  # of one document, with the start of the worker on an old board
_JOB: Final = "agent.devices.receipt_text:print_document"


class NotPrinted(Exception):
    """It did not come out, or nobody can tell. The message holds nothing of the document.

    `sent`: some of it may come out yet. `status`: what the printer said of itself then, if anything.
    """

    def __init__(self, message: str, *, sent: bool = False, status: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.sent = sent
        self.status = status


@dataclass(frozen=True)
class Paper:
    """The printer, as a worker has to know it. `profile` and `page` are python-escpos's names; no page: the best that it has."""

    address: LineAddress
    profile: str
    page: str | None


async def print_on(workers: Workers, name: str, paper: Paper, files: KernelFiles, paragraphs: list[Any] | None) -> str:
    """Print, cut, and wait until it came out; returns what says so: `GS r` or `DLE EOT`. Without `paragraphs`, the model's code
    pages. Nobody else may have the line open. Raises NotPrinted."""
    request = {"place": _place(paper.address, files), "profile": paper.profile, "page": paper.page, "paragraphs": paragraphs}
    try:
        answer = await workers.call(name, _JOB, request, LONGEST_S)
    except WorkerFailed as error:  # what a dying library said is not repeated: it may have been about the document
        raise NotPrinted(f"{error.code}: the worker that prints did not end well", sent=True) from error
    if "error" in answer:
        raise NotPrinted(str(answer["error"]), sent=answer.get("sent", False))
    if answer["by"] is None:
        if answer["status"] is None:
            raise NotPrinted("the printer does not answer: switch it off and on again", sent=answer["sent"])
        raise NotPrinted("the printer is not ready", sent=answer["sent"], status=answer["status"])
    return str(answer["by"])


def _place(address: LineAddress, files: KernelFiles) -> list[object]:
    if address.scheme == "tcp":
        return ["tcp", address.place[0], int(address.place[1])]
    if address.scheme == "serial":
        return ["serial", address.place[0], address.baud]
    device = usb.find(files, *address.place)
    node = None if device is None else usb.printer_node(files, device)
    if node is None:
        raise NotPrinted("the printer is not plugged in, or the kernel's usblp driver does not have it")
    return ["file", str(files.path(node))]
