"""When an update may be applied, when a booth of a fleet fetches it, and when it tries again."""

from collections import Counter
from itertools import product
from typing import get_args

import pytest

from agent.contract.update import Window
from agent.rules.update_window import IDLE_S, Moment, due, retry_s, spread_s

BUSY = Moment(fresh_start=False, open_now=True, idle_s=0.0)
STARTED = Moment(fresh_start=True, open_now=True, idle_s=0.0)
CLOSED = Moment(fresh_start=False, open_now=False, idle_s=0.0)
IDLE = Moment(fresh_start=False, open_now=True, idle_s=IDLE_S)
ALL = [Moment(fresh, open_now, idle_s) for fresh, open_now, idle_s in product((True, False), (True, False), (0.0, IDLE_S))]
SHA256 = "ab" * 32


@pytest.mark.parametrize(
    ("window", "moments"),
    [("power-on", [STARTED]), ("closed", [CLOSED]), ("idle", [IDLE]), ("now", [STARTED, CLOSED, IDLE, BUSY])],
)
def test_a_window_that_is_named_is_the_only_one(window: Window, moments: list[Moment]) -> None:
    assert [moment for moment in (STARTED, CLOSED, IDLE, BUSY) if due(window, moment)] == moments


def test_without_a_window_the_first_quiet_moment_is_taken_and_no_other() -> None:
    assert [moment for moment in ALL if not due(None, moment)] == [BUSY]


def test_every_window_of_the_contract_has_its_moment() -> None:
    assert all(any(due(window, moment) for moment in ALL) for window in get_args(Window))


def test_half_an_hour_is_idle_and_a_second_less_is_not() -> None:
    assert (due("idle", Moment(False, True, 1800.0)), due("idle", Moment(False, True, 1799.0))) == (True, False)


def test_a_fleet_spreads_evenly_over_the_time_that_it_is_given() -> None:
    waits_s = [spread_s(f"61-{number:04}", SHA256, 3600.0) for number in range(10_000)]
    assert 0.0 <= min(waits_s) < max(waits_s) < 3600.0
    bins = Counter(int(wait_s // 180.0) for wait_s in waits_s)
    assert len(bins) == 20
    assert 400 <= min(bins.values()) <= max(bins.values()) <= 600  # 500 each; chance alone gives ± 22


def test_a_booth_keeps_its_place_for_one_file_and_has_another_for_the_next() -> None:
    assert spread_s("61-0007", SHA256, 3600.0) == spread_s("61-0007", SHA256, 3600.0)
    booths = [f"61-{number:04}" for number in range(1000)]
    orders = [sorted(booths, key=lambda booth: spread_s(booth, file, 3600.0)) for file in (SHA256, "cd" * 32)]
    late = [set(order[-100:]) for order in orders]
    assert len(late[0] & late[1]) < 50, "no booth is always among the last"


def test_at_once_is_at_once() -> None:
    assert spread_s("61-0007", SHA256, 0.0) == 0.0


PASSING = ("dns-failure", "unreachable", "refused", "timeout", "too-slow", "tls-failure", "truncated", "busy", "disk-full",
           "disk-failed", "fetch-failed", "bad-answer", "http-500", "http-503", "http-408", "http-425", "http-429")  # fmt: skip
LASTING = ("wrong-hash", "wrong-size", "too-large", "bad-url", "bad-redirect", "http-400", "http-403", "http-404", "http-410",
           "bad-archive", "wrong-architecture", "wrong-python", "wrong-version", "base-too-old", "selftest-failed")  # fmt: skip


@pytest.mark.parametrize("word", PASSING)
def test_what_may_pass_is_tried_again_soon_and_then_more_slowly(word: str) -> None:
    assert [retry_s(attempts, word) for attempts in range(1, 9)] == [60, 120, 240, 480, 960, 1920, 3600, 3600]


@pytest.mark.parametrize("word", LASTING)
def test_what_only_the_operator_can_mend_costs_four_requests_a_day(word: str) -> None:
    assert {retry_s(attempts, word) for attempts in range(1, 9)} == {6 * 3600.0}


@pytest.mark.parametrize("attempts", [-1, 0, 1_000_000])
def test_any_number_of_attempts_has_a_next_one(attempts: int) -> None:
    assert 60.0 <= retry_s(attempts, "timeout") <= 3600.0
