"""The agent as systemd runs it, in its sandbox, on a real kernel: what it says, and what its light shows."""

import json
from collections.abc import Iterator

import pytest

from agent.contract.words import LightWord
from tests.virtual_booth.booth import SETTINGS, VirtualBooth
from tests.virtual_booth.lamps import Lamps

_TOPICS = "booth/v1/61/61-0001"
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
_JOURNAL = "journalctl -u booth-agent -o cat --no-pager | tail -20"
_SEEN_S = 6.0
_STARTS_S = 90  # Python, systemd and a film, on an emulated processor


@pytest.fixture(scope="module")
def agent(leds: Lamps) -> Iterator[Lamps]:
    """Its unit has started, with a broker and a camera; the sound is not plugged in yet."""
    booth = leds.booth
    booth.run(f"cat > /etc/booth-agent/agent.toml <<'END'\n{_SETTINGS}\nEND")
    booth.run("systemd-run --quiet --unit broker mosquitto -p 1883")
    booth.run(_CAMERA)
    booth.wait_for("test -e /dev/video0 && udevadm settle")
    booth.run("systemctl start booth-agent", timeout_s=_STARTS_S)
    yield leds
    booth.run("systemctl stop booth-agent broker", timeout_s=60)
    booth.run("rm -rf /run/systemd/system/booth-agent.service.d && systemctl daemon-reload")
    booth.wait_for("modprobe --remove --all vivid snd-aloop")


def said(booth: VirtualBooth, topic: str) -> str:
    """What is retained there."""
    return booth.run(f"mosquitto_sub -W 10 -C 1 -t {_TOPICS}/{topic}").strip()


def until_said(booth: VirtualBooth, topic: str, pattern: str, timeout_s: float = _STARTS_S) -> None:
    booth.wait_for(f"mosquitto_sub -W 5 -C 1 -t {_TOPICS}/{topic} | grep -E '{pattern}' || {{ {_JOURNAL}; false; }}", timeout_s)


def shows(lamps: Lamps, word: LightWord) -> None:
    """Wait until the lamps show the word, for as long as it takes to tell it from others."""
    problems: list[str] = ["nothing seen"]
    for _ in range(5):
        lamps.booth.run(f"sleep {_SEEN_S}")
        now_s = lamps.now_s()
        if not (problems := lamps.problems(word, now_s - _SEEN_S, now_s)):
            return
    raise AssertionError(f"{problems}\n{lamps.booth.run(_JOURNAL)}")


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
    agent.booth.run("mkdir -p /run/systemd/system/booth-agent.service.d")
    agent.booth.run("printf '[Service]\\nRestartSec=15\\n' > /run/systemd/system/booth-agent.service.d/away.conf")
    agent.booth.run("systemctl daemon-reload && systemctl kill -s KILL booth-agent")
    agent.booth.wait_for("systemctl show -p SubState --value booth-agent | grep -x auto-restart", timeout_s=20)
    shows(agent, "starting")
    assert agent.booth.run(f"cat /sys/class/leds/{agent.names[0]}/repeat") == "-1\n"
    agent.booth.wait_for("systemctl is-active booth-agent", timeout_s=_STARTS_S)
    shows(agent, "ok")


def test_a_stopped_agent_leaves_starting(agent: Lamps) -> None:
    agent.booth.run("systemctl stop booth-agent", timeout_s=40)
    assert json.loads(said(agent.booth, "state"))["state"] == "asleep"
    shows(agent, "starting")
