"""Sound cards: what /proc/asound says of them, and what amixer's words mean."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.devices import alsa
from agent.devices.alsa import Card, Control, muted, parse
from agent.devices.sysfs import KernelFiles
from agent.devices.workers import Workers
from agent.simulator.machine import SimulatedFiles

# As printed by alsa-utils 1.2.8 on Linux 6.1: snd-dummy (shortened), and QEMU's USB card.
DUMMY = """\
Simple mixer control 'Master',0
  Capabilities: volume cswitch
  Playback channels: Front Left - Front Right
  Capture channels: Front Left - Front Right
  Limits: -50 - 100
  Front Left: 0 [33%] [-30.00dB] Capture [off]
  Front Right: 0 [33%] [-30.00dB] Capture [off]
Simple mixer control 'Mic',0
  Capabilities: volume cswitch
  Playback channels: Front Left - Front Right
  Capture channels: Front Left - Front Right
  Limits: -50 - 100
  Front Left: 0 [33%] [-30.00dB] Capture [off]
  Front Right: 0 [33%] [-30.00dB] Capture [off]
Simple mixer control 'External I/O Box',0
  Capabilities: enum
  Items: 'None' 'CD Player'
  Item0: 'CD Player'
"""
USB = """\
Simple mixer control 'Audio Output Volume Control',0
  Capabilities: pvolume pswitch pswitch-joined
  Playback channels: Front Left - Front Right
  Limits: Playback 0 - 256
  Mono:
  Front Left: Playback 240 [94%] [-0.50dB] [on]
  Front Right: Playback 240 [94%] [-0.50dB] [on]
