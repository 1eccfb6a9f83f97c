"""Rule `consoles`: no login on a terminal, SSH in signed windows of maintenance alone, no SysRq, no Ctrl-Alt-Del."""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Final

from agent.contract.typed import Check, Length
from agent.contract.words import Timestamp
from agent.lockdown.rule import COMPLIANT, Machine, Measured, Place, Rule

# Of all folders for units the one that comes first (systemd.unit(5)), so that no file of Debian's or of an administrator's is
# replaced. An empty unit file masks the unit, like a link to /dev/null; that of a template masks its instances.
_MASKS: Final = "etc/systemd/system.control"
_LINES: Final = ("ttyS0", "ttyAMA0", "ttyAMA10", "ttyGS0", "hvc0")
_LOGINS: Final = (
    *("getty@.service", "autovt@.service", "serial-getty@.service", "container-getty@.service", "console-getty.service"),
    "debug-shell.service",  # root, without a password, on tty9
    # An instance may have a file of its own, which its template's mask does not reach.
    *(f"{template}@tty{number}.service" for template in ("getty", "autovt") for number in range(1, 7)),
    *(f"serial-getty@{line}.service" for line in _LINES),
)
_SSH: Final = (
    *("ssh.service", "ssh.socket", "ssh@.service", "sshd.service", "sshd.socket", "sshd@.service"),
    *("sshd-unix-local.socket", "sshd-vsock.socket", "dropbear.service"),
)
_SSH_STARTED: Final = ("ssh.socket", "sshd.socket", "ssh.service", "sshd.service", "dropbear.service")
_CTRL_ALT_DEL: Final = "ctrl-alt-del.target"
# logind starts a login on the next free terminal; seven presses within 2 s reboot at once (systemd-system.conf(5)).
_LOGIND: Final = ("etc/systemd/logind.conf.d/60-booth.conf", "[Login]\nNAutoVTs=0\nReserveVT=0\n")
_MANAGER: Final = ("etc/systemd/system.conf.d/60-booth.conf", "[Manager]\nCtrlAltDelBurstAction=none\n")
_SYSCTL: Final = "etc/sysctl.d/60-booth.conf"
_SYSCTL_TEXT: Final = re.compile(r"# kernel\.sysrq was (?P<before>[0-9]+)\nkernel\.sysrq = 0")  # and what it shall be again
_SYSRQ: Final = "proc/sys/kernel/sysrq"
_SESSIONS: Final = "run/systemd/sessions"  # where logind keeps them
_DEADLINE_S: Final = 30.0
_LONGEST: Final = timedelta(hours=24)


@dataclass(frozen=True)
class Window:
    begin: Timestamp = field(metadata={"key": "from"})
    end: Timestamp = field(metadata={"key": "until"})


def _window_problem(window: Window) -> str | None:
    try:
        begin, end = _span(window)
    except ValueError:
        return f"{window.begin} or {window.end} is no date and time"
    if not begin < end or end - begin > _LONGEST:  # no sum: it could lie after the last year
        return "write a window of at most 24 hours, its end after its beginning"
    return None


@dataclass(frozen=True)
class Consoles:
    """What is allowed. `ssh`: when, in UTC."""

    getty: bool = False
    ssh: Annotated[list[Annotated[Window, Check(_window_problem, "at most 24 hours")]], Length(16)] = field(default_factory=list)
    sysrq: bool = False
    ctrl_alt_del: bool = False


def looser(before: Consoles, after: Consoles) -> bool:
    if beyond(before, after):
        return True
    open_before = _joined(before)
    return any(not any(begin <= b and e <= end for begin, end in open_before) for b, e in _joined(after))


def beyond(bound: Consoles, part: Consoles) -> bool:
    """A window for ssh always ends, and takes the signatures that loosen: no image can know when one will be needed."""
    return any(getattr(part, name) and not getattr(bound, name) for name in ("getty", "sysrq", "ctrl_alt_del"))


def apply(machine: Machine, place: Place, part: Consoles) -> None:
    _bring(machine, place, part, ssh=_ssh_open(place, part))


def measure(machine: Machine, place: Place, part: Consoles) -> Measured:
    wrong = next(_wrong(machine, place, part), None)
    return COMPLIANT if wrong is None else Measured("violated", wrong)


