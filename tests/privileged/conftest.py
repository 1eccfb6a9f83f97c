"""What the tests of root's acts share."""

from pathlib import Path

import pytest

from tests.privileged.booth import Booth


@pytest.fixture
def booth(tmp_path: Path) -> Booth:
    return Booth(tmp_path)
