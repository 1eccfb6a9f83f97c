"""The light on kernel LEDs: what a person sees, over the time that the kernel model lets pass."""

import asyncio
import os
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.light import COLOURS, HOLD_S, RHYTHMS, level, period_ms, phase
from agent.contract.words import LightWord
from agent.devices.led import LedLight, LightUnavailable, write_attribute
from agent.devices.led_plan import Lamp, even, plan
from tests.devices.led_kernel import LedKernel

NAMES = ("booth:red:status", "booth:green:status", "booth:blue:status")
WORDS: tuple[LightWord, ...] = get_args(LightWord)
HOLD_MS = round(HOLD_S * 1000)
LED_TRIGGERS = {"none", "pattern", "timer", "transient"}


def three(kernel: LedKernel) -> LedLight:
    return LedLight(kernel.files, *NAMES, kernel.write)


def colours(word: LightWord, since_ms: int, full: int = 255) -> tuple[int, ...]:
    """What red, green and blue are so long after the word began."""
    lit, _ = phase(RHYTHMS[word], since_ms)
    return tuple(full if lit and colour in COLOURS[word] else 0 for colour in ("red", "green", "blue"))


def held_ms(word: LightWord) -> int:
    """Whole periods, the last of which ends after the hold."""
    period = period_ms(RHYTHMS[word]) or HOLD_MS
    return -(-HOLD_MS // period) * period


@pytest.mark.parametrize("word", WORDS)
async def test_the_word_for_75_seconds_then_starting_by_the_kernel_alone(tmp_path: Path, word: LightWord) -> None:
    kernel = LedKernel(tmp_path, *NAMES)
    await three(kernel).show(word, 100)
    kernel.pass_ms(600_000)
    held = held_ms(word) if word != "starting" else 600_000
    assert held >= HOLD_MS
    for at in range(0, held, 50):
        assert kernel.levels(at) == colours(word, at), at
    for at in range(held, min(held + 30_000, 600_000), 50):
        assert kernel.levels(at) == colours("starting", at - held), at


@pytest.mark.parametrize("word", [word for word in WORDS if word != "starting"])
async def test_in_the_end_it_is_dark_and_no_word_comes_back(tmp_path: Path, word: LightWord) -> None:
    kernel = LedKernel(tmp_path, *NAMES)
    await three(kernel).show(word, 100)
    kernel.pass_ms(3_600_000)
    ended = kernel.leds[NAMES[0]].history[-1][0]
    assert held_ms(word) + 30_000 <= ended <= held_ms(word) + 600_000
    for at in range(held_ms(word), ended, 500):
        assert len(set(kernel.levels(at))) == 1, "white or dark"
    assert kernel.levels(3_600_000) == (0, 0, 0)


@pytest.mark.parametrize("word", WORDS)
async def test_the_leds_stay_together_though_the_kernels_timers_are_coarse(tmp_path: Path, word: LightWord) -> None:
    kernel = LedKernel(tmp_path, *NAMES)
    kernel.coarse = True
    kernel.now_ms = 4 * 12_345
    await three(kernel).show(word, 100)
    kernel.pass_ms(400_000)
    white = [[at for at, _ in kernel.leds[name].history if at > kernel.now_ms - 400_000 + HOLD_MS + 5_000] for name in NAMES]
    assert white[0] == white[1] == white[2]
    assert len(white[0]) > 20


@pytest.mark.parametrize("word", ["your-turn", "no-internet", "broken"])
async def test_rearming_after_30_seconds_cuts_no_group_of_flashes(tmp_path: Path, word: LightWord) -> None:
    kernel = LedKernel(tmp_path, *NAMES)
    kernel.coarse = True
    light = three(kernel)
    loop = asyncio.get_running_loop()
    await light.show(word, 100)
    light._armed_at_s -= 28.3  # as if so much had passed here, as it does there: in the middle of a group
    kernel.pass_ms(28_300)
    begun_s, writes = loop.time(), len(kernel.writes)
    task = asyncio.create_task(light.rearm())
    async with asyncio.timeout(20):
        while len(kernel.writes) == writes:
            await asyncio.sleep(0.01)
            kernel.pass_ms(28_300 + round((loop.time() - begun_s) * 1000) - kernel.now_ms)
    await task
    rearmed_ms = kernel.now_ms
    kernel.pass_ms(HOLD_MS)
    led = next(led for name, led in kernel.leds.items() if any(led.at(at) for at in range(0, rearmed_ms, 50)))
    lit_ms = [end - begin for (begin, level), (end, _) in pairwise(led.history) if level]
    assert all(190 <= ms <= 240 for ms in lit_ms[:-1])
    on = [at for at, level in led.history if level]
    gaps = [later - at for at, later in pairwise(on)]
    pauses = [at for at, gap in enumerate(gaps) if gap > 700]
    assert {later - at for at, later in pairwise(pauses)} == {len(RHYTHMS[word])}, "flashes from pause to pause"
    assert pauses[0] == len(RHYTHMS[word]) - 1
    assert on[-1] > rearmed_ms + HOLD_MS - 5000, "and that for as long as at first"


async def test_rearming_writes_one_small_thing_and_nothing_else_is_written_when_nothing_changes(tmp_path: Path) -> None:
    kernel = LedKernel(tmp_path, *NAMES)
    light = three(kernel)
    await light.rearm()
    assert kernel.writes == []
    await light.show("ok", 100)
    kernel.writes.clear()
    await light.show("ok", 100)
    assert kernel.writes == []
    kernel.pass_ms(200_000)  # long gone to `starting`
    await light.rearm()
    assert kernel.writes == [(name, "repeat", "1") for name in NAMES]
    kernel.pass_ms(74_000)
    assert kernel.levels(kernel.now_ms) == (0, 255, 0)


@pytest.mark.parametrize("triggers", [("pattern",), ("timer", "transient"), ("timer",)])
async def test_what_a_stopped_agent_leaves_is_starting_without_end(tmp_path: Path, triggers: tuple[str, ...]) -> None:
    kernel = LedKernel(tmp_path, *NAMES, triggers=triggers)
    light = three(kernel)
    await light.show("broken", 100)
    kernel.pass_ms(10_000)
    await light.leave_starting()
    begun = kernel.now_ms
    kernel.writes.clear()
    await light.leave_starting()
    await light.rearm()
    assert kernel.writes == []
    kernel.pass_ms(3_600_000)
    seen = [kernel.levels(begun + 3_590_100 + at) for at in range(0, 4000, 250)]
    assert set(seen) == {(255, 255, 255), (0, 0, 0)}
    assert sum(levels == (0, 0, 0) for levels in seen) == len(seen) // 2


async def test_another_process_leaves_it_too(tmp_path: Path) -> None:
    """ExecStopPost= of an agent that was killed."""
    kernel = LedKernel(tmp_path, *NAMES)
    await three(kernel).show("ok", 100)
    kernel.writes.clear()
    await three(kernel).leave_starting()
    assert "trigger" not in {attribute for _, attribute, _ in kernel.writes}, "choosing it again would make it flicker"
    begun = kernel.now_ms
    kernel.pass_ms(1_000_000)
    assert all(kernel.levels(begun + at) == colours("starting", at) for at in range(0, 1_000_000, 100))


async def test_one_colour_shows_every_word_by_its_rhythm(tmp_path: Path) -> None:
    for number, word in enumerate(WORDS):
        kernel = LedKernel(tmp_path / str(number), "booth:white:status", maximum=1)
        await LedLight.one_colour(kernel.files, "booth:white:status", kernel.write).show(word, 20)
        kernel.pass_ms(HOLD_MS)
        for at in range(0, HOLD_MS, 50):
            assert kernel.levels(at) == (int(phase(RHYTHMS[word], at)[0]),)


async def test_dimmed_out_of_hours(tmp_path: Path) -> None:
    kernel = LedKernel(tmp_path, *NAMES)
    light = three(kernel)
    await light.show("ok", 100)
    await light.show("ok", 20)
    kernel.pass_ms(HOLD_MS + 100)
    assert kernel.levels(1000) == (0, 51, 0)
    assert kernel.levels(kernel.now_ms) == (51, 51, 51)
    await light.leave_starting()
    kernel.pass_ms(500)
    assert kernel.levels(kernel.now_ms) == (51, 51, 51), "as dim as it was"


async def test_without_pattern_the_words_still_differ_and_a_dead_agent_still_shows(tmp_path: Path) -> None:
    seen = {}
    for number, word in enumerate(WORDS):
        kernel = LedKernel(tmp_path / str(number), *NAMES, triggers=("timer", "transient"))
        light = three(kernel)
        await light.show(word, 100)
        kernel.pass_ms(60_000)
        seen[word] = tuple(bool(led.at(at)) for at in range(40_000, 50_000, 10) for led in kernel.leds.values())
        expected = {
            led for colour, led in zip(("red", "green", "blue"), kernel.leds.values(), strict=True) if colour in COLOURS[word]
        }
        assert all(led in expected for led in kernel.leds.values() if any(led.at(at) for at in range(1000, 50_000, 10)))
        await light.rearm()
        kernel.pass_ms(74_000)
        unlit = [led for led in kernel.leds.values() if led not in expected]
        assert not any(led.at(kernel.now_ms) for led in unlit), "re-armed"
        kernel.pass_ms(2_000)
        assert all(led.at(kernel.now_ms) for led in unlit), "the kernel inverts what was dark"
        if word == "ok":
            assert kernel.levels(kernel.now_ms) == (255, 0, 255)
    assert len(set(seen.values())) == len(WORDS)
    assert len({even(rhythm) for rhythm in RHYTHMS.values() if rhythm}) == len(WORDS) - 1


async def test_with_brightness_alone_it_does_not_lie(tmp_path: Path) -> None:
    one = LedKernel(tmp_path / "one", "booth:white:status", triggers=())
    all_three = LedKernel(tmp_path / "three", *NAMES, triggers=())
    white, coloured = LedLight.one_colour(one.files, "booth:white:status", one.write), three(all_three)
    for word in WORDS:
        await white.show(word, 100)
        await coloured.show(word, 100)
        assert one.levels(one.now_ms) == ((255,) if word == "ok" else (0,))
        assert all_three.levels(0) == colours(word, 0)
    await coloured.rearm()


async def test_permissions_that_udev_sets_a_little_later_are_waited_for(tmp_path: Path) -> None:
    kernel = LedKernel(tmp_path, *NAMES)
    kernel.udev_s = 0.3
    await three(kernel).show("ok", 100)
    kernel.pass_ms(10)
    assert kernel.levels(kernel.now_ms) == (0, 255, 0)


async def test_permissions_that_never_come_are_said_with_what_to_do(tmp_path: Path) -> None:
    kernel = LedKernel(tmp_path, *NAMES)
    kernel.udev_s = 2.3
    light = three(kernel)
    with pytest.raises(LightUnavailable, match=r"udev/71-booth-light\.rules"):
        await light.show("ok", 100)
    async with asyncio.timeout(20):
        while not os.access(kernel.files.path(f"sys/class/leds/{NAMES[2]}/repeat"), os.W_OK):
            await asyncio.sleep(0.05)
    await light.show("ok", 100)
    kernel.pass_ms(10)
    assert kernel.levels(kernel.now_ms) == (0, 255, 0)


async def test_a_missing_led_is_said_with_its_name(tmp_path: Path) -> None:
    kernel = LedKernel(tmp_path, *NAMES[:2])
    light = three(kernel)
    with pytest.raises(LightUnavailable, match=r"booth:blue:status.* is missing.*docs/light\.md"):
        await light.show("ok", 100)
    with pytest.raises(LightUnavailable):
        await light.leave_starting()
    await light.rearm()
    assert isinstance(LightUnavailable("x"), OSError)


async def test_a_trigger_that_somebody_changed_by_hand_is_taken_back(tmp_path: Path) -> None:
    kernel = LedKernel(tmp_path, *NAMES)
    light = three(kernel)
    await light.show("ok", 100)
    kernel.write(kernel.files.path(f"sys/class/leds/{NAMES[0]}/trigger"), "none")
    await light.rearm()
    kernel.pass_ms(HOLD_MS + 100)
    assert kernel.levels(1000) == (0, 255, 0)
    assert kernel.levels(kernel.now_ms) == (255, 255, 255)


async def test_a_word_that_comes_during_the_wait_for_the_end_of_a_period_wins(tmp_path: Path) -> None:
    kernel = LedKernel(tmp_path, *NAMES)
    light = three(kernel)
    await light.show("working", 100)
    rearming = asyncio.create_task(light.rearm())
    await asyncio.sleep(0)
    await light.show("ok", 100)
    kernel.writes.clear()
    await rearming
    assert kernel.writes == []


@given(
    st.sampled_from(WORDS),
    st.integers(1, 65535),
    st.integers(0, 100),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["", "pattern"]),
)
def test_whatever_the_led_its_pattern_fits_the_kernel(
    word: LightWord, maximum: int, dim_pct: int, lit: bool, alone: bool, taken_away: str
) -> None:
    bright = level(maximum, dim_pct)
    made = plan(word, Lamp(lit, bright, bright, alone), LED_TRIGGERS - {taken_away})
    text = dict(made.writes).get("pattern", "")
    assert (text != "") == (taken_away == "")
    numbers = [int(number) for number in text.split()]
    assert len(text) <= 4096
    assert len(numbers) // 2 <= 1024
    assert set(numbers[::2]) <= {0, bright}
    if text and word != "starting":
        shown, tail = sum(numbers[1::2]), [1000, 0, 1000, 0] * 15
        assert shown >= HOLD_MS
        assert numbers[1::2][-len(tail) :] == tail, "30 s of starting at least"


def test_one_write_and_no_new_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_attribute(tmp_path / "brightness", "1")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "brightness").write_text("255\n")
    write_attribute(tmp_path / "brightness", "1")
    assert (tmp_path / "brightness").read_text() == "1"
