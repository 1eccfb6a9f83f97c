"""Where `agent.toml`, the state and the session lock are: options, else what systemd says, else the usual places.

Problems are printed, with what to do, for whoever started the program.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from agent.contract.typed import Invalid
from agent.peripherals import declared
from agent.settings import Settings, data_of, read

_RUNTIME_DIR: Final = Path("/run/booth-agent")


def config_file(option: Path | None) -> Path:
    return option or Path(os.environ.get("CONFIGURATION_DIRECTORY", "/etc/booth-agent")) / "agent.toml"


def settings_of(option: Path | None) -> Settings | None:
    """The settings, or None after every problem was printed."""
    data = data_in(option)
    return None if data is None else settings_in(option, data)


def data_in(option: Path | None) -> dict[str, Any] | None:
    """The plain data of the file, or None after the problem was printed."""
    file = config_file(option)
    try:
        return data_of(file)
    except OSError as error:
        print(f"booth-agent: {file}: {error.strerror}; name the file with --config FILE", file=sys.stderr)
    except Invalid as error:
        _print_problems(file, error)
    return None


def settings_in(option: Path | None, data: Mapping[str, Any]) -> Settings | None:
    """The settings in the file's data, or None after every problem was printed."""
    file = config_file(option)
    try:
        return replace(read(data, declared(), file.parent), file=file)
    except Invalid as error:
        _print_problems(file, error)
    return None


def _print_problems(file: Path, error: Invalid) -> None:
    for problem in error.problems:
        print(f"{file}: {problem}", file=sys.stderr)
    count = len(error.problems)
    print(f"booth-agent: {count} problem{'s' if count > 1 else ''} in {file}", file=sys.stderr)


def state_dir_of(option: Path | None, fallback: Path | None = None) -> Path | None:
    """What outlives a restart; None after the problem was printed."""
    return _directory(option, "STATE_DIRECTORY", Path("/var/lib/booth-agent"), fallback)


def runtime_place(option: Path | None) -> Path:
    """Where the session lock would be, whether there is such a directory or not."""
    return option or Path(os.environ.get("RUNTIME_DIRECTORY", _RUNTIME_DIR))


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
