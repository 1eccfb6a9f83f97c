"""What the citizen's browser may open and do: managed policies of Chromium, which no user of it can change.

Chromium reads *every* file in its folder of managed policies, whatever its name, and the last one wins: one that is not ours is
drift, and `apply` removes it for good. A package that needs one brings it again; what it meant belongs into the operator's
document. Blocked is what is opened, in a tab or a frame, not what an opened page fetches: that is the firewall's.
"""

import json
import os
import re
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Final

from agent.contract.typed import Check, Length, shown
from agent.contract.words import Name, is_loopback
from agent.lockdown import kiosk_files
from agent.lockdown.chromium import HARDENING
from agent.lockdown.rule import COMPLIANT, Machine, Measured, Place, Rule

_ENTRIES: Final = 1000  # Chromium ignores what stands in URLAllowlist after so many
_EVERYWHERE: Final = "*"

_LABEL: Final = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_OCTET: Final = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
# Two labels at least: "fr" would be every site of a country. An address stands for itself alone.
_HOST: Final = rf"localhost|({_LABEL}\.)+(?=[a-z]){_LABEL}|({_OCTET}\.){{3}}{_OCTET}"
_SITE: Final = re.compile(rf"((?P<scheme>https?)://)?(?P<host>{_HOST})(:(?P<port>[1-9][0-9]{{0,4}}))?")


def _parts(site: str) -> tuple[str | None, str, str | None] | None:
    """Scheme, host and port of what is written as a site or an origin."""
    found = _SITE.fullmatch(site)
    if found is None or len(found["host"]) > 253 or int(found["port"] or 1) > 65535:
        return None
    return found["scheme"], found["host"], found["port"]


def _sites_problem(sites: tuple[str, ...]) -> str | None:
    for site in sites:
        if site != _EVERYWHERE and _parts(site) is None:
            return f"write hosts such as caf.fr or https://caf.fr:8443, in lower case, or * for every site (here: {shown(site)})"
    return None


def _origins_problem(origins: tuple[str, ...]) -> str | None:
    for origin in origins:
        parts = _parts(origin)
        secure = parts is not None and (parts[0] == "https" or (parts[0] == "http" and is_loopback(parts[1])))
        if origin != _EVERYWHERE and not secure:
            return f"write origins such as https://visio.example.org, or * for every open site (here: {shown(origin)})"
    return None


Sites = Annotated[tuple[str, ...], Length(_ENTRIES), Check(_sites_problem, "hosts, with their subdomains, or *")]


@dataclass(frozen=True)
class Web:
    """`groups`: sites by name; `allow`: the groups that are open, the others wait. A site is a host with its subdomains, of any
    scheme and port where none is written. `uploads`: the dialogue that chooses a file. `camera_origins`: who may film and listen
    without being asked for; with * each open site asks the citizen."""

    groups: Annotated[dict[Name, Sites], Length(100)] = field(default_factory=dict)
    allow: Annotated[tuple[Name, ...], Length(100)] = ()
    downloads: bool = False
    uploads: bool = False
    developer_tools: bool = False
    incognito: bool = False
    printing: bool = False
    camera_origins: Annotated[tuple[str, ...], Length(20), Check(_origins_problem, "https origins")] = ()


def _open(web: Web) -> list[str]:
    """The open sites, each once, in the document's order."""
    return list(dict.fromkeys(site for group in web.allow for site in web.groups.get(group, ())))


def _problem(web: Web) -> str | None:
    missing = [group for group in web.allow if group not in web.groups]
    if missing:
        return f"allow: no such group in groups: {', '.join(missing[:10])}"
    count = len(_allowlist(web))
    if count > _ENTRIES:
        return f"at most {_ENTRIES} entries can be open, since Chromium reads no more (here: {count})"
    closed = _beyond(web, (origin for origin in web.camera_origins if origin != _EVERYWHERE))
    return f"camera_origins: {closed} is not open: allow a group that has it" if closed else None


def _beyond(web: Web, sites: Iterable[str]) -> str | None:
    """The first of `sites` that opens more than `web` does by one of its own."""
    had = {_parts(site) for site in _open(web)}
    if _EVERYWHERE in _open(web):
        return None
    for site in sites:
        parts = _parts(site)
        if parts is None:
            return site
        scheme, host, port = parts
        labels = host.split(".")
        above = [".".join(labels[depth:]) for depth in range(len(labels))]  # of an address, no such host exists
        if had.isdisjoint(product((scheme, None), above, (port, None))):
            return site
    return None


def _cameras(web: Web) -> set[str]:
    """Each with its port: Chromium's pattern without one may mean every port."""
    return {
        f"{origin}:{443 if parts[0] == 'https' else 80}" if (parts := _parts(origin)) and parts[2] is None else origin
        for origin in web.camera_origins
    }


def looser(before: Web, after: Web) -> bool:
    switches = ("downloads", "uploads", "developer_tools", "incognito", "printing")
    films = _cameras(before)
    return (
        any(getattr(after, name) and not getattr(before, name) for name in switches)
        or _beyond(before, _open(after)) is not None
        or not (_EVERYWHERE in films or _cameras(after) <= films)
    )


