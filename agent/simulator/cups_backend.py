"""A backend of CUPS that follows a control file: the printer behind a simulated queue (cups-backend(7)).

Copied beside the control file `printer.json` and run by cupsd, so it imports nothing of ours.
"""

import hashlib
import json
import os
import pathlib
import signal
import sys
import time

CONTROL = pathlib.Path(__file__).resolve().parent / "printer.json"


def say(line: str) -> None:
    """A message to cupsd."""
    os.write(2, f"{line}\n".encode())


def main() -> int:
    """Exit status 0 once the page is out, 1 where the printer failed."""
    if len(sys.argv) == 1:  # cupsd asks what devices there are
        return 0
    said: set[str] = set()
    levels = None
    if json.loads(CONTROL.read_text())["takes_back"]:
        say("STATE: none")  # what the backend before this one said may have been mended meanwhile
    while True:
        printer = json.loads(CONTROL.read_text())
        wanted = set(printer["reasons"])
        for reason in sorted(wanted - said):
            say(f"STATE: +{reason}")
        for reason in sorted(said - wanted) if printer["takes_back"] else ():
            say(f"STATE: -{reason}")
        said = wanted
        if printer["levels"] != levels:
            levels = printer["levels"]
            names = ",".join(name.replace(" ", "\\ ") for name in (printer["toner"], "Bac de toner usagé"))
            say(f"ATTR: marker-names={names} marker-types=toner,waste-toner marker-colors=#000000,none")
            say(f"ATTR: marker-levels={levels},-3")
        if printer["message"]:
            say(f"ERROR: {printer['message']}")
        if printer["crashes"]:
            os.kill(os.getpid(), signal.SIGSEGV)
        if printer["fails"]:
            return 1
        if not printer["waits"]:
            break
        time.sleep(0.02)
    time.sleep(printer["page_s"])
    say("PAGE: 1 1")
    with open(sys.argv[6], "rb") if len(sys.argv) > 6 else sys.stdin.buffer as document:
        digest = hashlib.sha256(document.read()).hexdigest()
    with open(CONTROL.with_name("sheets"), "a") as sheets:
        sheets.write(f"{sys.argv[1]} {sys.argv[4]} {digest}\n")
    with open(CONTROL.with_name("printed"), "a") as tray:
        tray.write(f"{sys.argv[1]}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
