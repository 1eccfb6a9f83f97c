"""`booth-lockdown`: root's part of the policy. `apply` at boot, before the kiosk; `check` from time to time, and when a file that
it watches changes; `serve` for each document that the daemon hands over; `show` what was measured last; `undo` before it is
removed.

`serve` reads a line of JSON (`kind`, `layer`, `bytes`) and the envelope from its standard input, and writes one report a line.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from agent.contract.decode import encode
from agent.privileged.asked import alone, read
from agent.privileged.keeping import REPORT, RUN, Lockdown, Request
from agent.privileged.machine import Machine
from agent.privileged.verdict import Ended


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="booth-lockdown", description="Root's part of the policy.")
    parser.add_argument("act", choices=("apply", "check", "serve", "show", "undo"))
    parser.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="where everything lies (/)")
    options = parser.parse_args(arguments)
    machine = Machine(options.root)
    if options.act == "show":
        return _show(machine)
    try:
        asked = read(Request) if options.act == "serve" else None  # before the lock: a client that is slow keeps nobody else
        with alone(machine.path(RUN)):
            return _run(machine, options.act, asked)
    except BlockingIOError:
        return 0  # a document is on trial, which is measured at its end
    except (Ended, OSError) as error:
        sys.stderr.write(f"booth-lockdown: {error}\n")
        return 1


def _run(machine: Machine, act: str, asked: tuple[Request, bytes] | None) -> int:
    lockdown = Lockdown(machine)
    for problem in lockdown.problems:
        sys.stderr.write(f"<4>{problem}\n")  # sd-daemon(3): warning
    if asked is not None:
        for report in lockdown.take(*asked):
            with suppress(BrokenPipeError):  # whoever asked may be gone; what was begun is brought to its end
                os.write(sys.stdout.fileno(), encode(report) + b"\n")
        return 0
    if act == "undo":
        failed = lockdown.undo()
        for name, why in failed.items():
            sys.stderr.write(f"booth-lockdown: {name} was not undone: {why}\n")
        return 1 if failed else 0
    report = lockdown.apply() if act == "apply" else lockdown.check()
    for name in report.get("drift", ()):
        sys.stderr.write(f"<4>{name} was not as the policy says\n")
    for name, rule in report["rules"].items():
        if rule["measured"] == "violated":
            sys.stderr.write(f"<4>{name}: {rule['detail']}\n")
    return 0


def _show(machine: Machine) -> int:
    try:
        sys.stdout.write(json.dumps(json.loads((machine.path(RUN) / REPORT).read_text()), indent=1) + "\n")
    except (OSError, ValueError):
        sys.stderr.write("booth-lockdown: nothing was applied since the start of the machine\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
