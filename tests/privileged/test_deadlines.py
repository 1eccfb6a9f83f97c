"""Root's acts end before the agent stops waiting for them: what root does later, it would do in a citizen's session."""

import configparser
from pathlib import Path

import pytest

from agent.peripherals import declared
from agent.privileged.acts import ACTS

SYSTEMD = Path(__file__).parents[2] / "systemd"
STOPS_S = 1.0  # until an act that is told to end has switched on again what it had switched off


# What the kiosk's application asks for: the next citizen waits for the session lock meanwhile, 60 s at most (contract §12).
KIOSKS = {"wipe-session": 60.0}


@pytest.mark.parametrize("act", ACTS)
def test_an_act_is_over_before_the_agent_hangs_up(act: str) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(SYSTEMD / f"booth-act-{act}@.service")
    longest_s = float(unit["Service"]["RuntimeMaxSec"])
    ladders = [remedy.deadline_s for kind in declared().values() for remedy in kind.ladder if remedy.name == act]
    chores = [chore.deadline_s for kind in declared().values() for chore in kind.chores if chore.name == act]
    waiting = [KIOSKS[act]] if act in KIOSKS else ladders
    assert waiting, "an act that nobody asks for"
    assert longest_s + STOPS_S <= min(waiting + chores)
