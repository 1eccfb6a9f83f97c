"""`booth-lockdown`: root's part of the policy. `apply` at boot, before the kiosk; `check` from time to time, and when a file that
it watches changes; `serve` for each document that the daemon hands over; `show` what was measured last; `undo` before it is
removed.

`serve` reads a line of JSON (`kind`, `layer`, `bytes`) and the envelope from its standard input, and writes one report a line.
"""

import argparse
import fcntl
import json
import os
import select
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from agent.contract.decode import BadJson, decode_object, encode
from agent.contract.envelope import MAX_ENVELOPE_BYTES
from agent.contract.typed import Invalid, build
from agent.privileged.keeping import REPORT, RUN, Lockdown, Request
from agent.privileged.machine import Machine
from agent.privileged.verdict import Ended

_READ_S: Final = 10.0
_TURN_S: Final = 30.0
_HEADER_BYTES: Final = 4096


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="booth-lockdown", description="Root's part of the policy.")
    parser.add_argument("act", choices=("apply", "check", "serve", "show", "undo"))
    parser.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="where everything lies (/)")
    options = parser.parse_args(arguments)
    machine = Machine(options.root)
    if options.act == "show":
        return _show(machine)
    try:
        asked = _read() if options.act == "serve" else None  # before the lock: a client that is slow keeps nobody else
        with _alone(machine):
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


def _read() -> tuple[Request, bytes]:
    """The daemon's question. Raises Ended for anything else, and for none in time."""
    data = b""
    request: Request | None = None
    until_s = time.monotonic() + _READ_S
    while request is None or len(data) < min(request.bytes, MAX_ENVELOPE_BYTES + 1):
        readable, _, _ = select.select([sys.stdin.fileno()], [], [], max(0.0, until_s - time.monotonic()))
        chunk = os.read(sys.stdin.fileno(), 65536) if readable else b""
        if not chunk:
            raise Ended("bad-request", "write a line of JSON, and as many bytes as it says")
        data += chunk
        if request is None and b"\n" in data[:_HEADER_BYTES]:
            line, _, data = data.partition(b"\n")
            try:
                request = build(Request, decode_object(line, _HEADER_BYTES))
            except (BadJson, Invalid) as error:
                raise Ended("bad-request", str(error)) from error
        elif request is None and len(data) > _HEADER_BYTES:
            raise Ended("bad-request", "the first line is too long")
    return request, data[: request.bytes][: MAX_ENVELOPE_BYTES + 1]


@contextmanager
def _alone(machine: Machine) -> Iterator[None]:
    """One at a time. Raises BlockingIOError where another one goes on for longer."""
    folder = machine.path(RUN)
    folder.mkdir(parents=True, exist_ok=True)
    with open(os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "rb") as lock:
        until_s = time.monotonic() + _TURN_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until_s:
                    raise
                time.sleep(0.2)
        yield


if __name__ == "__main__":
    sys.exit(main())
