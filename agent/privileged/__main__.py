"""`booth-act NAME`: one line with a slot's name in, the act or a refusal, one line of JSON out. systemd starts it for each
connection to `/run/booth-acts/NAME.sock`.

The options stand in the unit, or in a test. Of the client nothing is used but that name, and only where it is a key of the list.
"""

import argparse
import os
import re
import select
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent.contract.words import printable
from agent.privileged import limits, slots, verdict
from agent.privileged.acts import ACTS, Act
from agent.privileged.machine import Machine
from agent.privileged.verdict import Code, Ended

_LINE_S: Final = 5.0
_LINE_LIMIT: Final = 65  # bytes: a name of 64, and the end of the line
_QUIET: Final = ("bad-request", "unknown-slot", "rate-limited")  # a flood of them must not fill the journal


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _leave)  # so that what was switched off is switched on again
    slot: str | None = None
    code: Code = "done"
    detail: str | None = None
    try:
        slot = _read_slot()
        _do(ACTS[options.act], options, slot)
    except Ended as ended:
        code, detail = ended.code, ended.detail
    except OSError as error:
        code, detail = "failed", ": ".join(str(part) for part in (error.filename, error.strerror) if part)
    if detail is not None:
        detail = printable(detail)  # a tool or a device may have worded it
    if code not in _QUIET:
        sys.stderr.write(f"<5>{options.act} {slot}: {code}{f' ({detail})' if detail else ''}\n")  # sd-daemon(3): notice
    with suppress(OSError):  # nobody waits any more
        os.write(sys.stdout.fileno(), verdict.line(options.act, slot, code, detail))
    return 0


def _do(act: Act, options: argparse.Namespace, slot: str) -> None:
    root: Path = options.root
    table = slots.load(options.slots or root / "etc/booth-agent/slots.toml")
    if not any(slot in getattr(table, name) for name in act.tables):
        raise Ended("unknown-slot", f"not in the list of {' or '.join(act.tables)}")
    if act.lasting:
        count = (options.state or root / "var/lib/booth-acts") / options.act
    else:
        count = (options.run or root / "run/booth-act-limits") / options.act / slot
    limits.take(count, act.limit, time.time(), lasting=act.lasting)
    act.run(Machine(root), table, slot)


def _read_slot() -> str:
    """The client's line. Raises Ended for anything but a name and the end of the line, and for none in time."""
    line = b""
    until_s = time.monotonic() + _LINE_S
    while b"\n" not in line and len(line) < _LINE_LIMIT:
        readable, _, _ = select.select([sys.stdin.fileno()], [], [], max(0.0, until_s - time.monotonic()))
        if not readable:
            raise Ended("bad-request", f"no whole line within {_LINE_S:g} s")
        try:
            data = os.read(sys.stdin.fileno(), _LINE_LIMIT)
        except OSError as error:
            raise Ended("bad-request", f"the line cannot be read: {error.strerror}") from error
        if not data:
            break
        line += data
    if not re.fullmatch(rb"[a-z0-9-]{1,64}\n", line):
        raise Ended("bad-request", "write the peripheral's name, and the end of the line")
    return line[:-1].decode("ascii")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="booth-act", description="One privileged act, as systemd starts it for a connection.")
    parser.add_argument("act", choices=ACTS, metavar="NAME", help=", ".join(ACTS))
    parser.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="where everything lies (/)")
    parser.add_argument("--slots", type=Path, metavar="FILE", help="the list (ROOT/etc/booth-agent/slots.toml)")
    parser.add_argument("--state", type=Path, metavar="DIR", help="counts that outlive a reboot (ROOT/var/lib/booth-acts)")
    parser.add_argument("--run", type=Path, metavar="DIR", help="counts that do not (ROOT/run/booth-act-limits)")
    return parser


def _leave(number: int, _frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
