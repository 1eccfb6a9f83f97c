"""What whoever took the agent over would try to have another program run, as root or in his place: attempts for `hijacked`.
/run/envelopes is what he has heard."""

import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.virtual_booth.guest import grabs

ENVELOPES: Final = Path("/run/envelopes")
# Envelopes by what they are, which tests/virtual_booth/test_releases.py signs; all but what steps back name this version.
NEVER: Final = "9.9.9"
FORGED: Final = (
    "older", "of-an-unknown-key", "that-steps-back-with-one-key", "of-another-booth", "of-the-fleet", "a-configuration",
    "other-contents-of-a-revision", "of-an-unknown-kind", "with-an-address-that-is-none",
)  # fmt: skip
# One that is good, for a file that he puts there himself.
WANTED: Final = "wanted"

_SOCKET: Final = "/run/booth-acts/update.sock"
_DOWNLOADS: Final = grabs.OWN / "downloads"
_PLACES: Final = (Path("/opt/booth-agent"), Path("/var/lib/booth-forms"))
_WITHIN_S: Final = 120.0
_GARBAGE: Final = {
    "nothing": b"",
    "an empty object": b"{}\n",
    "another act": b'{"act":"install","kind":"agent"}\n',
    "another layer": b'{"act":"take","layer":"../../etc","bytes":2}\n{}',
    "one key more": b'{"act":"status","root":"/tmp"}\n',
    "another kind": b'{"act":"stage","kind":"../../etc"}\n',
    "a kind that is none": b'{"act":"switch","kind":""}\n',
    "switch, with nothing to switch to": b'{"act":"switch","kind":"agent"}\n',
    "forms, with nothing to switch to": b'{"act":"switch","kind":"forms"}\n',
    "healthy, with nothing on trial": b'{"act":"healthy","version":"9.9.9","online":true}\n',
    "a thousand million bytes": b'{"act":"take","layer":"booth","bytes":1000000000}\n{}',
    "fewer bytes than it says": b'{"act":"take","layer":"booth","bytes":100}\n{}',
    "an envelope that is none": b'{"act":"take","layer":"booth","bytes":2}\n{}',
    "deep brackets": b'{"act":"take","layer":"booth","bytes":200000}\n' + b"[" * 200000,
    "a first line without end": b"a" * 1_000_000,
    "no UTF-8": b"\xff\xfe\n\xff",
}
_WRITES: Final = """
/opt/booth-agent/current/bin/booth-agent /opt/booth-agent/current/release.json /opt/booth-agent/current/pyvenv.cfg
/opt/booth-agent/base/bin/booth-update /opt/booth-agent/base/pyvenv.cfg /var/lib/booth-forms/current/catalogue.json
/var/lib/booth-forms/current/release.json /var/lib/booth-update/documents/state.json /var/lib/booth-update/trial
/run/booth-update/lock /run/booth-update/errors.json /etc/systemd/system/booth-update-serve@.service
/etc/systemd/system/booth-update-start.service /etc/systemd/system/booth-update-.service.d/common.conf
/etc/booth-agent/trust.json
"""
_FOLDERS: Final = """
/opt/booth-agent /opt/booth-agent/slots /opt/booth-agent/slots/a /opt/booth-agent/slots/b /opt/booth-agent/base
/opt/booth-agent/base/bin /opt/booth-agent/current/bin /var/lib/booth-forms /var/lib/booth-forms/slots
/var/lib/booth-forms/current/. /var/lib/booth-update /var/lib/booth-update/documents /run/booth-update
/etc/systemd/system/booth-update-start.service.d
"""
_PROGRAM: Final = "/opt/booth-agent/base/bin/booth-update"
_COMMANDS: Final = f"""
{_PROGRAM} install agent /tmp {NEVER}; {_PROGRAM} start; {_PROGRAM} deadline; {_PROGRAM} show
systemctl start booth-update-deadline.service; systemctl stop booth-update-deadline.timer
systemctl stop booth-update-serve.socket; systemctl start booth-update-start.service
systemctl mask booth-update-start.service; systemctl restart booth-agent.service
"""


def attempts() -> Iterator[tuple[str, Callable[[], str | None]]]:
    for name in FORGED:
        yield f"a release {name}".replace("-", " "), partial(_forged, name)
    yield from ((f"root's socket: {name}", partial(_garbage, data)) for name, data in _GARBAGE.items())
    for name, plant in _PLANTS.items():
        yield f"in place of a file that was signed: {name}", partial(_planted, plant)
    yield "root's socket: two hundred that say nothing", _flood
    yield "root's socket: in its place", lambda: grabs.done(Path(_SOCKET).unlink, "unlinked")
    yield "the link to the slot that counts", _relink
    yield from ((f"write {path}", partial(grabs.write, path)) for path in _WRITES.split())
    yield from ((f"put a file into {folder}", partial(grabs.put, Path(folder))) for folder in _FOLDERS.split())
    yield "read what root keeps", lambda: grabs.any_of("var/lib/booth-update/*", grabs.read)
    for command in _COMMANDS.strip().replace("\n", "; ").split("; "):
        yield command, partial(grabs.run, *command.split())


