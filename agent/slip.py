"""`booth-agent slip`: a few printed lines, so that an installer sees paper, accents and the cutter with her own eyes."""

from pathlib import Path
from typing import Final

from agent.devices.lines import LineAddress
from agent.devices.receipt_printing import NotPrinted, Paper, print_on
from agent.devices.sysfs import KernelFiles
from agent.devices.workers import Workers
from agent.settings import PeripheralSettings
from agent.system.session import SessionLock
from agent.ticket.paragraphs import plain_paragraphs
from agent.ticket.slip import slip

KIND: Final = "receipt-printer"


async def print_slip(
    item: PeripheralSettings, booth_id: str, runtime_dir: Path, files: KernelFiles, *, code_pages: bool = False
) -> None:
    """Wait until it came out. `code_pages`: a line of French in each of the model's code pages, instead. Raises NotPrinted."""
    paper = Paper(LineAddress.parse(item.options.device), item.options.profile, item.options.page)
    paragraphs = None if code_pages else plain_paragraphs(slip(booth_id))
    workers = Workers()
    with SessionLock(runtime_dir).taken() as ours:
        if not ours:
            raise NotPrinted("a citizen uses the booth; try again afterwards")
        try:
            await print_on(workers, item.name, paper, files, paragraphs)
        except NotPrinted as failure:
            raise NotPrinted(_explained(failure, paper.address), sent=failure.sent) from failure
        finally:
            workers.close()


def _explained(failure: NotPrinted, address: LineAddress) -> str:
    said = str(failure)
    if failure.status is not None:
        said += f" ({', '.join(f'{name} {value}' for name, value in failure.status.items() if value not in (None, False))})"
        return f"{said}: `booth-agent probe` names what is wrong"
    held = "another process" in said and address.scheme != "tcp"
    return f"{said} (the running agent holds a serial or USB printer: stop it first)" if held else said
