"""The V4L2 worker on a real driver: vivid, the kernel's own test camera, whose pictures and faults can be set."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.virtual_booth.booth import PYTHON, VirtualBooth

_MODULE = "vivid n_devs=1 node_types=0x1 num_inputs=1 input_types=0"
_FILM = f"{PYTHON} -I -B -m agent.devices.worker agent.devices.v4l2:film"
_REQUEST = json.dumps({"path": "/dev/video0", "within_s": 10})
_USUAL = {"test_pattern": 0, "osd_text_mode": 0, "percentage_of_dropped_buffers": 0}


@pytest.fixture
def camera(booth: VirtualBooth) -> Iterator[VirtualBooth]:
    booth.run(f"modprobe {_MODULE}")
    booth.wait_for("test -e /dev/video0 && udevadm settle")
    yield booth
    booth.run("modprobe -r vivid")


def film(booth: VirtualBooth) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(booth.run(f"echo '{_REQUEST}' | {_FILM}", timeout_s=60))
    return answer


def look(booth: VirtualBooth, **controls: int) -> None:
    words = ",".join(f"{name}={value}" for name, value in (_USUAL | controls).items())
    booth.run(f"v4l2-ctl -d /dev/video0 --set-ctrl {words}")


def test_good_black_frozen_and_no_pictures_are_told_apart(camera: VirtualBooth) -> None:
    good = film(camera)
    assert (good["outcome"], good["card"], good["frames"], good["distinct_frames"]) == ("filmed", "vivid", 25, 10)
    assert good["luma_deviation"] > 40

    look(camera, osd_text_mode=2, test_pattern=5)
    black = film(camera)
    assert black["luma_mean"] <= 16
    assert black["luma_deviation"] < 1

    look(camera, osd_text_mode=2)
    frozen = film(camera)
    assert (frozen["frames"], frozen["distinct_frames"]) == (25, 1)
    assert frozen["luma_deviation"] > 40

    look(camera, percentage_of_dropped_buffers=100)
    assert film(camera)["frames"] == 0
    look(camera)
    assert film(camera)["frames"] == 25


def test_f65_a_camera_that_somebody_films_with_is_busy_and_he_goes_on_filming(camera: VirtualBooth) -> None:
    camera.run("systemd-run --quiet --unit call v4l2-ctl -d /dev/video0 --stream-mmap --stream-to=/dev/null")
    try:
        camera.wait_for("grep -q /dev/video0 /proc/$(systemctl show -P MainPID call)/maps")  # its buffers
        assert film(camera) == {"outcome": "busy", "card": "vivid"}
        assert camera.run("systemctl is-active call") == "active\n"
    finally:
        camera.run("systemctl stop call")


def test_f62_one_that_is_unplugged_in_mid_film_is_gone(camera: VirtualBooth) -> None:
    unplug = "echo vivid.0 > /sys/bus/platform/drivers/vivid/unbind"
    answer = camera.run(
        f"echo '{_REQUEST}' | {_FILM} > /run/film & worker=$!; "
        f"until grep -q /dev/video0 /proc/$worker/maps; do sleep 0.1; done; sleep 1; {unplug}; wait $worker; cat /run/film",
        timeout_s=60,
    )
    assert json.loads(answer) == {"outcome": "gone", "reason": "DQBUF: No such device", "card": "vivid"}
