"""Where `agent.toml`, the state and the session lock are: options, else what systemd says, else the usual places.

Problems are printed, with what to do, for whoever started the program.
"""

import os
import sys
from pathlib import Path
from typing import Final

from agent.contract.typed import Invalid
from agent.peripherals import declared
from agent.settings import Settings, load

_RUNTIME_DIR: Final = Path("/run/booth-agent")


def config_file(option: Path | None) -> Path:
    return option or Path(os.environ.get("CONFIGURATION_DIRECTORY", "/etc/booth-agent")) / "agent.toml"


def settings_of(option: Path | None) -> Settings | None:
    """The settings, or None after every problem was printed."""
    file = config_file(option)
    try:
        return load(file, declared())
    except OSError as error:
        print(f"booth-agent: {file}: {error.strerror}; name the file with --config FILE", file=sys.stderr)
    except Invalid as error:
        for problem in error.problems:
            print(f"{file}: {problem}", file=sys.stderr)
        count = len(error.problems)
        print(f"booth-agent: {count} problem{'s' if count > 1 else ''} in {file}", file=sys.stderr)
    return None


def state_dir_of(option: Path | None, fallback: Path | None = None) -> Path | None:
    """What outlives a restart; None after the problem was printed."""
    return _directory(option, "STATE_DIRECTORY", Path("/var/lib/booth-agent"), fallback)


def runtime_dir_of(option: Path | None, otherwise: Path) -> Path | None:
    """Where the session lock is; `otherwise` for a program run by hand on a machine without systemd's directory."""
    if option is None and "RUNTIME_DIRECTORY" not in os.environ and not _RUNTIME_DIR.is_dir():
        return otherwise
    return _directory(option, "RUNTIME_DIRECTORY", _RUNTIME_DIR, None)


def _directory(option: Path | None, variable: str, default: Path, fallback: Path | None) -> Path | None:
    directory = option or Path(os.environ.get(variable, default))
    if directory.is_dir():
        return directory
    if option is not None:
        try:
            directory.mkdir(parents=True, mode=0o750)
        except OSError as error:
            print(f"booth-agent: cannot make {directory}: {error.strerror}", file=sys.stderr)
            return None
        return directory
    if fallback is None:
        print(f"booth-agent: there is no directory {directory}; name one with --state-dir DIR", file=sys.stderr)
    return fallback
