"""Fault 51: the power is cut at every step of an update. Exactly the old or the new version is in use, and it goes on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.updates.cuts import STORIES

_FEWEST = {"committed": 26, "never-starts": 33, "unhealthy": 29, "forms": 20}


@pytest.mark.parametrize("story", STORIES)
def test_f51_whatever_is_cut_when_the_old_or_the_new_version_is_in_use(tmp_path: Path, story: str) -> None:
    command = [sys.executable, "-m", "tests.updates.cuts", str(tmp_path), story]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    moments = json.loads(done.stdout)
    assert len(moments) >= _FEWEST[story], moments
    assert {"keep", "kept", "copy", "copied"} <= set(moments)
    print(f"{story}: {len(moments)} moments")
