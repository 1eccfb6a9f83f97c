"""Files in /etc/booth-session: what the kiosk's application and root's own programs read of a policy. Used by rules, and none."""

import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from agent.lockdown.rule import Ended, Machine

_FOLDER_MODE: Final = 0o755
_FILE_MODE: Final = 0o644
_DELETED_S: Final = 20.0


def put(machine: Machine, name: str, content: dict[str, Any]) -> None:
    """Only root writes it, everybody reads it. Whole or not at all, and only where it is not there already."""
    if problem(machine, name, content) is not None:
        file = machine.path(name)
        put_folder(machine, file.parent)
        machine.put(file, _text(content) + "\n", _FILE_MODE)  # another one in its place: root's, whosever the last was


def put_folder(machine: Machine, folder: Path) -> None:
    """Only root writes into it, everybody reads it. One of somebody else's is made anew, without what is in it: a lockdown unit
    may not change owners. The folder that it is in has to be root's."""
    old = folder.with_name(f".{folder.name}.old")
    if not _is_folder(folder):
        machine.remove(folder)
        folder.mkdir(parents=True)
    elif not is_roots(folder.lstat()):
        _delete(machine, old)
        folder.rename(old)  # before it is deleted: whoever has it could fill it faster
        folder.mkdir()
    if stat.S_IMODE(folder.lstat().st_mode) != _FOLDER_MODE:  # made with any mask, or left so by somebody
        folder.chmod(_FOLDER_MODE)
    _delete(machine, old)


def is_roots(status: os.stat_result) -> bool:
    return status.st_uid in (0, os.geteuid())  # on a booth both are root


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _delete(machine: Machine, folder: Path) -> None:
    """With all that is in it. `find` follows no link, however deep it goes. What resists is read by nobody under this name, and
    keeps no policy from being applied; the next time it is tried again."""
    if _is_folder(folder):
        with suppress(Ended):
            machine.ask("find", str(folder), "-xdev", "-delete", within_s=_DELETED_S)


def problem(machine: Machine, name: str, content: dict[str, Any]) -> str | None:
    """Why it is not there as it should be."""
    file = machine.path(name)
    if not _is_folder(file.parent) or file.is_symlink() or machine.text(file) != _text(content):
        return f"/{name} is not the policy's"
    for entry, mode in ((file, _FILE_MODE), (file.parent, _FOLDER_MODE)):
        status = entry.lstat()
        if not is_roots(status) or stat.S_IMODE(status.st_mode) != mode:
            return f"/{name} can be written by others, or not be read by all"
    return None


def read(machine: Machine, name: str) -> dict[str, Any]:
    """Empty where there is none, or what is there is none."""
    try:
        content = json.loads(machine.text(machine.path(name)) or "")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def remove(machine: Machine, name: str) -> None:
    file = machine.path(name)
    machine.remove(file)
    if file.parent.is_dir() and not any(file.parent.iterdir()):
        file.parent.rmdir()


def _text(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, sort_keys=True)
