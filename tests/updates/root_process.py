"""Root's program with the kinds of `story`: `python -m tests.updates.root_process ROOT serve|start|deadline`."""

import sys

from agent.privileged import update
from tests.updates.story import KINDS

if __name__ == "__main__":
    sys.exit(update.main(["--root", *sys.argv[1:]], KINDS))