def undo(machine: Machine, place: Place) -> None:
    _bring(machine, place, Consoles(getty=True, sysrq=True, ctrl_alt_del=True), ssh=True)


def next_change(place: Place, part: Consoles) -> datetime | None:
    if place.now is None or place.now_utc is None:
        return None
    edges = [edge - place.now_utc for span in _joined(part) for edge in span if edge > place.now_utc]
    with suppress(OverflowError):  # the last hours of the year 9999, in a zone that is ahead
        return place.now + min(edges) if edges else None
    return None


def _span(window: Window) -> tuple[datetime, datetime]:
    return datetime.fromisoformat(window.begin), datetime.fromisoformat(window.end)


def _joined(part: Consoles) -> list[tuple[datetime, datetime]]:
    """The windows, those that touch each other as one."""
    found: list[tuple[datetime, datetime]] = []
    for begin, end in sorted(map(_span, part.ssh)):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def _ssh_open(place: Place, part: Consoles) -> bool:
    """Never while the clock is not known."""
    now = place.now_utc
    return place.now is not None and now is not None and any(begin <= now < end for begin, end in _joined(part))


def _bring(machine: Machine, place: Place, part: Consoles, *, ssh: bool) -> None:
    logins = [_have(machine, f"{_MASKS}/{unit}", "", not part.getty) for unit in _logins(place)]
    changed = [
        *logins,
        *(_have(machine, f"{_MASKS}/{unit}", "", not ssh) for unit in _SSH),
        _have(machine, f"{_MASKS}/{_CTRL_ALT_DEL}", "", not part.ctrl_alt_del),
        _have(machine, *_LOGIND, not part.getty),
        _have(machine, *_MANAGER, not part.ctrl_alt_del),
    ]
    _bring_sysrq(machine, allowed=part.sysrq)
    if not machine.has("systemctl"):
        return
    if any(changed):
        _systemctl(machine, "daemon-reload")
    if not part.getty:
        _stop(machine, _running(machine, _logins(place)))
    elif any(logins):
        _start(machine, "getty.target")
    if ssh:
        _start_ssh(machine)
    else:
        _stop(machine, _running(machine, _SSH))
        for session in _ssh_sessions(machine):
            machine.do("loginctl", "--no-ask-password", "terminate-session", session, within_s=_DEADLINE_S)


def _wrong(machine: Machine, place: Place, part: Consoles) -> Iterator[str]:
    ssh = _ssh_open(place, part)
    masks = dict.fromkeys(_logins(place), not part.getty) | dict.fromkeys(_SSH, not ssh)
    for unit, wanted in (masks | {_CTRL_ALT_DEL: not part.ctrl_alt_del}).items():
        if not _is(machine, f"{_MASKS}/{unit}", "", wanted):
            yield f"{unit} is {'not ' if wanted else ''}masked"
    for (name, text), wanted in ((_LOGIND, not part.getty), (_MANAGER, not part.ctrl_alt_del)):
        if not _is(machine, name, text, wanted):
            yield f"/{name} is not the policy's"
    yield from _wrong_sysrq(machine, allowed=part.sysrq)
    if not machine.has("systemctl"):
        return
    closed = () if part.getty else _logins(place)
    yield from (f"{unit} runs" for unit in _running(machine, closed if ssh else (*closed, *_SSH)))
    if not ssh and _ssh_sessions(machine):
        yield "a session by SSH is open"
    if not part.ctrl_alt_del:
        action = _asked(machine, "show", "--property=CtrlAltDelBurstAction", "--value").strip()
        if action != "none":
            yield f"Ctrl-Alt-Del, pressed seven times, means {action}"


# --- files ---


def _logins(place: Place) -> tuple[str, ...]:
    """All but the kiosk's own, should it be started by a login."""
    own = {name for unit in place.units.values() for name in (unit, re.sub("@.*", "@.service", unit))}
    return tuple(unit for unit in _LOGINS if unit not in own)


def _is(machine: Machine, name: str, text: str, wanted: bool) -> bool:
    file = machine.path(name)
    if not wanted:
        return not file.exists() and not file.is_symlink()
    return file.is_file() and not file.is_symlink() and file.read_bytes() == text.encode()


