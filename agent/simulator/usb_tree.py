"""A USB printer in a tree like the kernel's: plugged and unplugged below any root."""

import shutil
from pathlib import Path
from typing import Final

_DEVICES: Final = "sys/bus/usb/devices"


def plug(
    root: Path,
    path: str,
    serial: str,
    *,
    ids: str = "04f9:0054",
    maker: str = "Brother",
    model: str = "HL-L2310D",
    interface_class: str = "07",
) -> None:
    """A device at a port such as `1-1.2`, with one interface; 07 is the printer class."""
    folder = root / _DEVICES / path
    interface = folder / f"{path}:1.0"
    interface.mkdir(parents=True, exist_ok=True)
    vendor_id, _, product_id = ids.partition(":")
    texts = {"idVendor": vendor_id, "idProduct": product_id, "manufacturer": maker, "product": model, "serial": serial}
    for name, text in texts.items():
        (folder / name).write_text(f"{text}\n")
    (interface / "bInterfaceClass").write_text(f"{interface_class}\n")


def unplug(root: Path, path: str) -> None:
    """The bus stays."""
    shutil.rmtree(root / _DEVICES / path)
