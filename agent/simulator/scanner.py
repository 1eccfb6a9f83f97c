"""A scanner made of SANE's own `test` backend, on this machine or behind a `saned` of its own, with what goes wrong.

The backend reads its `test.conf` each time it is loaded, so that every check sees the scanner as it is set now.
"""

import asyncio
import contextlib
import os
import random
import signal
import socket
from pathlib import Path
from typing import Final

_STATUS: Final = {
    "ok": "Default",
    "jammed": "SANE_STATUS_JAMMED",
    "cover-open": "SANE_STATUS_COVER_OPEN",
    "no-docs": "SANE_STATUS_NO_DOCS",
    "busy": "SANE_STATUS_DEVICE_BUSY",
    "io-error": "SANE_STATUS_IO_ERROR",
    "access-denied": "SANE_STATUS_ACCESS_DENIED",
    "no-memory": "SANE_STATUS_NO_MEM",
    "invalid": "SANE_STATUS_INVAL",
    "unsupported": "SANE_STATUS_UNSUPPORTED",
    "end-of-file": "SANE_STATUS_EOF",
}
_STARTS_WITHIN_S: Final = 10.0
_LISTENS: Final = "0A"  # linux/tcp_states.h


class Scanner:
    """`folder` is what the option `config_dir` has to name, `device` the option `device`. Assign the others at any
    time: the next check is of that.

    `status`: what reading a scan says, `ok` or a word of SANE's. `plugged`: whether the backend lists it. `slow`: it
    knows one very fine resolution, and gives five pieces a second: a scan takes minutes. `crashes`: the backend itself dies by SIGSEGV.
    `dark`: its lamp does not light, and the picture is black.
    """

    device: Final = "sane:test:1"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "dll.conf").write_text("test\n")
        self._status = "ok"
        self._plugged = True
        self._slow = False
        self._crashes = False
        self._dark = False
        self._write()

    @property
    def status(self) -> str:
        return self._status

    @status.setter
    def status(self, word: str) -> None:
        if word not in _STATUS:
            raise ValueError(f"{word} is none of {', '.join(_STATUS)}")
        self._status = word
        self._write()

    @property
    def plugged(self) -> bool:
        return self._plugged

    @plugged.setter
    def plugged(self, plugged: bool) -> None:
        self._plugged = plugged
        self._write()

    @property
    def slow(self) -> bool:
        return self._slow

    @slow.setter
    def slow(self, slow: bool) -> None:
        self._slow = slow
        self._write()

    @property
    def crashes(self) -> bool:
        return self._crashes

    @crashes.setter
    def crashes(self, crashes: bool) -> None:
        self._crashes = crashes
        self._write()

    @property
    def dark(self) -> bool:
        return self._dark

    @dark.setter
    def dark(self, dark: bool) -> None:
        self._dark = dark
        self._write()

    def _write(self) -> None:
        # It is the second of two devices: the backend does not survive listing none at all, which is how it crashes here.
        devices = 0 if self._crashes else 1 + self._plugged
        lines = [f"number_of_devices {devices}", f'read-status-code "{_STATUS[self._status]}"', "mode Gray"]
        lines.append(f'test-picture "{"Solid black" if self._dark else "Color pattern"}"')
        if self._slow:
            lines += [f"resolution{which} 20000" for which in ("_min", "_max", "")]
            lines += ["read-delay true", "read-delay-duration 200000"]
        fresh = self.folder / "test.conf.new"
        fresh.write_text("\n".join(lines) + "\n")
        fresh.replace(self.folder / "test.conf")


class RemoteScanner:
    """A `Scanner` behind `saned`, on a loopback address of its own (the `net` backend knows one port only): it can be frozen and killed in the middle of a call."""

    def __init__(self, folder: Path) -> None:
        self.scanner = Scanner(folder / "remote")
        self.folder = folder / "local"
        self.folder.mkdir()
        (self.folder / "net.conf").write_text("connect_timeout = 60\n")
        (self.scanner.folder / "saned.conf").write_text("")
        self._address = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}.{random.randint(1, 254)}"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def device(self) -> str:
        return f"sane:net:{self._address}:test:1"

    async def start(self) -> None:
        """Until it listens. Raises FileNotFoundError where there is no saned (package sane-utils)."""
        self._process = await asyncio.create_subprocess_exec(
            "saned", "-l", "-b", self._address,
            env=os.environ | {"SANE_CONFIG_DIR": str(self.scanner.folder), "PATH": os.environ["PATH"] + ":/usr/sbin"},
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        async with asyncio.timeout(_STARTS_WITHIN_S):
            while not self._listens():  # noqa: ASYNC110 - the kernel's table announces nothing
                await asyncio.sleep(0.02)

    def freeze(self) -> None:
        """It, and what it started for a caller, stop where they are."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    async def kill(self) -> None:
        """In the middle of whatever it does."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            await self._process.wait()

    def in_use(self) -> bool:
        """Whether somebody's call is being served."""
        return bool(self._callers())

    def _signal(self, number: int) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        # Each caller is served by a child in a group of its own.
        for pid in (*self._callers(), self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _callers(self) -> list[int]:
        if self._process is None:
            return []
        pid = self._process.pid
        try:
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except FileNotFoundError:
            return []

    def _listens(self) -> bool:
        """Asked of the kernel: a connection would be one caller more."""
        ours = socket.inet_aton(self._address)[::-1].hex().upper()
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        return any(row[1].startswith(ours + ":") and row[3] == _LISTENS for row in rows)