# To "*" the browser's own pages, its settings among them, are no sites.
_CLOSED: Final = ("*", "chrome://*")
_PREVIEW: Final = "chrome://print"


def _allowlist(web: Web) -> list[str]:
    sites = _open(web)
    if _EVERYWHERE in sites:
        sites = ["http://*", "https://*"]  # "*" would open file:// too
    return [*sites, _PREVIEW] if web.printing else sites


def _policies(web: Web) -> dict[str, object]:
    """Chromium's managed policies. `…CaptureAllowed`: whether a page may ask; who is among the URLs need not."""
    asked = _EVERYWHERE in web.camera_origins
    origins = sorted(_cameras(web) - {_EVERYWHERE})
    return {
        "URLBlocklist": list(_CLOSED),
        "URLAllowlist": _allowlist(web),
        "DownloadRestrictions": 1 if web.downloads else 3,  # 1: but dangerous ones
        "AllowFileSelectionDialogs": web.uploads,
        "DeveloperToolsAvailability": 1 if web.developer_tools else 2,
        "RemoteDebuggingAllowed": web.developer_tools,
        "IncognitoModeAvailability": 0 if web.incognito else 1,
        "PrintingEnabled": web.printing,
        "PrinterTypeDenyList": [] if web.downloads else ["pdf"],  # "Save as PDF" is a download by another name
        "VideoCaptureAllowed": asked,
        "VideoCaptureAllowedUrls": origins,
        "AudioCaptureAllowed": asked,
        "AudioCaptureAllowedUrls": origins,
        **HARDENING,
    }


_HOMES: Final = ("etc/chromium", "etc/chromium-browser")  # of Debian, of Raspberry Pi OS
_MANAGED: Final = "policies/managed"
_FILE: Final = "booth-web.json"


def _text(web: Web) -> str:
    return json.dumps(_policies(web), indent=1)


def _folders(machine: Machine, home: str) -> tuple[Path, Path, Path]:
    return machine.path(home), machine.path(home) / "policies", machine.path(home) / _MANAGED


def _wrong(path: Path, kind: Callable[[int], bool], mode: int) -> str | None:
    """What is wrong with what root alone may write and everybody must read: a Chromium that cannot goes without a policy."""
    try:
        status = path.lstat()
    except OSError as error:
        return f"{path.name}: {error.strerror}"
    if not kind(status.st_mode):
        return f"{path.name} is something else"
    if not kiosk_files.is_roots(status):
        return f"{path.name} does not belong to root"
    if stat.S_IMODE(status.st_mode) != mode:
        return f"{path.name} has mode {stat.S_IMODE(status.st_mode):o}"
    return None


def _file_wrong(machine: Machine, file: Path, web: Web) -> str | None:
    changed = machine.text(file) != _text(web)
    return _wrong(file, stat.S_ISREG, 0o644) or (f"{file.name} was changed" if changed else None)


def _strangers(managed: Path) -> list[Path]:
    """What Chromium would read besides ours; a package's empty default says nothing."""
    with suppress(OSError), os.scandir(managed) as entries:
        return sorted(managed / entry.name for entry in entries if entry.name != _FILE and _speaks(entry))
    return []


def _speaks(entry: os.DirEntry[str]) -> bool:
    if not entry.is_file(follow_symlinks=False):
        return not entry.is_dir(follow_symlinks=False)
    return entry.stat().st_size > 4 or Path(entry).read_bytes().strip() not in (b"", b"{}")


def apply(machine: Machine, _place: Place, web: Web) -> None:
    for home in _HOMES:
        folders = _folders(machine, home)
        for folder in folders:
            kiosk_files.put_folder(machine, folder)
        file = folders[-1] / _FILE
        if _file_wrong(machine, file, web):
            machine.put(file, _text(web) + "\n")
        for stranger in _strangers(folders[-1]):
            machine.remove(stranger)


def measure(machine: Machine, _place: Place, web: Web) -> Measured:
    for home in _HOMES:
        folders = _folders(machine, home)
        wrong = next(filter(None, (_wrong(folder, stat.S_ISDIR, 0o755) for folder in folders)), None)
        wrong = wrong or _file_wrong(machine, folders[-1] / _FILE, web)
        if wrong is None and (strangers := _strangers(folders[-1])):
            wrong = f"a file that is not ours: {shown(strangers[0].name)}"
        if wrong is not None:
            return Measured("violated", f"/{home}: {wrong}")
    if not machine.has("chromium") and not machine.has("chromium-browser"):
        return Measured("not-applicable", "neither chromium nor chromium-browser is installed")
    return COMPLIANT


def undo(machine: Machine, _place: Place) -> None:
    for home in _HOMES:
        folders = _folders(machine, home)
        machine.remove(folders[-1] / _FILE)
        for folder in reversed(folders):
            with suppress(OSError):  # not empty: somebody else's
                folder.rmdir()


_SCHEMA: Final[Any] = Annotated[Web, Check(_problem, "groups that exist, and no more sites than Chromium reads")]
RULE: Final = Rule(
    "web",
    _SCHEMA,
    looser,
    apply,
    measure,
    undo,
    watched=tuple(f"{home}/{_MANAGED}{name}" for home in _HOMES for name in ("", f"/{_FILE}")),
)
