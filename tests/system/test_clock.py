"""The clock's floor: what moves it, what is believed of its file, and that no time is ever below it."""

import os
from pathlib import Path

import pytest

from agent import RELEASED_AT
from agent.system.clock import Clock, MachineTimes, rfc3339

YEAR_S = 365.25 * 86400


class Times:
    def __init__(self, wall_s: float, *, synced: bool = True) -> None:
        self.wall = wall_s
        self.mono = 1000.0
        self.synced = synced

    def wall_s(self) -> float:
        return self.wall

    def mono_s(self) -> float:
        return self.mono

    def kernel_synced(self) -> bool:
        return self.synced


def test_below_the_floor_time_starts_at_the_floor_and_ticks_on(tmp_path: Path) -> None:
    times = Times(600.0)
    clock = Clock(tmp_path / "clock-floor", times)
    assert clock.wall() == rfc3339(RELEASED_AT)
    times.mono += 90
    assert clock.wall() == rfc3339(RELEASED_AT + 90)
    assert clock.below_floor()
    assert clock.word() == "unsynced", "whatever the kernel says of a time that has passed"
    times.wall = RELEASED_AT + YEAR_S
    assert clock.wall_s() == RELEASED_AT + YEAR_S
    assert clock.word() == "synced"


def test_the_floor_is_saved_only_when_the_clock_is_synchronised(tmp_path: Path) -> None:
    file = tmp_path / "clock-floor"
    times = Times(RELEASED_AT + 100, synced=False)
    clock = Clock(file, times)
    clock.save_floor()
    assert not file.exists()
    times.synced = True
    clock.witnessed()
    clock.save_floor()
    assert float(file.read_text()) == RELEASED_AT + 100
    times.wall = RELEASED_AT + 50
    clock.save_floor()
    assert float(file.read_text()) == RELEASED_AT + 100, "the floor never sinks"
    assert Clock(file, Times(0.0)).wall() == rfc3339(RELEASED_AT + 100), "and outlives a restart"


def test_a_time_source_that_is_wrong_by_years_moves_the_floor_by_no_more_than_the_time_that_went_by(tmp_path: Path) -> None:
    """Or the booth would wait for that year, over every restart, once the source is right again."""
    file = tmp_path / "clock-floor"
    times = Times(RELEASED_AT + 100)
    clock = Clock(file, times)
    clock.witnessed()
    clock.save_floor()
    times.wall += 10 * YEAR_S
    times.mono += 3600
    clock.save_floor()
    assert float(file.read_text()) == RELEASED_AT + 3700, "the witness spoke of another time"
    assert not clock.floor_lags()
    times.wall = RELEASED_AT + 3800
    times.mono += 100
    assert clock.word() == "synced"
    assert Clock(file, times).word() == "synced"


def test_a_witness_lets_the_floor_make_up_for_the_time_without_power(tmp_path: Path) -> None:
    file = tmp_path / "clock-floor"
    times = Times(RELEASED_AT + YEAR_S)
    clock = Clock(file, times)
    times.mono += 5
    clock.save_floor()
    assert float(file.read_text()) == RELEASED_AT + 5
    clock.witnessed()
    assert clock.floor_lags()
    clock.save_floor()
    assert float(file.read_text()) == RELEASED_AT + YEAR_S
    assert not clock.floor_lags()


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"nan", b"inf", b"-inf", b"-5", b"1e400", b"9" * 400, b"\xff\xfe", b"12:00", b"0x10", b"9795219200\n"]
)
def test_a_floor_file_of_garbage_counts_as_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "clock-floor"
    file.write_bytes(content)
    assert Clock(file, Times(0.0)).wall() == rfc3339(RELEASED_AT)


def test_a_floor_that_is_no_file_counts_as_none(tmp_path: Path) -> None:
    assert Clock(tmp_path, Times(0.0)).wall() == rfc3339(RELEASED_AT)
    assert Clock(None, Times(0.0)).wall() == rfc3339(RELEASED_AT)


def test_a_floor_of_the_same_release_in_twenty_years_is_believed_and_one_of_a_flipped_digit_is_not(tmp_path: Path) -> None:
    file = tmp_path / "clock-floor"
    file.write_text(f"{RELEASED_AT + 20 * YEAR_S:.0f}\n")
    assert Clock(file, Times(0.0)).wall_s() == RELEASED_AT + 20 * YEAR_S
    file.write_text(str(RELEASED_AT + 1e9))
    assert Clock(file, Times(0.0)).wall_s() == RELEASED_AT
    file.unlink()
    clock = Clock(file, Times(RELEASED_AT + 1e9))
    clock.witnessed()
    clock.save_floor()
    assert not file.exists(), "what would not be believed is not saved"


def test_a_floor_that_cannot_be_saved_leaves_the_saved_one(tmp_path: Path) -> None:
    file = tmp_path / "clock-floor"
    times = Times(RELEASED_AT + 100)
    clock = Clock(file, times)
    clock.witnessed()
    clock.save_floor()
    (tmp_path / "clock-floor.new").mkdir()
    times.wall += 100
    with pytest.raises(OSError, match="clock-floor"):
        clock.save_floor()
    assert float(file.read_text()) == RELEASED_AT + 100


def test_the_machines_own_clocks_answer() -> None:
    times = MachineTimes()
    assert isinstance(times.kernel_synced(), bool)
    before = times.mono_s()
    assert os.times().elapsed > 0
    assert times.mono_s() >= before
