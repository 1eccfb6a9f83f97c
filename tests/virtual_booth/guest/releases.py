"""Runs in the virtual booth: makes bundles of other versions of the installed agent: `releases.py FOLDER VERSION=FAULT …`.

What an update brings is that agent with another number, and one thing that was broken in it on purpose.
"""

import base64
import csv
import hashlib
import importlib
import io
import re
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Final

# The file that a fault is in, what is found there, and what stands in its place.
FAULTS: Final = {
    "none": ("agent/__init__.py", "", ""),
    "crashes": ("agent/daemon.py", "import asyncio\n", "import asyncio\nraise SystemError('this version is broken')\n"),
    # Before it has said to systemd that it runs.
    "hangs": ("agent/daemon.py", "import asyncio\n", "import asyncio\nimport time\ntime.sleep(86400)\n"),
    # It says everything, and hears nothing.
    "deaf": ("agent/engine/echo.py", "if payload == self._word:", "if payload == b'':"),
}
_BASE: Final = Path("/opt/booth-agent/base")
_WHEELS: Final = Path("/opt/wheels")
_HOUSE: Final = "/repository"
_LEFT_OUT: Final = ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json")


def main(folder: Path, *wanted: str) -> None:
    sys.path[:0] = [_HOUSE, f"{_HOUSE}/provisioning"]
    bundle: Any = importlib.import_module("bundle")
    archive = importlib.import_module("agent.updates.archive")
    folder.mkdir(parents=True)
    for version, fault in (one.split("=") for one in wanted):
        with tempfile.TemporaryDirectory() as name:
            work = Path(name)
            bundle.VERSION = version
            bundle.local(_WHEELS, own_wheel(work, version, fault), work / "contents")
            archive.pack(work / "contents", folder / f"booth-agent-{version}-{bundle.this_architecture()}.tar", 0)


def own_wheel(folder: Path, version: str, fault: str) -> Path:
    """What was installed, as a wheel again."""
    [packages] = _BASE.glob("lib/python3.*/site-packages")
    [installed] = packages.glob("booth_agent-*.dist-info")
    file, found, broken = FAULTS[fault]
    own = f"booth_agent-{version}.dist-info"
    record = io.StringIO()
    lines = csv.writer(record, lineterminator="\n")
    wheel = folder / f"booth_agent-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        for source in sorted((*(packages / "agent").rglob("*"), *installed.rglob("*"))):
            if not source.is_file() or source.suffix == ".pyc" or source.name in _LEFT_OUT:
                continue
            name = source.relative_to(packages).as_posix().replace(installed.name, own)
            data = source.read_bytes()
            if name == "agent/__init__.py":
                data = re.sub(rb'VERSION: Final = "[^"]*"', f'VERSION: Final = "{version}"'.encode(), data)
            elif name == f"{own}/METADATA":
                data = re.sub(rb"(?m)^Version: .*$", f"Version: {version}".encode(), data, count=1)
            if name == file and found:
                assert found.encode() in data, f"{file} is another one by now"
                data = data.replace(found.encode(), broken.encode(), 1)
            target.writestr(name, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.writerow((name, f"sha256={digest}", len(data)))
        lines.writerow((f"{own}/RECORD", "", ""))
        target.writestr(f"{own}/RECORD", record.getvalue())
    return wheel


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
