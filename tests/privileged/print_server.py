"""A real cupsd below a booth's root, with a printer that notes what it prints, and cupsd's own programs where acts look for them.

As root its administrative operations ask for who one is, as on Debian: on the local socket the kernel tells. Any other user may
do everything: cupsd can then not tell users apart.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent.simulator.cups import _session

PATH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin"
MISSING: Final = [name for name in ("cupsd", "lp", "lpstat", "cancel", "cupsenable") if shutil.which(name, path=PATH) is None]
QUEUE: Final = "forms"
_DEADLINE_S: Final = 30.0

# The printer. `mode` is a word: print, fail, stop (the queue, whatever its policy), hold.
_BACKEND: Final = """#!/bin/sh
[ $# -ge 5 ] || exit 0
echo "$1" >> {folder}/tried
while [ "$(cat {folder}/mode)" = hold ]; do sleep 0.05; done
case "$(cat {folder}/mode)" in
    fail) exit 1 ;;
    stop) exit 4 ;;
esac
if [ $# -ge 6 ]; then cat "$6"; else cat; fi >> {folder}/printed
"""
_CONFIG: Final = """\
Listen {socket}
Browsing No
WebInterface No
LogLevel warn
# What it remembers is on the disk at once: a test does not wait for half a minute.
DirtyCleanInterval 0
DefaultAuthType Basic
<Location />
Order allow,deny
Allow localhost
</Location>
<Policy default>
JobPrivateAccess default
JobPrivateValues default
<Limit Purge-Jobs Cancel-Jobs Resume-Printer Pause-Printer CUPS-Accept-Jobs CUPS-Reject-Jobs CUPS-Add-Modify-Printer>
{who}
Order deny,allow
</Limit>
<Limit All>
Order deny,allow
</Limit>
</Policy>
"""
_FILES: Final = """\
ServerRoot {folder}
ServerBin {folder}/bin
CacheDir {folder}/cache
StateDir {folder}/state
RequestRoot {folder}/spool
TempDir {folder}/spool/tmp
DocumentRoot {folder}/documents
AccessLog {folder}/log/access
ErrorLog {folder}/log/error
PageLog {folder}/log/page
SystemGroup {group}
"""
_PRINTERS: Final = """\
<Printer {queue}>
DeviceURI booth://printer
State Idle
Accepting Yes
Shared No
ErrorPolicy {policy}
</Printer>
"""


class PrintServer:
    """`root` is a booth's, with a short name: sockets have short paths."""

    def __init__(self, root: Path, policy: str) -> None:
        self.folder = root / "cups"
        self._socket = root / "run/cups/cups.sock"
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("bin/backend", "spool/tmp", "cache", "state", "documents", "log"):
            (self.folder / name).mkdir(parents=True)
        self._socket.parent.mkdir(parents=True)
        for name in ("daemon", "notifier", "filter", "cgi-bin", "monitor"):
            (self.folder / "bin" / name).symlink_to(Path("/usr/lib/cups") / name)
        for name in ("cancel", "lpstat", "cupsenable", "cupsaccept"):
            program = root / "usr/bin" / name
            program.parent.mkdir(parents=True, exist_ok=True)
            program.symlink_to(shutil.which(name, path=PATH) or "/nonexistent")
        backend = self.folder / "bin/backend/booth"
        backend.write_text(_BACKEND.format(folder=self.folder))
        backend.chmod(0o700)  # one that others could read would be run as the user lp, who may not enter here
        root_runs = os.geteuid() == 0
        who = "AuthType Default\nRequire user @SYSTEM" if root_runs else ""
        (self.folder / "cupsd.conf").write_text(_CONFIG.format(socket=self._socket, who=who))
        group = "root" if root_runs else "nogroup"
        (self.folder / "cups-files.conf").write_text(_FILES.format(folder=self.folder, group=group))
        (self.folder / "printers.conf").write_text(_PRINTERS.format(queue=QUEUE, policy=policy))
        self.mode("print")

    def start(self) -> None:
        self._process = subprocess.Popen(
            [shutil.which("cupsd", path=PATH) or "cupsd", "-f", "-c", str(self.folder / "cupsd.conf"),
             "-s", str(self.folder / "cups-files.conf")],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={"PATH": PATH, "LANG": "C.UTF-8", "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"},
            start_new_session=True,
        )  # fmt: skip
        self.until(self._answers, "cupsd answers")

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """With every backend, which has a process group of its own."""
        if self._process is None:
            return
        self._process.send_signal(how)
        self._process.wait(_DEADLINE_S)
        for backend in _session(self._process.pid):
            with suppress(ProcessLookupError):
                os.kill(backend, signal.SIGKILL)
        self._process = None

    def mode(self, word: str) -> None:
        fresh = self.folder / "mode.new"
        fresh.write_text(word)
        fresh.replace(self.folder / "mode")

    def submit(self, text: str, *, user: str = "citizen", title: str = "page", held: bool = False) -> int:
        """As a citizen's browser does. Returns the job's number."""
        hold = ("-H", "indefinite") if held else ()
        said = self.tool("lp", "-d", QUEUE, "-U", user, "-t", title, *hold, "-", stdin=f"{text}\n")
        return int(said.partition(f"{QUEUE}-")[2].split()[0])

    def tool(self, program: str, *arguments: str, stdin: str = "") -> str:
        path = shutil.which(program, path=PATH) or program
        environment = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": str(self.folder)}
        done = subprocess.run(
            [path, "-h", str(self._socket), *arguments],
            input=stdin, capture_output=True, text=True, timeout=_DEADLINE_S, check=False, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def jobs(self, which: str = "not-completed") -> list[str]:
        return self.tool("lpstat", "-W", which, "-o", QUEUE).splitlines()

    def queue(self) -> str:
        return self.tool("lpstat", "-p", QUEUE)

    def tried(self) -> list[int]:
        """The jobs that the printer was given, whatever it did with them."""
        file = self.folder / "tried"
        return [int(number) for number in file.read_text().split()] if file.exists() else []

    def printed(self) -> list[str]:
        file = self.folder / "printed"
        return file.read_text().split() if file.exists() else []

    def until(self, condition: Callable[[], object], what: str) -> None:
        end_s = time.monotonic() + _DEADLINE_S
        while not condition():
            assert time.monotonic() < end_s, f"never: {what}"
            time.sleep(0.02)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log/error").read_text()
        path = shutil.which("lpstat", path=PATH) or "lpstat"
        done = subprocess.run([path, "-h", str(self._socket), "-p", QUEUE], capture_output=True, timeout=_DEADLINE_S, check=False)
        return done.returncode == 0
