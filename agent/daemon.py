"""The process of `booth-agent run`: a fresh Python that has parsed no command line. Decision 11.

`python -m agent.daemon CONFIG STATE_DIR RUNTIME_DIR VERBOSE`, each empty where it was not given.
"""

import asyncio
import sys
from pathlib import Path

from agent.app import serve
from agent.places import runtime_dir_of, settings_of, state_dir_of
from agent.settings_remote import with_documents
from agent.system import process, service_manager
from agent.system.single import AlreadyRunning, SingleInstance


def main(config: str, state: str, runtime: str, verbose: str) -> int:
    """Until SIGTERM or SIGINT. Exit status 0 for an end in order, 1 where it could not run."""
    settings = settings_of(Path(config) if config else None)
    state_dir = state_dir_of(Path(state) if state else None)
    if settings is None or state_dir is None:
        return 1
    settings = with_documents(settings, state_dir)
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


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
