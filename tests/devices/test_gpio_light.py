"""What the agent sends to booth-light, and the GPIO lines as libgpiod has them, with a chip that is not there."""

import contextlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.devices import gpio_lines
from agent.devices.gpio_light import GpioLight
from agent.devices.gpio_lines import GpioLines, NoSuchLine
from agent.devices.led import LightUnavailable


@contextlib.contextmanager
def listener(path: Path) -> Iterator[socket.socket]:
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)) as heard:
        heard.bind(str(path))
        try:
            yield heard
        finally:
            path.unlink()


def words(heard: socket.socket) -> list[bytes]:
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(heard.recv(64))
    return found


async def test_a_word_is_sent_once_and_again_at_each_rearming(tmp_path: Path) -> None:
    light = GpioLight(tmp_path / "light.sock")
    with listener(tmp_path / "light.sock") as heard:
        await light.rearm()
        assert words(heard) == []
        await light.show("your-turn", 100)
        await light.show("your-turn", 20)
        assert words(heard) == [b"your-turn"]
        await light.rearm()
        await light.show("ok", 20)
        await light.leave_starting()
        assert words(heard) == [b"your-turn", b"ok", b"starting"]


async def test_nobody_there_is_said_and_a_later_one_is_told_everything(tmp_path: Path) -> None:
    light = GpioLight(tmp_path / "light.sock")
    with pytest.raises(LightUnavailable, match=r"booth-light does not listen at .*light\.sock.*systemctl"):
        await light.show("ok", 100)
    with listener(tmp_path / "light.sock") as heard:
        await light.show("ok", 100)
        assert words(heard) == [b"ok"]
    with pytest.raises(LightUnavailable):
        await light.rearm()
    with listener(tmp_path / "light.sock") as heard:
        await light.show("ok", 100)
        assert words(heard) == [b"ok"], "the same word, to another process"


async def test_one_that_does_not_read_never_blocks_the_agent(tmp_path: Path) -> None:
    light = GpioLight(tmp_path / "light.sock")
    with listener(tmp_path / "light.sock"):
        await light.show("ok", 100)
        with pytest.raises(LightUnavailable):
            for _ in range(100_000):
                await light.rearm()
                await light.show("ok", 100)


async def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    light = GpioLight(tmp_path / "light.sock")
    with pytest.raises(LightUnavailable):
        await light.show("ok", 100)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


class FakeChips:
    """Two chips under the names of a Pi 5, where /dev/gpiochip4 is a link. `values` are the lines' states."""

    def __init__(self, folder: Path) -> None:
        self.lines = {"gpiochip0": ["GPIO17", "GPIO27", "GPIO22", "LED"], "gpiochip10": ["LED", "ID_SDA"]}
        self.values: dict[str, str] = {}
        self.taken: set[str] = set()
        self.released: list[str] = []
        for name in self.lines:
            (folder / name).touch()
        (folder / "gpiochip4").symlink_to("gpiochip0")
        self.module = SimpleNamespace(
            line=SimpleNamespace(Value=SimpleNamespace(ACTIVE="on", INACTIVE="off"), Direction=SimpleNamespace(OUTPUT="output")),
            LineSettings=lambda **settings: settings,
            Chip=self._chip,
            request_lines=self._request,
        )

    @contextlib.contextmanager
    def _chip(self, path: str) -> Iterator[Any]:
        names = self.lines[Path(path).name]
        yield SimpleNamespace(
            get_info=lambda: SimpleNamespace(num_lines=len(names)), get_line_info=lambda at: SimpleNamespace(name=names[at])
        )

    def _request(self, path: str, consumer: str, config: dict[str, dict[str, Any]]) -> Any:
        ((name, settings),) = config.items()
        assert consumer == "booth-light"
        assert settings["direction"] == "output"
        assert name in self.lines[Path(path).name]
        if name in self.taken:
            raise OSError(16, "Device or resource busy")
        self.values[name] = "off"

        def set_value(line: str, value: str) -> None:
            self.values[line] = value

        return SimpleNamespace(set_value=set_value, release=lambda: self.released.append(name))


@pytest.fixture
def chips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeChips:
    fake = FakeChips(tmp_path)
    monkeypatch.setattr(gpio_lines, "_CHIPS", tmp_path)
    monkeypatch.setitem(sys.modules, "gpiod", fake.module)
    return fake


def test_lines_are_found_by_name_and_are_dark_at_first_and_in_the_end(chips: FakeChips) -> None:
    lines = GpioLines(["GPIO17", "GPIO27", "GPIO22"], active_low=False)
    assert set(chips.values.values()) == {"off"}
    lines.light(["GPIO27", "GPIO22"])
    assert chips.values == {"GPIO17": "off", "GPIO27": "on", "GPIO22": "on"}
    lines.light(["GPIO17"])
    assert chips.values == {"GPIO17": "on", "GPIO27": "off", "GPIO22": "off"}
    lines.close()
    assert set(chips.values.values()) == {"off"}
    assert chips.released == ["GPIO17", "GPIO27", "GPIO22"]


@pytest.mark.parametrize(
    ("name", "said"), [("GPIO99", "no GPIO chip has a line 'GPIO99'"), ("LED", "2 chips have a line 'LED'"), ("GPIO22", "busy")]
)
def test_a_line_that_is_not_to_be_had_is_named_and_nothing_is_kept(chips: FakeChips, name: str, said: str) -> None:
    chips.taken = {"GPIO22"}
    with pytest.raises(NoSuchLine, match=said):
        GpioLines(["GPIO17", name], active_low=False)
    assert chips.released == ["GPIO17"]


def test_the_real_library_has_what_is_used_here() -> None:
    """The fake above is worth what it has in common with gpiod 2."""
    gpiod = pytest.importorskip("gpiod", reason="the Python package gpiod is missing")
    settings = gpiod.LineSettings(direction=gpiod.line.Direction.OUTPUT, active_low=True)
    assert settings.output_value == gpiod.line.Value.INACTIVE
    assert {"get_info", "get_line_info", "__enter__"} <= set(dir(gpiod.Chip))
    assert {"set_value", "release"} <= set(dir(gpiod.LineRequest))
    with pytest.raises(NoSuchLine, match="no GPIO chip has a line 'no such line'"):
        GpioLines(["no such line"], active_low=False)
