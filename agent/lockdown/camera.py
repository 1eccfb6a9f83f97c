"""Who may open cameras and microphones: the nodes of devices that are denied belong to the agent alone, which still checks them.

"In visio sessions only" takes two rules. This one gives the nodes to the kiosk's user, and there the browser is the only one to
film; `camera_origins` of the rule `web` lets that film for the pages of the visio service alone. Either by itself denies.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from agent.lockdown.rule import COMPLIANT, Ended, Machine, Measured, Place, Rule


@dataclass(frozen=True)
class Camera:
    use: Literal["denied", "visio-sessions"] = "denied"
    microphone: bool = False


def looser(before: Camera, after: Camera) -> bool:
    return (before.use == "denied" != after.use) or (after.microphone and not before.microphone)


_GROUP: Final = "booth-agent"
_NO_GROUP: Final = f"there is no group {_GROUP}"
_RULES: Final = "etc/udev/rules.d/72-booth-camera.rules"
_HEAD: Final = """\
# By the operator's policy, kept by the booth agent: not for the kiosk's user.
#
# After 70-uaccess.rules, which gives the tag, and before 73-seat-late.rules, which gives what has it to whoever sits there.
# With := no later file has another word.
ACTION=="remove", GOTO="booth_camera_end"
"""
_DENIED: Final = f'OWNER:="root", GROUP:="{_GROUP}", MODE:="0660", TAG-="uaccess"'
_TAIL: Final = 'LABEL="booth_camera_end"\n'
_ACL: Final = "system.posix_acl_access"  # acl(5)
_DEADLINE_S: Final = 20.0


@dataclass(frozen=True)
class _Kind:
    """One kind of device: what udev calls it, and its nodes below /dev. All of a board's video nodes are meant, those of its
    decoders too: which ones film is known of no driver beforehand."""

    match: str
    asked: tuple[str, ...]
    nodes: tuple[str, ...]


_CAMERAS: Final = _Kind('SUBSYSTEM=="video4linux"', ("--subsystem-match=video4linux",), ("video[0-9]*", "v4l-subdev[0-9]*"))
_MICROPHONES: Final = _Kind(
    'SUBSYSTEM=="sound", KERNEL=="pcmC*D*c"', ("--subsystem-match=sound", "--sysname-match=pcmC*D*c"), ("snd/pcmC*D*c",)
)


def _denied(part: Camera) -> dict[_Kind, bool]:
    return {_CAMERAS: part.use == "denied", _MICROPHONES: not part.microphone}


def _text(part: Camera) -> str | None:
    """The file for udev; None where nothing is denied."""
    lines = [f"{kind.match}, {_DENIED}\n" for kind, denied in _denied(part).items() if denied]
    return "".join((_HEAD, *lines, _TAIL)) if lines else None


def _group(machine: Machine) -> int | None:
    for line in (machine.text(machine.path("etc/group")) or "").splitlines():
        name, _, number, *_ = f"{line}:::".split(":")
        if name == _GROUP and number.isdecimal():
            return int(number)
    return None


def _nodes(machine: Machine, kind: _Kind) -> Iterator[Path]:
    for pattern in kind.nodes:
        yield from sorted(machine.path("dev").glob(pattern))


def _wrong(machine: Machine, kind: _Kind, *, denied: bool) -> Iterator[tuple[Path, str]]:
    """Nodes that somebody can open who must not, or that are still shut."""
    agent = _group(machine)
    for node in _nodes(machine, kind):
        try:
            status = node.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue  # unplugged meanwhile
        mode = stat.S_IMODE(status.st_mode)
        if not denied:
            if status.st_gid == agent:
                yield node, "is still the agent's alone"
        elif status.st_gid != agent or status.st_uid not in (0, os.geteuid()):  # on a booth both are root
            yield node, "belongs to others"
        elif mode != 0o660:
            yield node, f"has mode {mode:o}"
        elif _ACL in os.listxattr(node, follow_symlinks=False):
            yield node, "has an access list"


def _bring(machine: Machine, part: Camera) -> None:
    file, text = machine.path(_RULES), _text(part)
    changed = file.is_symlink() or machine.text(file) != (None if text is None else text.strip())
    if changed and text is None:
        machine.remove(file)
    elif text is not None and (changed or _file_wrong(file)):
        machine.put(file, text)
    if not machine.has("udevadm"):
        return
    if changed:
        machine.do("udevadm", "control", "--reload", within_s=_DEADLINE_S)
    for kind, denied in _denied(part).items():
        if any(_wrong(machine, kind, denied=denied)):
            # 50-udev-default.rules has a device's usual group for "add" alone, as at boot.
            action = "change" if denied else "add"
            machine.do("udevadm", "trigger", f"--action={action}", "--settle", *kind.asked, within_s=_DEADLINE_S)
        for node, _ in _wrong(machine, kind, denied=denied):
            # udev sets owner and mode and leaves the list that logind had given to whoever sits there.
            if denied:
                with suppress(OSError):  # there is none, or no node any more
                    os.removexattr(node, _ACL, follow_symlinks=False)


def _file_wrong(file: Path) -> str | None:
    status = file.lstat()
    if status.st_uid not in (0, os.geteuid()) or stat.S_IMODE(status.st_mode) & 0o022:
        return "can be written by others than root"
    return None


def apply(machine: Machine, _place: Place, part: Camera) -> None:
    if _text(part) and _group(machine) is None:
        raise Ended(_NO_GROUP)  # udev would leave the nodes as they are
    _bring(machine, part)


def measure(machine: Machine, _place: Place, part: Camera) -> Measured:
    if not machine.has("udevadm"):
        return Measured("not-applicable", "udev is not installed")
    file, text = machine.path(_RULES), _text(part)
    if file.is_symlink() or machine.text(file) != (None if text is None else text.strip()):
        return Measured("violated", f"/{_RULES} is not the policy's")
    if text is not None and (wrong := _file_wrong(file)):
        return Measured("violated", f"/{_RULES} {wrong}")
    if text is not None and _group(machine) is None:
        return Measured("violated", _NO_GROUP)
    for kind, denied in _denied(part).items():
        for node, problem in _wrong(machine, kind, denied=denied):
            return Measured("violated", f"/{node.relative_to(machine.path(''))} {problem}")
    return COMPLIANT


def undo(machine: Machine, _place: Place) -> None:
    _bring(machine, Camera(use="visio-sessions", microphone=True))


RULE: Final = Rule("camera", Camera, looser, apply, measure, undo, watched=(_RULES,))
