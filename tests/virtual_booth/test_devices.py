"""Camera and sound on the kernel's own test drivers, read and judged by `booth-agent probe` as the agent's user."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.virtual_booth.booth import SETTINGS, VirtualBooth

_SETTINGS = f"""
{SETTINGS}[peripherals.audio]
kind = "audio"
card = "Dummy"
microphone_control = "Mic"
"""
_GOOD = "test_pattern=0,osd_text_mode=0,percentage_of_dropped_buffers=0"


@pytest.fixture(scope="module")
def probing(installed: VirtualBooth) -> VirtualBooth:
    installed.run(f"cat > /run/probe.toml <<'END'\n{_SETTINGS}\nEND")
    return installed


def probe(booth: VirtualBooth, peripheral: str, first: str = "true") -> dict[str, Any]:
    """Its health, as the agent would publish it without waiting to be sure. `first` is done before, in the same shell."""
    program = f"/opt/booth-agent/bin/booth-agent probe {peripheral} --json --config /run/probe.toml --runtime-dir /tmp/probe"
    health: dict[str, Any] = json.loads(booth.run(f"{first}; runuser -u booth-agent -- {program} --state-dir /tmp/probe"))
    return health


def codes(health: dict[str, Any]) -> list[str]:
    return [finding["code"] for finding in health["findings"]]


@pytest.fixture
def camera(probing: VirtualBooth) -> Iterator[VirtualBooth]:
    """One webcam at /dev/video0, with a good picture."""
    probing.run("modprobe vivid n_devs=1 node_types=0x1 num_inputs=1 input_types=0x00")
    probing.wait_for("test -e /dev/video0 && udevadm settle")
    yield probing
    probing.wait_for("modprobe --remove vivid")


@pytest.mark.parametrize(
    ("controls", "status", "found"),
    [
        pytest.param(_GOOD, "ok", [], id="good"),
        pytest.param("test_pattern=5,osd_text_mode=2", "fault", ["black"], id="black"),
    ],
)
def test_what_a_camera_films(camera: VirtualBooth, controls: str, status: str, found: list[str]) -> None:
    camera.run(f"v4l2-ctl -d /dev/video0 -c {controls}")
    health = probe(camera, "camera")
    assert (health["status"], codes(health)) == (status, found), health
    assert health["device"]["product"] == "vivid"


def test_a_camera_whose_driver_says_that_it_is_gone_is_absent(camera: VirtualBooth) -> None:
    # vivid comes back when the last one lets go of it: so somebody holds it.
    health = probe(camera, "camera", "exec 3< /dev/video0; v4l2-ctl -d /dev/video0 -c disconnect=1 >&2 || true")
    assert (health["status"], codes(health)) == ("absent", ["no-device"])


def test_a_microphone_that_is_muted_or_gone(probing: VirtualBooth) -> None:
    assert codes(probe(probing, "audio")) == ["no-device"]
    probing.run("modprobe snd-dummy")
    try:
        probing.wait_for("test -e /dev/snd/controlC0 && udevadm settle")
        probing.run("amixer -q -c Dummy sset Mic 80% cap && amixer -q -c Dummy sset Master 80%")
        health = probe(probing, "audio")
        assert (health["status"], codes(health)) == ("ok", []), health
        probing.run("amixer -q -c Dummy sset Mic nocap")
        health = probe(probing, "audio")
        assert (codes(health), health["facts"]["microphone"], health["facts"]["speaker"]) == (["no-microphone"], "muted", "ok")
        probing.run("amixer -q -c Dummy sset Mic cap && amixer -q -c Dummy sset Master 0%")
        health = probe(probing, "audio")
        assert (codes(health), health["facts"]["microphone"], health["facts"]["speaker"]) == (["no-speaker"], "ok", "muted")
    finally:
        probing.wait_for("modprobe --remove snd-dummy")
