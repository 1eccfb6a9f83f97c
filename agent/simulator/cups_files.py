"""The folder of a simulated print server: configuration, queue, and the programs that cupsd may run."""

import os
import sys
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from agent.simulator import cups_backend

_PARTS: Final = ("daemon", "notifier", "filter", "cgi-bin", "monitor")  # of CUPS's own ServerBin

_CONFIG: Final = """\
Listen 127.0.0.1:{port}
Browsing No
WebInterface No
LogLevel warn
PreserveJobFiles No
DirtyCleanInterval 0
PreserveJobHistory {history}
MaxJobTime 300
ErrorPolicy stop-printer
DefaultAuthType None
<Location />
Order allow,deny
Allow localhost
</Location>
<Policy default>
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
FileDevice No
"""
_QUEUE: Final = """\
<Printer {name}>
Info {name}
DeviceURI {device_uri}
State Idle
Accepting Yes
Shared No
ErrorPolicy {policy}
</Printer>
"""


def furnish(folder: Path, port: int, queue: str, device_uri: str, *, history: bool, policy: str) -> None:
    """As CUPS's own installation would look, with one backend: that of `device_uri`."""
    for name in ("bin/backend", "spool/tmp", "cache", "state", "documents", "log"):
        (folder / name).mkdir(parents=True)
    for name in _PARTS:
        (folder / "bin" / name).symlink_to(Path("/usr/lib/cups") / name)
    backend = folder / "bin" / "backend" / urlsplit(device_uri).scheme
    backend.write_text(f"#!{sys.executable} -IS\n{Path(cups_backend.__file__).read_text(encoding='utf-8')}", encoding="utf-8")
    backend.chmod(0o700)  # one that others could read would be run as the user lp, who may not enter here
    group = "root" if os.geteuid() == 0 else "nogroup"
    (folder / "cupsd.conf").write_text(_CONFIG.format(port=port, history="Yes" if history else "No"))
    (folder / "cups-files.conf").write_text(_FILES.format(folder=folder, group=group))
    (folder / "printers.conf").write_text(_QUEUE.format(name=queue, device_uri=device_uri, policy=policy))
