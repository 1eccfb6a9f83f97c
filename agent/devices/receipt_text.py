"""Lines of text on a receipt printer, by python-escpos: only ever in a worker.

It is slow to import (a quarter of a second, 22 MiB), leaves a folder behind at each import, sets up logging, and a
write to a printer that takes no bytes has no deadline. All of that ends with the worker.
"""

import importlib
import tempfile
from typing import Any, Final

_TIMEOUT_S: Final = 10


def print_lines(request: dict[str, Any]) -> dict[str, Any]:
    """Print `lines`, then cut.

    `place` is `["tcp", host, port]`, `["serial", path, baud]` or `["file", path]`; `profile` names the model among
    python-escpos's, which know its code pages. Answers with the number of `lines`, or why there are none: `error`.
    """
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder  # python-escpos makes one of its own at import, and forgets it
        capabilities = importlib.import_module("escpos.capabilities")
        if request["profile"] not in capabilities.CAPABILITIES["profiles"]:
            known = ", ".join(sorted(capabilities.CAPABILITIES["profiles"]))
            return {"error": f"unknown profile {request['profile']!r}; write one of {known}"}
        try:
            _print(request["place"], request["profile"], request["lines"])
        except OSError as error:
            return {"error": error.strerror or type(error).__name__}
        except importlib.import_module("escpos.exceptions").Error as error:
            return {"error": f"{error}".strip() or type(error).__name__}
    return {"lines": len(request["lines"])}


def _print(place: list[Any], profile: str, lines: list[str]) -> None:
    printers = importlib.import_module("escpos.printer")
    way, where, *rest = place
    if way == "tcp":
        printer = printers.Network(where, port=rest[0], timeout=_TIMEOUT_S, profile=profile)
    elif way == "serial":
        printer = printers.Serial(where, baudrate=rest[0], timeout=_TIMEOUT_S, dsrdtr=False, profile=profile)
    else:
        printer = printers.File(where, profile=profile)
    try:
        printer.open()
        printer.hw("INIT")
        for line in lines:
            printer.textln(line)
        printer.cut()
    finally:
        printer.close()