"""
CARDS = """ 0 [Dummy          ]: Dummy - Dummy
                      Dummy 1
 1 [Audio          ]: USB-Audio - QEMU USB Audio
                      QEMU QEMU USB Audio at usb-0000:00:02.0-1, full speed"""


def control(name: str, channel: str) -> str:
    return f"Simple mixer control '{name}',0\n  Capabilities: x\n  Mono: {channel}\n"


def test_cards_are_read_as_the_kernel_lists_them(tmp_path: Path) -> None:
    files = SimulatedFiles(tmp_path)
    assert alsa.cards(files) == []  # no sound in this kernel
    files.write("proc/asound/cards", "--- no soundcards ---")
    assert alsa.cards(files) == []
    files.write("proc/asound/cards", CARDS)
    assert alsa.cards(files) == [Card(0, "Dummy", "Dummy - Dummy"), Card(1, "Audio", "USB-Audio - QEMU USB Audio")]


def test_what_a_card_can_do_and_does_stands_in_its_streams(tmp_path: Path) -> None:
    files = SimulatedFiles(tmp_path)
    card = Card(1, "Audio", "x")
    files.write("proc/asound/card1/pcm0p/sub0/status", "closed")
    files.write("proc/asound/card1/pcm0p/sub1/status", "closed")
    files.write("proc/asound/card1/pcm0p/info", "state: RUNNING")  # no substream
    files.write("proc/asound/card1/pcm_c/sub0/status", "state: RUNNING")  # no stream
    assert alsa.can(files, card, "playback")
    assert not alsa.can(files, card, "capture")
    assert not alsa.runs(files, card, "playback")
    for status, runs in (("state: SETUP\nowner_pid   : 7", False), ("state: RUNNING\nowner_pid   : 7", True), ("closed", False)):
        files.write("proc/asound/card1/pcm0p/sub1/status", status)
        assert alsa.runs(files, card, "playback") is runs


def test_real_output_is_understood() -> None:
    assert parse(DUMMY) == [
        Control("Master", capture=True, playback=False),
        Control("Mic", capture=True, playback=False),
        Control("External I/O Box", capture=None, playback=None),
    ]
    assert parse(USB) == [Control("Audio Output Volume Control", capture=None, playback=False)]
    assert muted(parse(DUMMY), "capture")
    assert not muted(parse(DUMMY), "playback")
    assert not muted(parse(USB), "playback")
    assert not muted(parse(USB), "capture")
    # Its own name for the one control that it has.
    assert muted(parse(USB.replace("[on]", "[off]")), "playback")


@pytest.mark.parametrize(
    ("channel", "capture", "playback"),
    [
        ("Playback 87 [69%] [-20.00dB] [on] Capture 0 [0%] [off]", True, False),
        ("Playback 0 [0%] [off] Capture 5 [80%] [on]", False, True),
        ("Capture 39 [62%] [12.00dB] [on]", False, None),
        ("Playback 0 [0%] [-99999.99dB] [on]", None, True),
        ("Playback 0 [0%] [-63.00dB]", None, True),
        ("Capture 0 [0%] [0.00dB] [on]", False, None),  # the lowest step of an amplifier is heard
        ("Capture 0 [0%]", True, None),
        ("3 [50%] [on]", False, False),  # one switch for both directions
        ("3 [50%] [off]", True, True),
        ("0 [33%] [-30.00dB] Capture [on]", False, False),
        ("", None, None),
        ("Playback", None, None),
    ],
)
def test_a_channel_is_silent_when_it_is_off_or_at_zero(channel: str, capture: bool | None, playback: bool | None) -> None:
    (found,) = parse(control("X", channel))
    assert (found.capture, found.playback) == (capture, playback)


def test_one_channel_that_is_heard_is_enough() -> None:
    left_only = USB.replace("Front Right: Playback 240 [94%] [-0.50dB] [on]", "Front Right: Playback 0 [0%] [-99.00dB] [on]")
    assert parse(left_only)[0].playback is False


@pytest.mark.parametrize(
    ("controls", "silent"),
    [
        ({"Master": True, "Speaker": False}, True),  # everything goes through Master
        ({"Master": False, "Speaker": True, "Headphone": False}, False),  # plugged headphones mute the speaker
        ({"Master": False, "Speaker": True, "Headphone": True}, True),
        ({"PCM": True}, True),
        ({"Beep": True, "Master": False}, False),
        ({"Loudspeaker of the maker": True}, True),
        ({}, False),
    ],
)
def test_controls_in_line_and_beside_each_other(controls: dict[str, bool], silent: bool) -> None:
    found = [Control(name, capture=None, playback=state) for name, state in controls.items()]
    assert muted(found, "playback") is silent
    assert not muted(found, "capture")


def test_a_named_control_decides_alone() -> None:
    found = [Control("Master", capture=None, playback=True), Control("DAC", capture=None, playback=False)]
    assert muted(found, "playback")
    assert not muted(found, "playback", only="DAC")
    assert muted([Control("DAC", capture=None, playback=True)], "playback", only="DAC")


@given(st.text(st.sampled_from("SimPlaybackCaptur ontl'X,0:[]%dB-.9\n  ")) | st.text())
def test_f66_whatever_it_prints_is_no_exception(text: str) -> None:
    controls = parse(DUMMY + text)
    muted(controls, "capture")
    muted(controls, "playback")


def stand_in(folder: Path, script: str) -> str:
    program = folder / "amixer"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(program)


async def ask(program: str, card: int = 1) -> dict[str, Any]:
    workers = Workers()
    answer = await workers.call("alsa", "agent.devices.alsa:mixer", {"program": program, "card": card}, 20)
    assert workers.alive == 0
    return answer


async def test_the_job_asks_one_card_in_plain_english(tmp_path: Path) -> None:
    program = stand_in(tmp_path, f'echo "$LC_ALL $@" > {tmp_path}/asked; cat {tmp_path}/says')
    (tmp_path / "says").write_text(USB)
    assert await ask(program, 3) == {"controls": [{"name": "Audio Output Volume Control", "capture": None, "playback": False}]}
    assert (tmp_path / "asked").read_text() == "C -c 3 scontents\n"


async def test_the_job_says_what_went_wrong(tmp_path: Path) -> None:
    assert await ask(str(tmp_path / "amixer")) == {"problem": f"{tmp_path}/amixer: No such file or directory"}
    refused = stand_in(tmp_path, "printf 'amixer: Mixer attach hw:1 error: \\033[2JPermission denied\\n\\n' >&2; exit 1")
    assert await ask(refused) == {"problem": "amixer: Mixer attach hw:1 error: \\x1b[2JPermission denied"}
    assert await ask(stand_in(tmp_path, "exit 3")) == {"problem": "amixer ended with 3"}


async def test_the_real_amixer_names_a_card_that_is_not_there() -> None:
    program = shutil.which("amixer")
    if program is None:
        pytest.skip("amixer is missing (apt-get install alsa-utils)")
    assert await ask(program, 31) == {"problem": "Invalid card number '31'."}


async def test_the_real_amixer_is_understood_on_a_real_card() -> None:
    program = shutil.which("amixer")
    cards = alsa.cards(KernelFiles())
    if program is None or not cards:
        pytest.skip("amixer is missing (apt-get install alsa-utils)" if program is None else "this machine has no sound card")
    for card in cards:
        assert "controls" in await ask(program, card.index)