def _have(machine: Machine, name: str, text: str, wanted: bool) -> bool:
    """The file, or none. Whether that was a change."""
    if _is(machine, name, text, wanted):
        return False
    if wanted:
        machine.put(machine.path(name), text)
    else:
        machine.remove(machine.path(name))
    return True


def _bring_sysrq(machine: Machine, *, allowed: bool) -> None:
    file, live = machine.path(_SYSCTL), machine.path(_SYSRQ)
    value = machine.text(live)
    found = _SYSCTL_TEXT.fullmatch(machine.text(file) or "")
    if allowed:
        machine.remove(file)
        if found is not None and value is not None and value != found["before"]:
            live.write_text(found["before"])
    elif value is not None:  # a kernel without SysRq has no such file
        if found is None:
            machine.put(file, f"# kernel.sysrq was {value}\nkernel.sysrq = 0\n")
        if value != "0":
            live.write_text("0")


def _wrong_sysrq(machine: Machine, *, allowed: bool) -> Iterator[str]:
    value, text = machine.text(machine.path(_SYSRQ)), machine.text(machine.path(_SYSCTL))
    if allowed and text is not None:
        yield f"/{_SYSCTL} is there"
    elif not allowed and value is not None:
        if value != "0":
            yield f"kernel.sysrq is {value}"
        if _SYSCTL_TEXT.fullmatch(text or "") is None:
            yield f"/{_SYSCTL} is not the policy's"


# --- what runs ---


def _running(machine: Machine, units: Sequence[str]) -> list[str]:
    if not units:
        return []
    patterns = [unit.replace("@.", "@*.") for unit in units]
    listed = _asked(machine, "list-units", "--plain", "--no-legend", "--state=active,reloading,activating", *patterns)
    return [line.split()[0] for line in listed.splitlines() if line.strip()]


def _stop(machine: Machine, units: Sequence[str]) -> None:
    for unit in units:
        # All of its processes: Debian's ssh.service leaves its connections alone when it stops (KillMode=process).
        machine.ask("systemctl", "--no-ask-password", "kill", unit, within_s=_DEADLINE_S)
        _systemctl(machine, "stop", unit)


def _start_ssh(machine: Machine) -> None:
    """As it is enabled; where nothing is, as a service. Nothing where none is installed."""
    states = {unit: _asked(machine, "is-enabled", unit).strip() for unit in _SSH_STARTED}
    enabled = [unit for unit, state in states.items() if state.startswith("enabled")]
    installed = [unit for unit, state in states.items() if state == "disabled" and unit.endswith(".service")]
    for unit in (enabled or installed)[:1]:
        if not _running(machine, [unit]):
            _start(machine, unit)


def _ssh_sessions(machine: Machine) -> list[str]:
    # At boot nobody has a session, and logind and D-Bus may come after whoever asks.
    if not machine.has("loginctl") or not _any_session(machine):
        return []
    listed = machine.ask("loginctl", "--no-legend", "list-sessions", within_s=_DEADLINE_S).output
    found = []
    for session in (line.split()[0] for line in listed.splitlines() if line.strip()):
        shown = machine.ask("loginctl", "show-session", session, "-p", "Service", "-p", "State", within_s=_DEADLINE_S).output
        properties = dict(line.partition("=")[::2] for line in shown.splitlines())
        if properties.get("Service") in ("sshd", "dropbear") and properties.get("State") != "closing":
            found.append(session)
    return found


def _any_session(machine: Machine) -> bool:
    folder = machine.path(_SESSIONS)
    return folder.is_dir() and any(folder.iterdir())


def _asked(machine: Machine, *arguments: str) -> str:
    return machine.ask("systemctl", *arguments, within_s=_DEADLINE_S).output


def _start(machine: Machine, unit: str) -> None:
    """Not waited for: at boot both come after the policy is applied."""
    machine.do("systemctl", "--no-ask-password", "--no-block", "start", unit, within_s=_DEADLINE_S)


def _systemctl(machine: Machine, verb: str, *units: str) -> None:
    machine.do("systemctl", "--no-ask-password", verb, *units, within_s=_DEADLINE_S)


_WATCHED: Final = (_MASKS, _SYSCTL, _LOGIND[0], _MANAGER[0])
RULE: Final = Rule("consoles", Consoles, looser, apply, measure, undo, watched=_WATCHED, next_change=next_change, beyond=beyond)
