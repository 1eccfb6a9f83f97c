"""The process of `booth-agent run`: a fresh Python that has parsed no command line, no TOML and no document. Decision 11.

`python -m agent.daemon CONFIG STATE_DIR RUNTIME_DIR VERBOSE SETTINGS`, each empty where it was not given, but for the last: the
descriptor of an open file with JSON in it, `local`, the data of `agent.toml`, and `merged`, the same under the operator's
configuration, or null.
"""

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.app import serve
from agent.contract.typed import Invalid
from agent.peripherals import declared
from agent.places import runtime_dir_of, settings_in, state_dir_of
from agent.settings import Settings, read
from agent.system import process, service_manager
from agent.system.single import AlreadyRunning, SingleInstance


def main(config: str, state: str, runtime: str, verbose: str, settings_file: str) -> int:
    """Until SIGTERM or SIGINT. Exit status 0 for an end in order, 1 where it could not run."""
    with open(int(settings_file), "rb") as stream:
        data = json.load(stream)
    settings = _settings(Path(config) if config else None, data["local"], data["merged"])
    state_dir = state_dir_of(Path(state) if state else None)
    if settings is None or state_dir is None:
        return 1
    runtime_dir = runtime_dir_of(Path(runtime) if runtime else None, state_dir)
    if runtime_dir is None:
        return 1
    process.use_one_malloc_arena()
    service_manager.log_to_journal_or_stderr(bool(verbose))
    try:
        with SingleInstance(state_dir):
            asyncio.run(serve(settings, state_dir, runtime_dir))
    except AlreadyRunning as error:
        print(f"booth-agent: {error}", file=sys.stderr)
        return 1
    except PermissionError as error:
        print(f"booth-agent: {error}; give --state-dir a directory that this user may write", file=sys.stderr)
        return 1
    return 0


def _settings(config: Path | None, local: Mapping[str, Any], merged: Mapping[str, Any] | None) -> Settings | None:
    """Where `agent.toml` was changed since and no longer goes with the operator's configuration, it counts alone: the agent
    starts, and says so when the documents arrive again. None after every problem of `agent.toml` was printed."""
    alone = settings_in(config, local)
    if alone is None or merged is None:
        return alone
    try:
        return replace(read(merged, declared(), alone.file.parent), file=alone.file)
    except Invalid as error:
        print(f"booth-agent: {alone.file} counts alone, the operator's configuration not: {error}", file=sys.stderr)
        return alone


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
