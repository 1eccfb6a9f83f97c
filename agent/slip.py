"""`booth-agent slip`: a few printed lines, so that an installer sees paper, accents and the cutter with her own eyes."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.devices.lines import LineAddress
from agent.devices.receipt_printing import NotPrinted, Paper, print_on
from agent.devices.sysfs import KernelFiles
from agent.devices.workers import Workers
from agent.settings import PeripheralSettings
from agent.system.session import LOCK_NAME, open_lock, try_lock
from agent.ticket.paragraphs import plain_paragraphs
from agent.ticket.slip import slip

KIND: Final = "receipt-printer"


async def print_slip(
    item: PeripheralSettings,
    booth_id: str,
    runtime_dir: Path,
    files: KernelFiles,
    *,
    code_pages: bool = False,
    anyway: bool = False,
) -> None:
    """Wait until it came out. `code_pages`: a line of French in each of the model's code pages, instead. `anyway`: also where
    nothing tells whether a citizen is there; never where one is. Raises NotPrinted."""
    paper = Paper(LineAddress.parse(item.options.device), item.options.profile, item.options.page)
    paragraphs = None if code_pages else plain_paragraphs(slip(booth_id))
    workers = Workers()
    with _nobody_there(runtime_dir, anyway=anyway):
        try:
            await print_on(workers, item.name, paper, files, paragraphs)
        except NotPrinted as failure:
            raise NotPrinted(_explained(failure, paper.address), sent=failure.sent) from failure
        finally:
            workers.close()


@contextlib.contextmanager
def _nobody_there(runtime_dir: Path, *, anyway: bool) -> Iterator[None]:
    """Holds the session lock. It is the agent's to make: one made here would be a lock that no citizen's application holds."""
    try:
        session = open_lock(runtime_dir, create=False)
    except OSError as error:
        if not anyway:
            raise NotPrinted(
                f"nobody knows whether a citizen uses the booth: {runtime_dir / LOCK_NAME}: {error.strerror}; name the agent's "
                "directory with --runtime-dir DIR, or, where you see that nobody is there, add --anyway"
            ) from error
        yield
        return
    try:
        if not try_lock(session):
            raise NotPrinted("a citizen uses the booth; try again afterwards")
        yield
    finally:
        os.close(session)


def _explained(failure: NotPrinted, address: LineAddress) -> str:
    said = str(failure)
    if failure.status is not None:
        said += f" ({', '.join(f'{name} {value}' for name, value in failure.status.items() if value not in (None, False))})"
        return f"{said}: `booth-agent probe` names what is wrong"
    held = "another process" in said and address.scheme != "tcp"
    return f"{said} (the running agent holds a serial or USB printer: stop it first)" if held else said
