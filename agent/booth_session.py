"""`booth-session COMMAND…`: run a kiosk application that knows nothing of the session lock, with the lock held.

Contract §12. While the command runs, the agent opens, prints, scans and films nothing. The command ends with its wrapper,
however that ends: without the wrapper nobody holds the lock.
"""

import argparse
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from agent.contract.words import printable
from agent.system.session import LOCK_NAME, open_lock, try_lock

# Not RUNTIME_DIRECTORY: in the kiosk's unit, systemd names the kiosk's own folder there, and the agent locks elsewhere.
RUNTIME_DIR: Final = Path("/run/booth-agent")
WIPE_SOCKET: Final = Path("/run/booth-acts/wipe-session.sock")
PATIENCE_S: Final = 60.0  # for a check of the agent's; a citizen waits no longer
_TRY_EVERY_S: Final = 0.1
_WIPED_S: Final = 60.0  # systemd/booth-act-wipe-session@.service takes less
_WIPE_AGAIN_S: Final = 1.0
_EXIT_NO_LOCK: Final = 1
_EXIT_NOT_FOUND: Final = 127  # as shells say it
_EXIT_NOT_EXECUTABLE: Final = 126
_PASSED_ON: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_VERDICT_LIMIT: Final = 4096  # bytes
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Exit status: the command's, as shells count it; 1 without a lock file."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not options.command:
        parser.error("name the command to run")
    try:
        descriptor = open_lock(options.runtime_dir, create=False)
    except OSError as error:
        place = options.runtime_dir / LOCK_NAME
        print(f"booth-session: {place}: {error.strerror}. `systemd-tmpfiles --create booth-agent.conf` makes it, and the user "
              "must be in the group booth-session. Name another directory with --runtime-dir DIR", file=sys.stderr)  # fmt: skip
        return _EXIT_NO_LOCK
    # The citizen comes first: after the contract's minute the command starts, and the lock is taken when it can be.
    locked = _lock(descriptor, options.wait_s)
    if not locked:
        print("booth-session: the agent holds the session lock for over a minute; starting without it", file=sys.stderr)
    status = _run(options.command, (lambda: True) if locked else lambda: try_lock(descriptor))
    os.close(descriptor)  # root takes the lock while it wipes
    _wipe(options.wipe_socket)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="booth-session", description=__doc__)
    parser.add_argument(
        "--runtime-dir", type=Path, default=RUNTIME_DIR, metavar="DIR", help=f"where session.lock is ({RUNTIME_DIR})"
    )
    parser.add_argument("--wait", dest="wait_s", type=float, default=PATIENCE_S, metavar="SECONDS", help="for the agent (60)")
    parser.add_argument("--wipe-socket", type=Path, default=WIPE_SOCKET, metavar="FILE", help=f"root's act ({WIPE_SOCKET})")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND…", help="the application and its arguments")
    return parser


def _lock(descriptor: int, patience_s: float) -> bool:
    end_s = time.monotonic() + patience_s
    while not try_lock(descriptor):
        if time.monotonic() >= end_s:
            return False
        time.sleep(_TRY_EVERY_S)
    return True


def _run(command: Sequence[str], take_lock: Callable[[], bool]) -> int:
    child = _Child()
    try:
        process = child.start(command)
    except FileNotFoundError:
        print(f"booth-session: there is no command {command[0]}", file=sys.stderr)
        return _EXIT_NOT_FOUND
    except OSError as error:
        print(f"booth-session: {command[0]}: {error.strerror}", file=sys.stderr)
        return _EXIT_NOT_EXECUTABLE
    locked = take_lock()
    while True:
        try:
            status = process.wait(None if locked else 1.0)
        except subprocess.TimeoutExpired:
            locked = take_lock()
        else:
            return status if status >= 0 else 128 - status


def _wipe(door: Path) -> None:
    """Have root delete what the session left. Where nobody listens, this is no booth that wipes."""
    until_s = time.monotonic() + _WIPED_S
    code = "refused"
    while code == "refused" and time.monotonic() < until_s:  # the agent's own checks take the lock for a moment
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(max(_WIPE_AGAIN_S, until_s - time.monotonic()))
                connection.connect(str(door))
                connection.sendall(b"session\n")
                # Root stops the kiosk's unit to wipe: whoever waits here in it must not keep it.
                for number in _PASSED_ON:
                    if signal.getsignal(number) is not signal.SIG_IGN:
                        signal.signal(number, signal.SIG_DFL)
                verdict = connection.makefile("rb").readline(_VERDICT_LIMIT)
            code = json.loads(verdict)["code"] if verdict else "refused"  # systemd hangs up while another one is served
        except (FileNotFoundError, ConnectionRefusedError):
            return
        except (OSError, ValueError, TypeError, LookupError):
            code = "failed"
        if code == "refused":
            time.sleep(_WIPE_AGAIN_S)
    if code != "done":
        print(f"booth-session: what the session left may not be wiped ({printable(str(code))})", file=sys.stderr)


class _Child:
    """The command. Signals are its own from before it starts; one that comes too early is kept for it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []
        self._prctl = ctypes.CDLL(None).prctl  # looked up here: between fork and exec there is little that may be done

    def start(self, command: Sequence[str]) -> "subprocess.Popen[bytes]":
        """Raises OSError."""
        wrapper = os.getpid()
        ignored = {number for number in _PASSED_ON if signal.getsignal(number) is signal.SIG_IGN}
        for number in _PASSED_ON:
            signal.signal(number, self._pass_on)

        def leave_with_the_wrapper() -> None:
            for number in _PASSED_ON:
                signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
            self._prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != wrapper:  # it ended just before
                os.kill(os.getpid(), signal.SIGKILL)

        # The lock is close-on-exec: no child keeps it. There is one thread, which is what preexec_fn asks for.
        self._process = subprocess.Popen(command, preexec_fn=leave_with_the_wrapper)  # noqa: PLW1509
        for early in self._early:
            self._process.send_signal(early)
        return self._process

    def _pass_on(self, number: int, _frame: object) -> None:
        if self._process is None:
            self._early.append(number)
        else:
            self._process.send_signal(number)


if __name__ == "__main__":
    sys.exit(main())
