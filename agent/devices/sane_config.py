"""A SANE configuration folder with one backend in it: no other library is loaded, no network is searched.

libsane reads `dll.conf`, every file of `dll.d`, and one `<backend>.conf` for each backend, all from the folders in
SANE_CONFIG_DIR. The stock ones load seventy backends, some of which call for scanners by broadcast.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

SYSTEM_FOLDER: Final = "/etc/sane.d"
_CALLS: Final = re.compile(r"\s*(net\s+autodiscovery\b|networking\s*=|auto_detection\s*=)")
_QUIET: Final = {"pixma": "networking=no\n"}  # without it, each sane_open calls by broadcast


def sources(config_dir: str | None, environment: str | None) -> list[Path]:
    """Where a backend's own file may stand: the folder that was configured, else SANE_CONFIG_DIR, else the system's."""
    if config_dir is not None:
        return [Path(config_dir)]
    named = [Path(folder) for folder in (environment or "").split(":") if folder]
    return named or [Path(SYSTEM_FOLDER)]


def prepare(folder: Path, backend: str, found_in: Iterable[Path]) -> None:
    """Make `folder` hold `backend` alone, with its own file if there is one. Raises OSError."""
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    files = {"dll.conf": backend + "\n"}
    for source in found_in:
        try:
            files[f"{backend}.conf"] = quiet(backend, (source / f"{backend}.conf").read_text(errors="surrogateescape"))
            break
        except FileNotFoundError:
            continue
    for name, text in files.items():
        # A worker may be killed at any moment: the next one must not find half a file.
        fresh = folder / f"{name}.new"
        fresh.write_text(text, errors="surrogateescape")
        fresh.replace(folder / name)
    for other in folder.iterdir():
        if other.name not in files:
            other.unlink()


def quiet(backend: str, text: str) -> str:
    """A backend's file without the lines that let it search the network for scanners."""
    kept = "".join(line for line in text.splitlines(keepends=True) if not _CALLS.match(line))
    if backend not in _QUIET:
        return kept
    return kept + ("" if kept.endswith("\n") or not kept else "\n") + _QUIET[backend]