# --- root's socket ---


def _say(data: bytes) -> dict[str, Any]:
    """Root's answer; none where it hung up."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(_WITHIN_S)
        line.connect(_SOCKET)
        with suppress(ConnectionError):  # it has read enough
            line.sendall(data)
        with suppress(OSError):
            line.shutdown(socket.SHUT_WR)
        answer = b""
        with suppress(ConnectionError):
            while read := line.recv(65536):
                answer += read
    said: dict[str, Any] = json.loads(answer) if answer else {}
    return said


def _patiently(request: dict[str, Any], message: bytes = b"") -> dict[str, Any]:
    """Again as long as root hangs up, since it may be busy."""
    until_s = time.monotonic() + 60
    while not (answer := _say(json.dumps(request | {"bytes": len(message)}).encode() + b"\n" + message)):
        if time.monotonic() > until_s:
            raise PermissionError("hung up, again and again")
        time.sleep(0.5)
    return answer


def _in_use() -> list[str]:
    """Where both links lead, and what lies there."""
    links = [place / "current" for place in _PLACES]
    return [text for link in links for text in (str(link.readlink()), (link / "release.json").read_text())]


def _judged(answer: dict[str, Any], before: list[str]) -> str | None:
    """Gained where another version is in use, or is going to be."""
    if _in_use() != before:
        return "another version is in use"
    if not answer:
        raise PermissionError("hung up")
    report = answer["reported"]
    tasks = [f"{task['todo']} {task['kind']} {task['version']}" for task in answer["tasks"]]
    errors = ", ".join(error["code"] for error in report["errors"])
    if tasks:
        return f"{tasks}: {errors}"
    raise PermissionError(errors or f"{report['status']} {report['phase']} {report['reason']}")


def _forged(name: str) -> str | None:
    before = _in_use()
    return _judged(_patiently({"act": "take", "layer": "booth"}, (ENVELOPES / name).read_bytes()), before)


def _garbage(data: bytes) -> str | None:
    before = _in_use()
    return _judged(_say(data), before)


def _flood() -> str | None:
    """Held for some seconds, and let go: root must answer again."""
    before = _in_use()
    with ExitStack() as stack:
        for _ in range(200):
            line = stack.enter_context(socket.socket(socket.AF_UNIX))
            line.settimeout(1)
            with suppress(OSError):
                line.connect(_SOCKET)
                line.sendall(b'{"act":"status"')
        time.sleep(3)
    _patiently({"act": "status"})
    if _in_use() != before:
        return "another version is in use"
    raise PermissionError("it answers")


# --- files ---


def _planted(plant: Callable[[Path, int], None]) -> str | None:
    """The operator wants a file, and he has it laid out: another one than was signed."""
    before = _in_use()
    [task] = _patiently({"act": "take", "layer": "booth"}, (ENVELOPES / WANTED).read_bytes())["tasks"]
    shutil.rmtree(_DOWNLOADS, ignore_errors=True)
    if _DOWNLOADS.is_symlink():
        _DOWNLOADS.unlink()
    _DOWNLOADS.mkdir()
    plant(_DOWNLOADS / task["sha256"], task["size_bytes"])
    answer = _patiently({"act": "stage", "kind": task["kind"]})
    if _in_use() != before or [one["todo"] for one in answer["tasks"]] != ["fetch"]:
        return json.dumps(answer)
    raise PermissionError(answer["reported"]["reason"])


def _garbage_of_its_size(file: Path, size_bytes: int) -> None:
    file.write_bytes(b"\0" * size_bytes)


def _someone_elses(file: Path, _size_bytes: int) -> None:
    file.symlink_to("/etc/shadow")


def _pipe(file: Path, _size_bytes: int) -> None:
    os.mkfifo(file)


def _folder(file: Path, _size_bytes: int) -> None:
    file.mkdir()


def _larger_than_the_disk(file: Path, _size_bytes: int) -> None:
    file.touch()
    os.truncate(file, 1 << 40)


def _another_folder(file: Path, _size_bytes: int) -> None:
    file.parent.rmdir()
    file.parent.symlink_to("/root")


_PLANTS: Final[dict[str, Callable[[Path, int], None]]] = {
    "zeros of its size": _garbage_of_its_size,
    "a link to somebody else's": _someone_elses,
    "a pipe": _pipe,
    "a folder": _folder,
    "what is larger than the disk": _larger_than_the_disk,
    "a link for the folder of downloads": _another_folder,
}


def _relink() -> str | None:
    fresh = _PLACES[0] / "current.new"
    fresh.symlink_to("/var/lib/booth-agent")
    fresh.rename(_PLACES[0] / "current")
    return "renamed"
