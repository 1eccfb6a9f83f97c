"""What an attempt of `hijacked` does: each returns what it gained, and raises or returns None where that is nothing."""

import ctypes
import mmap
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

OWN: Final = Path("/var/lib/booth-agent")


def done(act: Callable[[], object], gained: str) -> str:
    act()
    return gained


# --- files ---


def write(path: str | Path) -> str:
    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY))
    return "opened"


def put(folder: Path) -> str:
    file = folder / "taken"
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    file.unlink()
    return "made"


def read(path: str | Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    os.close(descriptor)
    return "opened"


def each(paths: list[Path], way: Callable[[Path], str]) -> str | None:
    """What of them can be had, if any can. Raises what the last one raised."""
    gained, trouble = [], OSError("nothing of that name can be seen")
    for path in paths:
        try:
            way(path)
        except OSError as error:
            trouble = error
        else:
            gained.append(str(path))
    if gained:
        return " ".join(gained[:5])
    raise trouble


def any_of(pattern: str, way: Callable[[Path], str]) -> str | None:
    return each(sorted(Path("/").glob(pattern)), way)


def guess() -> str | None:
    return each([Path(f"/var/spool/cups/d{job:05}-001") for job in range(1, 100)], read)


def reset() -> str | None:
    """USBDEVFS_RESET needs a node that may be written to."""
    printers = {
        file.parent.name.partition(":")[0]
        for file in Path("/sys/bus/usb/devices").glob("*/bInterfaceClass")
        if file.read_text().strip() == "07"
    }
    nodes = []
    for device in Path("/sys/bus/usb/devices").iterdir():
        if (device / "busnum").exists() and device.name not in printers:
            bus, number = (int((device / name).read_text()) for name in ("busnum", "devnum"))
            nodes.append(Path(f"/dev/bus/usb/{bus:03}/{number:03}"))
    return each(nodes, write)


# --- programs and the kernel ---


def run(*command: str) -> str | None:
    environment = os.environ | {"SYSTEMD_EDITOR": "true", "PATH": "/usr/sbin:/usr/bin"}
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=30,
        check=False,
        env=environment,
    )
    said = done.stdout.decode(errors="replace").strip().partition("\n")[0][:100]
    if done.returncode == 0:
        return said or "status 0"
    raise PermissionError(said or f"status {done.returncode}")


def call(*arguments: object) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    answer = libc.syscall(*(ctypes.c_long(item) if isinstance(item, int) else item for item in arguments))
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return f"returned {answer}"


def setuid() -> str:
    file = OWN / "taken"
    try:
        file.touch()
        file.chmod(0o4755)
    finally:
        file.unlink()
    return "made"


def run_memory() -> str:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()
    return "mapped"


def low_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 80))
    return "bound"


def connect(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(path)
    return "connected"


def signal_somebody() -> str | None:
    """Signal 0 asks whether another one would be allowed."""
    own = {os.getpid(), os.getppid()}

    def ask(number: Path) -> str:
        os.kill(int(number.name), 0)
        return "allowed"

    return each([Path("/proc", str(number)) for number in range(1, 2000) if number not in own], ask)


def see_somebody() -> str | None:
    seen = [entry.name for entry in Path("/proc").iterdir() if entry.name.isdecimal() and entry.stat().st_uid != os.getuid()]
    if seen:
        return " ".join(seen[:5])
    raise PermissionError("none is seen")


def breed() -> str | None:
    children: list[subprocess.Popen[bytes]] = []
    try:
        while len(children) < 100:
            children += [subprocess.Popen(["/usr/bin/sleep", "60"])]
    except OSError as error:
        raise PermissionError(f"{len(children)}, then: {error.strerror}") from error
    finally:
        for child in children:
            child.kill()
            child.wait()
    return f"{len(children)} of them"


def grow() -> str | None:
    done = subprocess.run([sys.executable, "-c", "print(len(b'x' * 300_000_000))"], capture_output=True, timeout=60, check=False)
    if done.returncode == 0:
        return "had"
    raise PermissionError(f"ended with {done.returncode}")
