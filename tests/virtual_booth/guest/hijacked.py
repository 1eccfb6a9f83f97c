"""Runs in the virtual booth in the agent's place, as its user and in its sandbox: what whoever took it over would try, against
root's `acts`, the `policy` or the `update`.

One JSON object a line: the attempt, its outcome, and whether anything was gained. It changes nothing for good, even where it can.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Final

from tests.virtual_booth.guest import grabs, loosening, replacing, wishes

Attempt = tuple[str, Callable[[], str | None]]  # returns what was gained; raises or returns None where nothing was

_ACTS: Final = Path("/run/booth-acts")


def attempts() -> Iterator[Attempt]:
    for request in wishes.REQUESTS:
        yield f"usb-reset of {request[:40]!r}", partial(_ask, "usb-reset", request)
    yield "free-disk more than four times", _too_often
    yield "a flood of all acts", _flood
    yield "replace an act's socket", lambda: grabs.done((_ACTS / "reboot.sock").unlink, "unlinked")
    yield "forget the last reboot", lambda: grabs.done(Path("/var/lib/booth-acts/reboot").unlink, "unlinked")
    yield from ((f"write {path}", partial(grabs.write, path)) for path in wishes.WRITES.split())
    yield from ((f"write /{pattern}", partial(grabs.any_of, pattern, grabs.write)) for pattern in wishes.WRITES_ANY.split())
    yield from ((f"put a file into {folder}", partial(grabs.put, Path(folder))) for folder in wishes.FOLDERS.split())
    yield from ((f"read {path}", partial(grabs.read, path)) for path in wishes.READS.split())
    yield from ((f"read /{pattern}", partial(grabs.any_of, pattern, grabs.read)) for pattern in wishes.READS_ANY.split())
    yield "read a waiting document whose name is guessed", grabs.guess
    yield "reset what is no printer", grabs.reset
    for command in wishes.COMMANDS.strip().replace("\n", "; ").split("; "):
        yield command, partial(grabs.run, *command.split())
    for call in wishes.CALLS.strip().splitlines():
        service, path, interface, *rest = call.split()
        name = "org.freedesktop."
        yield f"D-Bus {interface} {rest[0]}", partial(grabs.run, "busctl", "call", name + service, path, name + interface, *rest)
    for name, arguments in wishes.SYSTEM_CALLS.items():
        yield f"system call {name}", partial(grabs.call, *arguments)
    yield "a setuid file", grabs.setuid
    yield (
        "a disk's node of one's own",
        lambda: grabs.done(partial(os.mknod, grabs.OWN / "disk", 0o60600, os.makedev(254, 0)), "made"),
    )
    yield "memory that is written and run", grabs.run_memory
    yield (
        "a raw socket",
        lambda: grabs.done(partial(socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP), "opened"),
    )
    yield "a packet socket", lambda: grabs.done(partial(socket.socket, socket.AF_PACKET, socket.SOCK_RAW), "opened")
    yield "a port below 1024", grabs.low_port
    yield "systemd's private socket", partial(grabs.connect, "/run/systemd/private")
    yield "a signal to somebody else's process", grabs.signal_somebody
    yield "somebody else's process in /proc", grabs.see_somebody
    yield "a hundred children", grabs.breed
    yield "300 MiB of memory", grabs.grow


# --- acts ---


def _ask(act: str, request: bytes) -> str | None:
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(60)
        line.connect(str(_ACTS / f"{act}.sock"))
        with suppress(ConnectionError):  # it has read enough
            line.sendall(request)
        with suppress(OSError):
            line.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            answer = b"".join(iter(lambda: line.recv(4096), b""))
            return _verdict(answer)
    return None


def _verdict(answer: bytes) -> str | None:
    if answer and json.loads(answer)["done"]:
        return answer.decode()
    raise PermissionError(json.loads(answer)["code"] if answer else "hung up")


def _flood() -> str | None:
    """Two hundred connections to each, which say nothing or a wrong name, all held."""
    sockets = sorted(_ACTS.iterdir())
    with ExitStack() as stack:
        lines = []
        for number in range(200):
            for path in sockets:
                line = stack.enter_context(socket.socket(socket.AF_UNIX))
                line.settimeout(1)
                with suppress(OSError):
                    line.connect(str(path))
                    line.sendall(b"none\n" if number % 2 else b"x")
                    lines.append(line)
            while len(lines) > 400:
                lines.pop(0).close()
        time.sleep(1)
    return None


def _too_often() -> str | None:
    codes = []
    for _ in range(6):
        try:
            codes.append("done" if _ask("free-disk", b"board\n") else "")
        except PermissionError as refused:
            codes.append(str(refused))
    if codes.count("done") > 4:
        return " ".join(codes)
    raise PermissionError(" ".join(codes))


def row(attempt: Attempt) -> str:
    name, make = attempt
    try:
        gained = make()
    except Exception as error:  # noqa: BLE001 - whatever stops an attempt is its outcome
        return json.dumps({"attempt": name, "outcome": f"{type(error).__name__}: {error}", "gained": False})
    return json.dumps({"attempt": name, "outcome": gained or "nothing", "gained": gained is not None})


def main() -> None:
    for attempt in {"acts": attempts, "policy": loosening.attempts, "update": replacing.attempts}[sys.argv[1]]():
        print(row(attempt), flush=True)


if __name__ == "__main__":
    main()
