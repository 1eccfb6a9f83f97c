"""booth-button: what edges mean, by times of the test's; and the program as a process, on a chip that is not there."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.booth_button import Press
from agent.contract.button import HELD_S, ButtonTable
from agent.contract.documents import CONFIG_SECTIONS
from agent.contract.typed import Invalid, build
from agent.devices.gpio_button import ButtonLine, Edge
from agent.devices.gpio_lines import NoSuchLine
from agent.settings_tables import Document
from tests.devices.button_chip import LINE, PROGRAM, Button

HOUSE = Path(__file__).parents[2]


# --- what edges mean ---


def test_up_again_is_one_press_and_its_length_is_the_kernels() -> None:
    press = Press()
    assert press.edge(Edge(down=True, at_s=100.0), 100.0) is None
    assert press.left_s(100.5) == HELD_S - 0.5
    assert press.edge(Edge(down=False, at_s=107.9), 108.2) == "pressed", "it was read late, and let go in time"
    assert press.left_s(108.2) is None


def test_held_is_told_once_while_it_is_down_and_never_again() -> None:
    press = Press()
    press.edge(Edge(down=True, at_s=100.0), 100.0)
    assert press.left_s(108.0) == 0
    assert press.held(down=True, now_s=108.01) == "held"
    assert press.left_s(160.0) is None, "a stuck button asks for nothing more"
    assert press.held(down=True, now_s=168.0) is None
    assert press.edge(Edge(down=False, at_s=170.0), 170.0) is None, "its end is no press"
    press.edge(Edge(down=True, at_s=171.0), 171.0)
    assert press.edge(Edge(down=False, at_s=171.2), 171.2) == "pressed"


def test_let_go_at_the_last_moment_is_what_the_kernels_times_say() -> None:
    press = Press()
    press.edge(Edge(down=True, at_s=100.0), 100.0)
    assert press.edge(Edge(down=False, at_s=108.0), 108.0) == "held"


def test_a_line_that_is_up_after_the_time_was_let_go_and_its_edge_is_no_press() -> None:
    press = Press()
    press.edge(Edge(down=True, at_s=100.0), 100.0)
    assert press.held(down=False, now_s=108.0) is None


def test_down_at_the_start_was_pressed_by_nobody() -> None:
    press = Press()
    assert press.left_s(0.0) is None
    assert press.edge(Edge(down=False, at_s=5.0), 5.0) is None


def test_what_was_wished_before_a_long_stop_is_nobodys_wish_any_more() -> None:
    press = Press()
    press.edge(Edge(down=True, at_s=100.0), 100.0)
    assert press.edge(Edge(down=False, at_s=101.0), 130.0) is None
    press.edge(Edge(down=True, at_s=200.0), 230.0)
    assert press.held(down=True, now_s=230.0) is None


def test_a_lost_edge_begins_a_new_press() -> None:
    press = Press()
    press.edge(Edge(down=True, at_s=100.0), 100.0)
    press.edge(Edge(down=True, at_s=105.0), 105.0)
    assert press.edge(Edge(down=False, at_s=109.0), 109.0) == "pressed"


# --- its table ---


def table(**button: Any) -> ButtonTable | None:
    booth = {"booth": {"id": "61-0007", "area": "61"}, "broker": {"url": "mqtt://127.0.0.1"}, "peripherals": {}}
    return build(Document, booth | {"button": button}).button


def test_the_bias_that_fits_is_the_default() -> None:
    for active_low, bias in ((True, "pull-up"), (False, "pull-down")):
        found = table(line=LINE, active_low=active_low)
        assert found is not None
        assert found.held_by == bias
    found = table(line=LINE, bias="disabled")
    assert found is not None
    assert found.held_by == "disabled"


@pytest.mark.parametrize(
    ("button", "said"),
    [
        ({}, "button.line: missing"),
        ({"line": "GPIO 23"}, "gpioinfo"),
        ({"line": LINE, "bias": "up"}, "pull-up, pull-down, disabled, as-is"),
        ({"line": LINE, "active_low": False, "bias": "pull-up"}, "pressed for ever"),
        ({"line": LINE, "bias": "pull-down"}, "pressed for ever"),
    ],
)
def test_a_button_that_cannot_work_is_said(button: dict[str, Any], said: str) -> None:
    with pytest.raises(Invalid, match=said):
        table(**button)


def test_only_agent_toml_names_a_line() -> None:
    assert "button" not in CONFIG_SECTIONS


# --- the program ---


class Program:
    """`booth-button --print` on the chip."""

    def __init__(self, folder: Path, config: str = f'[button]\nline = "{LINE}"\n', *arguments: str) -> None:
        self.button = Button(folder / "dev")
        (folder / "agent.toml").write_text(config)
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder / "dev"), "--config", str(folder / "agent.toml"), *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HOUSE,
        )  # fmt: skip
        self.killer = threading.Timer(60, self.process.kill)  # a line that never comes
        self.killer.start()

    def requested(self) -> dict[str, str]:
        end_s = time.monotonic() + 30
        while not (asked := self.button.asked_for()):
            assert time.monotonic() < end_s
            time.sleep(0.02)
        return asked

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def close(self) -> tuple[str, str]:
        """What it printed that nobody has read."""
        self.killer.cancel()
        self.process.kill()
        said = self.process.communicate(timeout=30)
        self.button.close()
        return said


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    running = Program(tmp_path, f'[button]\nline = "{LINE}"\n', "--print")
    yield running
    running.close()


def test_the_kernel_is_asked_for_both_edges_debounced_and_by_the_clock_that_never_jumps(program: Program) -> None:
    asked = program.requested()
    assert asked.pop("path").endswith("/gpiochip0")
    assert asked == {
        "consumer": "booth-button", "direction": "input", "edge_detection": "both", "bias": "pull-up", "active_low": "True",
        "debounce_period": "0:00:00.030000", "event_clock": "monotonic",
    }  # fmt: skip


def test_it_tells_a_press_and_a_hold_and_sleeps_in_between(program: Program) -> None:
    program.requested()
    program.button.press()
    assert program.line() == "pressed"
    status = Path(f"/proc/{program.process.pid}/status")

    def switches() -> list[str]:
        return [line for line in status.read_text().splitlines() if line.startswith("voluntary_ctxt_switches")]

    before: list[str] = []
    end_s = time.monotonic() + 20
    while before != (before := switches()):  # until it sleeps
        assert time.monotonic() < end_s
        time.sleep(0.3)
    time.sleep(1.5)
    assert switches() == before != [], "nobody pressed"
    begun_s = time.monotonic()
    program.button.down(ago_s=HELD_S - 0.5)
    assert program.line() == "held"
    assert time.monotonic() - begun_s < 5, "while it is down"
    program.button.up()
    program.button.press()
    assert program.line() == "pressed", "and its end was none"


def test_it_ends_in_order(program: Program) -> None:
    program.requested()
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(30) == 0
    assert program.process.stdout
    assert program.process.stderr
    assert (program.process.stdout.read(), program.process.stderr.read()) == ("", "")


@pytest.mark.parametrize(
    ("config", "status", "said"),
    [
        ("", 2, r"booth-button: there is no \[button\] in .*agent.toml \(docs/button.md\)\n"),
        ("[button]\nline = 23\n", 2, r"booth-button: .*agent.toml: button.line: write a text \(here: 23\)\n"),
        ("[button\n", 2, r"booth-button: .*agent.toml is not TOML: .*\n"),
        ('[button]\nline = "GPIO99"\n', 1, "booth-button: no GPIO chip has a line 'GPIO99': `gpioinfo` lists all names\n"),
    ],
)
def test_without_a_line_it_says_what_to_do(tmp_path: Path, config: str, status: int, said: str) -> None:
    program = Program(tmp_path, config)
    assert program.process.wait(30) == status
    out, err = program.close()
    assert out == ""
    assert re.fullmatch(said, err)


def test_without_a_file_it_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "agent.booth_button", "--config", str(tmp_path / "none.toml")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert "No such file" in ended.stderr
    assert "--config FILE" in ended.stderr


def test_an_agent_that_is_away_is_said_and_the_next_press_is_told(tmp_path: Path) -> None:
    program = Program(tmp_path, f'[button]\nline = "{LINE}"\n', "--socket", str(tmp_path / "button.sock"))
    program.requested()
    program.button.press()
    assert program.process.stderr
    assert re.match("booth-button: pressed, and the agent does not listen at .*systemctl", program.process.stderr.readline())
    assert program.process.poll() is None
    program.close()


def test_the_real_library_has_what_is_used_here() -> None:
    """The chip above is worth what it has in common with gpiod 2."""
    gpiod = pytest.importorskip("gpiod", reason="the Python package gpiod is missing")
    assert {"fd", "read_edge_events", "get_value", "release"} <= set(dir(gpiod.LineRequest))
    assert {"event_type", "timestamp_ns"} <= set(gpiod.EdgeEvent.__dataclass_fields__)
    for bias in ("pull-up", "pull-down", "disabled", "as-is"):
        with pytest.raises(NoSuchLine, match="no GPIO chip has a line 'no such line'"):
            ButtonLine("no such line", active_low=True, bias=bias)
