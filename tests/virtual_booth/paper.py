"""A print server in a virtual booth, as Debian runs it, with a queue `forms` whose printer writes into a file.

`does` makes the next job that reaches the printer fare worse: it `hangs`; it `fills` the printer's memory, which says so until
the job is gone; or something that the job has started `holds` the printer, and lets go of it only when it is killed. Else it
`prints`.
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from tests.virtual_booth.booth import VirtualBooth

_UNITS: Final = "cups.service cups.socket cups.path"
_BACKEND: Final = "/usr/lib/cups/backend/paper"
_PRINTED: Final = "/run/printed"
_DOES: Final = "/run/paper.does"
# cupsd ends a job by ending its process group, which a helper in a session of its own outlives.
_PROGRAM: Final = f"""\
#!/bin/sh
[ $# -eq 0 ] && exit
exec 9> /run/paper.lock
flock 9
case "$(cat {_DOES})" in
hangs) exec sleep infinity ;;
fills)
    echo STATE: +spool-area-full-error >&2
    exec sleep infinity ;;
holds)
    setsid sleep infinity &
    exec sleep infinity ;;
esac
cat "${{6:--}}" >> {_PRINTED}
"""


@dataclass(frozen=True)
class Paper:
    """As a context manager it runs, and is gone at the end."""

    booth: VirtualBooth

    def __enter__(self) -> Self:
        # One that others could read would be run as another user.
        self.does("prints")
        self.booth.run(f"cat > {_BACKEND} <<'END'\n{_PROGRAM}END\nchmod 700 {_BACKEND}")
        self.booth.run(f"systemctl --quiet unmask {_UNITS} && systemctl start cups.service")
        self.booth.wait_for("lpadmin -p forms -E -v paper:/roll -m raw -o printer-error-policy=stop-printer")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.booth.run(f"cancel -a -x forms; lpadmin -x forms; systemctl stop {_UNITS}; rm -f {_PRINTED} {_BACKEND} {_DOES}")
        self.booth.run(f"systemctl --quiet mask {_UNITS}")

    def stop_queue(self) -> None:
        self.booth.run("cupsdisable forms")

    def start_queue(self) -> None:
        self.booth.run("cupsenable forms")

    def does(self, what: str) -> None:
        """From now on, to whatever reaches the printer."""
        self.booth.run(f"echo {what} > {_DOES}")

    def send(self, text: str) -> None:
        """A document, into the queue."""
        self.booth.run(f'echo "{text}" | lp -d forms -o raw')

    def prints(self, text: str) -> None:
        """Send a document, and wait until it is out: whatever was before it in the queue is, too."""
        self.send(text)
        self.booth.wait_for(f'grep -F "{text}" {_PRINTED}')

    def printed(self) -> str:
        """All paper that came out."""
        return self.booth.run(f"cat {_PRINTED} || true")

    def jobs(self) -> str:
        """What cupsd knows of jobs, ended ones too."""
        return self.booth.run("lpstat -W all -o forms")

    def spool(self) -> str:
        """Documents and their descriptions on the disk."""
        return self.booth.run("find /var/spool/cups -type f")

    def state(self) -> str:
        return self.booth.run("lpstat -p forms")
