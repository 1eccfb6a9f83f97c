"""Files in /etc/booth-session: what the kiosk's application and root's own programs read of a policy. Used by rules, and none."""

import json
import os
from typing import Any

from agent.lockdown.rule import Machine

_FOLDER_MODE = 0o755
_FILE_MODE = 0o644


def put(machine: Machine, name: str, content: dict[str, Any]) -> None:
    """Only root writes it, everybody reads it. Whole or not at all, and only where it is not there already."""
    if problem(machine, name, content) is not None:
        file = machine.path(name)
        machine.put(file, _text(content) + "\n", _FILE_MODE)
        file.parent.chmod(_FOLDER_MODE)  # root's own mask may be stricter


def problem(machine: Machine, name: str, content: dict[str, Any]) -> str | None:
    """Why it is not there as it should be."""
    file = machine.path(name)
    if file.is_symlink() or machine.text(file) != _text(content):
        return f"/{name} is not the policy's"
    for entry, mode in ((file, _FILE_MODE), (file.parent, _FOLDER_MODE)):
        status = entry.stat()
        if status.st_uid != os.geteuid() or status.st_mode & 0o777 != mode:
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
