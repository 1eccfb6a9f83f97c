"""Bundles of a small agent: real wheels with a few lines in them, in place of the 15 MB that a booth gets."""

import base64
import csv
import io
import json
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from agent.updates.agent_release import BASE, this_architecture
from agent.updates.environment import this_python

VERSION = "1.4.0"
MAIN = """
import sys
from small_library import answer
def main():
    if "--version" in sys.argv:
        print("booth-agent {version}")
    elif "check-config" in sys.argv:
        text = open(sys.argv[-1]).read()
        if "good" not in text:
            sys.exit("first line\\nagent.toml: write good")
    else:
        print(answer(), __file__)
if __name__ == "__main__":
    main()
"""


def wheel(folder: Path, name: str, files: Mapping[str, str], version: str = VERSION, program: str | None = None) -> Path:
    """A wheel with `files`; `program`: the entry point that it has."""
    info = f"{name}-{version}.dist-info"
    told = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if program is not None:
        told[f"{info}/entry_points.txt"] = f"[console_scripts]\n{program}\n"
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    file = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for path, text in {**files, **told}.items():
            archive.writestr(path, text)
            digest = base64.urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b"=").decode()
            rows.writerow([path, f"sha256={digest}", len(text.encode())])
        rows.writerow([f"{info}/RECORD", "", ""])
        archive.writestr(f"{info}/RECORD", record.getvalue())
    return file


def bundle(folder: Path, main: str = MAIN, version: str = VERSION, more: Mapping[str, str] | None = None, **over: Any) -> Path:
    """What an archive unpacks to. `more`: further files of the agent's wheel. `over`: what its manifest says else."""
    wheels = folder / "wheels"
    wheels.mkdir(parents=True)
    agent = {"agent/__init__.py": "", "agent/__main__.py": main.replace("{version}", version)} | dict(more or {})
    wheel(wheels, "booth_agent", agent, version, "booth-agent = agent.__main__:main")
    wheel(wheels, "small_library", {"small_library.py": "def answer():\n    return 'works'\n"})
    say(folder, version=version, **over)
    return folder


def say(folder: Path, **over: Any) -> None:
    """Write the manifest of what is there."""
    listed = [
        {"file": file.name, "sha256": sha256(file.read_bytes()).hexdigest(), "python": None}
        for file in sorted((folder / "wheels").iterdir())
    ]
    manifest = {
        "schema": 1, "name": "booth-agent", "version": VERSION, "architecture": this_architecture(), "python": [this_python()],
        "base": BASE, "wheels": listed,
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest | over))
