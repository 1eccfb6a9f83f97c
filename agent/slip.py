"""`booth-agent slip`: a few printed lines, so that an installer sees paper, accents and the cutter with her own eyes."""

from pathlib import Path
from typing import Final

from agent.devices import usb
from agent.devices.lines import LineAddress
from agent.devices.sysfs import KernelFiles
from agent.devices.workers import WorkerFailed, Workers
from agent.settings import PeripheralSettings
from agent.system.session import SessionLock

_DEADLINE_S: Final = 30.0
KIND: Final = "receipt-printer"


class NotPrinted(Exception):
    """Why no slip came out, and what to do."""


async def print_slip(item: PeripheralSettings, booth_id: str, runtime_dir: Path, files: KernelFiles) -> None:
    """Raises NotPrinted."""
    address = LineAddress.parse(item.options.device)
    request = {"place": _place(address, files), "profile": item.options.profile, "lines": slip_lines(booth_id)}
    workers = Workers()
    with SessionLock(runtime_dir).taken() as ours:
        if not ours:
            raise NotPrinted("a citizen uses the booth; try again afterwards")
        try:
            answer = await workers.call(item.name, "agent.devices.receipt_text:print_lines", request, _DEADLINE_S)
        except WorkerFailed as error:
            raise NotPrinted(f"{error}") from error
        finally:
            workers.close()
    if "error" in answer:
        held = " (the running agent holds a serial or USB printer: stop it first)" if address.scheme != "tcp" else ""
        raise NotPrinted(f"{answer['error']}{held}")


def slip_lines(booth_id: str) -> list[str]:
    """At most 32 columns: the narrowest paper."""
    return [
        f"Borne {booth_id}",
        "Essai d'impression",
        "",
        "éèêëàâäîïôöùûüÿç ÉÈÀÇ",
        "œ Œ æ Æ « » € – — … ’",
        "Si ces lignes se lisent bien,",
        "l'imprimante est bien réglée.",
        "",
    ]


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
