"""A real cupsd as a child, on a free port of loopback, with one queue and a printer that can be broken.

Everything lies in a folder of its own, and it runs as root or as any user. CUPS learns of a printer's trouble only while a
job runs: `change` the printer, then `print_something`.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from agent.simulator.cups_files import furnish
from agent.simulator.mosquitto import answers, free_port

_PATH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
_READY_S: Final = 10.0
_GONE_S: Final = 10.0


@dataclass(frozen=True)
class Laser:
    """The printer's condition. `held` makes a job stand still without a reason; `page_s` is how long a page takes.

    `takes_back` false: reasons stay in CUPS after their cause, as those of killed backends do.
    """

    paper: str = "plenty"  # low, out
    jammed: bool = False
    cover_open: bool = False
    toner_pct: int = 80
    held: bool = False
    unplugged: bool = False
    crashes: bool = False
    fails: bool = False
    page_s: float = 0.0
    takes_back: bool = True
    other_reasons: tuple[str, ...] = ()
    toner: str = "Toner noir"  # as the printer calls it
    message: str = ""  # its printer-state-message

    def control(self) -> dict[str, Any]:
        """What the backend is told."""
        blocking = {
            "media-empty-error": self.paper == "out",
            "media-jam-error": self.jammed,
            "cover-open-error": self.cover_open,
            "connecting-to-device": self.unplugged,
        }
        passing = {"media-low-report": self.paper == "low", "toner-low-report": self.toner_pct <= 5}
        reasons = [reason for reason, holds in (blocking | passing).items() if holds]
        return {
            "reasons": [*reasons, *self.other_reasons],
            "levels": self.toner_pct,
            "toner": self.toner,
            "message": self.message,
            "waits": self.held or any(blocking.values()),
            "page_s": self.page_s,
            "crashes": self.crashes,
            "fails": self.fails,
            "takes_back": self.takes_back,
        }


class Cups:
    """One print server. `start`, break and repair, `stop`; `start` again comes back on the same port with the same queue.

    `history`: cupsd's PreserveJobHistory; `policy`: the queue's ErrorPolicy.
    """

    def __init__(
        self,
        folder: Path,
        *,
        queue: str = "forms",
        device_uri: str = "simulated://printer",
        history: bool = False,
        policy: str = "stop-printer",
    ) -> None:
        self.port = free_port()
        self.laser = Laser()
        self._folder = folder / "cups"
        self._queue = queue
        self._device_uri = device_uri
        self._history = history
        self._policy = policy
        self._process: asyncio.subprocess.Process | None = None
        self._frozen = False

    @property
    def url(self) -> str:
        """For the option `device` of a document printer."""
        return f"ipp://127.0.0.1:{self.port}/printers/{self._queue}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """One that runs already is left alone. Raises RuntimeError where cupsd is missing or does not come up."""
        if self.running:
            return
        program = shutil.which("cupsd", path=_PATH)
        if program is None:
            raise RuntimeError("cupsd is missing: apt-get install cups-daemon cups-client")
        if not self._folder.exists():
            furnish(self._folder, self.port, self._queue, self._device_uri, history=self._history, policy=self._policy)
            self._write_control()
        self._process = await asyncio.create_subprocess_exec(
            program, "-f", "-c", str(self._folder / "cupsd.conf"), "-s", str(self._folder / "cups-files.conf"),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": _PATH, "LANG": "C.UTF-8", "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"},
            start_new_session=True,  # its backends have groups of their own, but are of this session
        )  # fmt: skip
        async with asyncio.timeout(_READY_S):
            while not await answers(self.port):
                if self._process.returncode is not None:
                    raise RuntimeError(f"cupsd ended at once; see {self._folder}/log/error")
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Cleanly, with every backend."""
        await self._end(signal.SIGKILL if self._frozen else signal.SIGTERM)

    async def kill(self) -> None:
        """As the power cut would."""
        await self._end(signal.SIGKILL)

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def restart_empty(self) -> None:
        """As a booth's unit does it: what waited is gone before it starts."""
        await self._end(signal.SIGKILL)
        for file in (self._folder / "spool").glob("[cd][0-9]*"):
            file.unlink()
        (self._folder / "cache" / "job.cache").unlink(missing_ok=True)
        await self.start()

    @property
    def printed(self) -> list[int]:
        """The numbers of the jobs that came out."""
        tray = self._folder / "bin" / "backend" / "printed"
        return [int(line) for line in tray.read_text().splitlines()] if tray.exists() else []

    @property
    def sheets(self) -> dict[int, tuple[int, str]]:
        """Of each job that came out, by its number: how many copies, and the SHA-256 of the document."""
        file = self._folder / "bin" / "backend" / "sheets"
        lines = file.read_text().splitlines() if file.exists() else []
        return {int(job): (int(copies), digest) for job, copies, digest in map(str.split, lines)}

    def freeze(self) -> None:
        """It accepts connections, and never answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        self._frozen = False

    def change(self, **condition: Any) -> None:
        """The printer's condition, such as `paper="out"`. A job that runs notices at once."""
        self.laser = replace(self.laser, **condition)
        self._write_control()

    async def print_something(self, text: str = "page\n", *, title: str = "page", user: str = "citizen") -> int:
        """Submit a job as a citizen's browser would. Returns its number."""
        said = await self._tool("lp", "-d", self._queue, "-t", title, "-U", user, "-", stdin=text)
        return int(said.split(f"{self._queue}-", 1)[1].split()[0])

    async def print_file(self, file: Path, copies: int = 1) -> int:
        """Submit a file as the kiosk's application would. Returns the job's number."""
        said = await self._tool("lp", "-d", self._queue, "-n", str(copies), str(file))
        return int(said.split(f"{self._queue}-", 1)[1].split()[0])

    async def cancel_jobs(self) -> None:
        await self._tool("cancel", "-a", self._queue)

    async def purge(self) -> None:
        """Every job is cancelled and forgotten, its document too."""
        await self._tool("cancel", "-a", "-x", self._queue)

    async def stop_queue(self) -> None:
        await self._tool("cupsdisable", self._queue)

    async def start_queue(self) -> None:
        await self._tool("cupsenable", self._queue)

    async def accept_jobs(self, *, accept: bool) -> None:
        await self._tool("cupsaccept" if accept else "cupsreject", self._queue)

    async def delete_queue(self) -> None:
        await self._tool("lpadmin", "-x", self._queue)

    async def add_queue(self) -> None:
        await self._tool("lpadmin", "-p", self._queue, "-v", self._device_uri, "-E")

    async def _tool(self, program: str, *arguments: str, stdin: str = "") -> str:
        """One of CUPS's own commands, against this server. Raises RuntimeError with what it said."""
        path = shutil.which(program, path=_PATH)
        if path is None:
            raise RuntimeError(f"{program} is missing: apt-get install cups-client")
        process = await asyncio.create_subprocess_exec(
            path, "-h", f"127.0.0.1:{self.port}", *arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={"PATH": _PATH, "LANG": "C.UTF-8", "HOME": str(self._folder)},
        )  # fmt: skip
        said, complaint = await process.communicate(stdin.encode())
        if process.returncode != 0:
            raise RuntimeError(f"{program}: {complaint.decode(errors='replace').strip()}")
        return said.decode(errors="replace")

    async def _end(self, how: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.send_signal(how)
        async with asyncio.timeout(_GONE_S):
            await process.wait()
            while left := _session(process.pid):
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                await asyncio.sleep(0.01)
        self._process, self._frozen = None, False

    def _write_control(self) -> None:
        control = self._folder / "bin" / "backend" / "printer.json"
        fresh = control.with_suffix(".new")
        fresh.write_text(json.dumps(self.laser.control()))
        fresh.replace(control)


def _session(leader: int) -> list[int]:
    """The living processes of a session: proc(5), field 6 of /proc/PID/stat."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session, *_ = stat.read_text().rpartition(")")[2].split()
            if int(session) == leader and state != "Z":
                found.append(int(stat.parent.name))
    return found
