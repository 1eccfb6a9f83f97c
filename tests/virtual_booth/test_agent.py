"""The agent as systemd runs it, in its sandbox, on a real kernel: what it says, and what its light shows."""

import json
from collections.abc import Iterator

import pytest

from agent.contract.words import LightWord
from tests.virtual_booth.booth import SETTINGS, VirtualBooth
from tests.virtual_booth.inside import JOURNAL, STARTS_S, said, until_said, write
from tests.virtual_booth.inside import agent as running_agent
from tests.virtual_booth.lamps import Lamps

_SETTINGS = f"""
{SETTINGS}[reporting]
alarm_after_s = 1
[light]
red = "booth:red:status"
green = "booth:green:status"
blue = "booth:blue:status"
[peripherals.audio]
kind = "audio"
card = "Loopback"
"""
_CAMERA = "modprobe vivid n_devs=1 node_types=0x1 num_inputs=1 input_types=0x00"
_SEEN_S = 6.0
_DROP_INS = "/run/systemd/system/booth-agent.service.d"
_RETRY_DROP_INS = "/run/systemd/system/booth-retry@.timer.d"


@pytest.fixture(scope="module")
def agent(leds: Lamps) -> Iterator[Lamps]:
    """Its unit has started, with a broker and a camera; the sound is not plugged in yet."""
    booth = leds.booth
    booth.run(_CAMERA)
    booth.wait_for("test -e /dev/video0 && udevadm settle")
    with running_agent(booth, _SETTINGS):
        yield leds
    booth.run(f"rm -rf {_DROP_INS} {_RETRY_DROP_INS} && systemctl daemon-reload")
    booth.wait_for("modprobe --remove --all vivid snd-aloop")


def drop_in(booth: VirtualBooth, folder: str, text: str) -> None:
    """Where a test cannot wait for as long as a booth does."""
    booth.run(f"mkdir -p {folder}")
    write(booth, f"{folder}/quick.conf", text)
    booth.run("systemctl daemon-reload")


def shows(lamps: Lamps, word: LightWord) -> None:
    """Wait until the lamps show the word, for as long as it takes to tell it from others."""
    problems: list[str] = ["nothing seen"]
    for _ in range(5):
        lamps.booth.run(f"sleep {_SEEN_S}")
        now_s = lamps.now_s()
        if not (problems := lamps.problems(word, now_s - _SEEN_S, now_s)):
            return
    raise AssertionError(f"{problems}\n{lamps.booth.run(JOURNAL)}")


def test_in_its_sandbox_it_films_and_calls_the_shopkeeper_for_the_sound(agent: Lamps) -> None:
    until_said(agent.booth, "health/camera", '"status":"ok"')
    assert json.loads(said(agent.booth, "health/camera"))["facts"]["frames"] == 25
    until_said(agent.booth, "health/audio", '"status":"absent"')
    until_said(agent.booth, "led", "^your-turn$")
    shows(agent, "your-turn")


def test_in_its_sandbox_it_hears_that_the_sound_is_plugged_in(agent: Lamps) -> None:
    agent.booth.run("modprobe snd-aloop")
    until_said(agent.booth, "health/audio", '"status":"ok"')
    until_said(agent.booth, "led", "^ok$")
    shows(agent, "ok")


def test_f62_a_camera_that_vanishes_is_absent_and_filmed_when_it_is_back(agent: Lamps) -> None:
    agent.booth.wait_for("modprobe --remove vivid")
    until_said(agent.booth, "health/camera", '"status":"absent"')
    agent.booth.run(_CAMERA)
    until_said(agent.booth, "health/camera", '"status":"ok"')


def test_a_killed_agent_leaves_starting_until_it_is_back(agent: Lamps) -> None:
    # It stays away for long enough to look at what it leaves.
    drop_in(agent.booth, _DROP_INS, "[Service]\nRestartSec=15")
    agent.booth.run("systemctl kill -s KILL booth-agent")
    agent.booth.wait_for("systemctl show -p SubState --value booth-agent | grep -x auto-restart", timeout_s=20)
    shows(agent, "starting")
    assert agent.booth.run(f"cat /sys/class/leds/{agent.names[0]}/repeat") == "-1\n"
    agent.booth.wait_for("systemctl is-active booth-agent", timeout_s=STARTS_S)
    shows(agent, "ok")


def test_a_hung_agent_is_ended_by_its_watchdog_and_comes_back(agent: Lamps) -> None:
    process = "systemctl show -P MainPID booth-agent"
    before = agent.booth.run(process).strip()
    agent.booth.run(f"kill -STOP {before}")
    # Half a minute of silence, and a quarter for ending it.
    agent.booth.wait_for(f"test $({process}) != {before} && systemctl is-active booth-agent", timeout_s=120)
    assert "Watchdog timeout" in agent.booth.run("journalctl -u booth-agent -o cat --no-pager")
    until_said(agent.booth, "health/camera", '"status":"ok"')
    shows(agent, "ok")


def test_an_agent_that_cannot_start_is_tried_again_slowly_and_the_light_says_so(agent: Lamps) -> None:
    booth, config = agent.booth, "/etc/booth-agent/agent.toml"
    given_up = "systemctl is-failed booth-agent && systemctl is-active booth-retry@booth-agent.timer"
    drop_in(booth, _DROP_INS, "[Unit]\nStartLimitBurst=2\n[Service]\nRestartSec=1")
    drop_in(booth, _RETRY_DROP_INS, "[Timer]\nOnActiveSec=\nOnActiveSec=20s\nAccuracySec=1s")
    booth.run(f"cp {config} /run/kept.toml && echo broken > {config} && systemctl restart --no-block booth-agent")
    booth.wait_for(given_up, timeout_s=STARTS_S)
    shows(agent, "starting")
    # It was left alone, tried again, and given up again.
    booth.wait_for("systemctl show -P ExecMainStartTimestamp booth-retry@booth-agent | grep .", timeout_s=STARTS_S)
    booth.wait_for(given_up, timeout_s=STARTS_S)
    booth.run(f"mv /run/kept.toml {config} && systemctl start booth-retry@booth-agent.service")  # as the timer does
    booth.wait_for("systemctl is-active booth-agent", timeout_s=STARTS_S)
    shows(agent, "ok")


def test_a_stopped_agent_leaves_starting(agent: Lamps) -> None:
    agent.booth.run("systemctl stop booth-agent", timeout_s=40)
    assert json.loads(said(agent.booth, "state"))["state"] == "asleep"
    shows(agent, "starting")
