"""The light on real LEDs of the kernel, and on real GPIO lines: permissions, rhythms, and what a dead agent leaves."""

import json
from collections.abc import Callable, Iterator

import pytest

from agent.contract.light import RHYTHMS, period_ms
from agent.contract.words import LightWord
from tests.virtual_booth.booth import PYTHON
from tests.virtual_booth.lamps import Lamps

_HOLD_S = 6.0  # shortened
_SETTLES_S = 0.4  # booth-light is told, and does it
_SEEN_S = 6.5  # two periods of the longest rhythm, and that
_SPEAK = f"{PYTHON} -B -m tests.virtual_booth.guest.speak"
_AS_AGENT = "runuser -u booth-agent --"
_WORDS: tuple[LightWord, ...] = ("ok", "starting", "locate", "working", "your-turn", "no-internet", "broken")


def test_leds_have_the_triggers_that_the_light_needs(leds: Lamps) -> None:
    for name in leds.names:
        triggers = leds.booth.run(f"cat /sys/class/leds/{name}/trigger").split()
        assert {"pattern", "timer", "transient"} <= {trigger.strip("[]") for trigger in triggers}


def test_udev_gives_the_leds_to_the_agents_group_and_to_nobody_else(leds: Lamps) -> None:
    led = f"/sys/class/leds/{leds.names[0]}"
    for attribute in ("brightness", "trigger"):
        assert leds.booth.run(f"stat -c '%U %G %a' {led}/{attribute}") == "root booth-agent 664\n"
    assert leds.booth.run(f"stat -c '%G %a' {led}/uevent") == "root 644\n"
    leds.booth.run(f"{_AS_AGENT} sh -c 'echo pattern > {led}/trigger'")
    leds.booth.wait_for(f"{_AS_AGENT} test -w {led}/pattern -a -w {led}/repeat", timeout_s=10)
    status, _ = leds.booth.try_run(f"runuser -u nobody -- sh -c 'echo none > {led}/trigger'")
    assert status != 0


def shown(lamps: Lamps, said: str, for_s: float, level: int) -> list[str]:
    """What is wrong with the words that `speak` says it showed for so long each."""
    words = [json.loads(line) for line in said.splitlines()]
    return [problem for word, at_s in words for problem in lamps.problems(word, at_s + _SETTLES_S, at_s + for_s, level)]


def fits(attempt: Callable[[], list[str]]) -> None:
    """An emulated processor whose host is busy is late for once: one of three recordings has to be right. A wrong rhythm
    never is."""
    for _ in range(3):
        if not (problems := attempt()):
            return
    raise AssertionError(problems)


def left(lamps: Lamps, level: int) -> list[str]:
    """Why it is not `starting`, in the next seconds."""
    lamps.booth.run(f"sleep {_SEEN_S}")
    now_s = lamps.now_s()
    return lamps.problems("starting", now_s - 5, now_s, level)


def test_each_word_has_its_colour_and_its_rhythm(leds: Lamps) -> None:
    def attempt() -> list[str]:
        words = " ".join(_WORDS)
        said = leds.booth.run(f"{_AS_AGENT} {_SPEAK} --for-s {_SEEN_S} {words}", timeout_s=len(_WORDS) * (_SEEN_S + 10))
        assert said.count("\n") == len(_WORDS)
        return shown(leds, said, _SEEN_S, 255)

    fits(attempt)


@pytest.mark.parametrize(("word", "signal"), [("ok", "STOP"), ("your-turn", "KILL")])
def test_an_agent_that_is_stopped_or_killed_leaves_starting(leds: Lamps, word: LightWord, signal: str) -> None:
    speak = f"{_SPEAK} --hold-s {_HOLD_S} --rearm-s 2 --for-s 1000 {word}"
    leds.booth.run(f"systemd-run --quiet --unit speaker --uid booth-agent -p StandardOutput=truncate:/run/speaker.said {speak}")
    try:
        leds.booth.wait_for("test -s /run/speaker.said", timeout_s=30)

        def held() -> list[str]:
            """By re-arming alone, for longer than it holds by itself, without a flicker."""
            from_s = leds.now_s()
            leds.booth.run(f"sleep {2 * _HOLD_S}")
            return leds.problems(word, from_s + _SETTLES_S, from_s + 2 * _HOLD_S, 255)

        fits(held)
        leds.booth.run(f"systemctl kill -s {signal} speaker")
        # The kernel alone: it ends the period that it is in, and its timers are coarse.
        leds.booth.run(f"sleep {_HOLD_S * 1.14 + period_ms(RHYTHMS[word]) / 1000}")
        fits(lambda: left(leds, 255))
    finally:
        leds.booth.run("systemctl kill -s KILL speaker; systemctl stop speaker; systemctl reset-failed speaker || true")


def test_what_is_left_on_purpose_is_starting_without_an_end(leds: Lamps) -> None:
    leds.booth.run(f"{_AS_AGENT} {_SPEAK} --hold-s 2 --for-s 1 broken")
    leds.booth.run(f"{_AS_AGENT} {_SPEAK} --hold-s 2 --for-s 0 starting")
    for name in leds.names:
        assert leds.booth.run(f"cat /sys/class/leds/{name}/repeat") == "-1\n"
    fits(lambda: left(leds, 255))


@pytest.fixture
def booth_light(lines: Lamps) -> Iterator[Lamps]:
    """The unit, with its sandbox, on the three lines."""
    red, green, blue = lines.names
    options = f"--red {red} --green {green} --blue {blue} --hold-s {_HOLD_S}"
    lines.booth.run(f"echo 'BOOTH_LIGHT_LINES={options}' > /etc/booth-agent/light.env && systemctl start booth-light")
    try:
        lines.booth.wait_for("test -S /run/booth-agent/light.sock || { systemctl status booth-light; false; }")
        yield lines
    finally:
        lines.booth.run("systemctl stop booth-light; rm /etc/booth-agent/light.env")


def test_udev_gives_the_chip_to_booth_light(lines: Lamps) -> None:
    assert lines.booth.run("stat -c '%G %a' /dev/gpiochip0") == "gpio 660\n"


def test_lines_show_words_and_starting_before_and_after(booth_light: Lamps) -> None:
    fits(lambda: left(booth_light, 1))

    def attempt() -> list[str]:
        speak = f"{_SPEAK} --gpio /run/booth-agent/light.sock --rearm-s 2 --for-s {_SEEN_S} locate broken no-internet ok"
        said = booth_light.booth.run(f"{_AS_AGENT} {speak}", timeout_s=90)
        assert said.count("\n") == 4
        return shown(booth_light, said, _SEEN_S, 1)

    fits(attempt)
    # The speaker is gone. Its last word holds, and then it is nobody's any more.
    booth_light.booth.run(f"sleep {_HOLD_S}")
    fits(lambda: left(booth_light, 1))


def test_a_stopped_booth_light_leaves_the_lines_dark(booth_light: Lamps) -> None:
    booth_light.booth.run("systemctl stop booth-light")
    levels = {change.lamp: change.level for change in booth_light.changes()}
    assert set(levels.values()) == {0}
    assert booth_light.booth.try_run("test -e /run/booth-agent/light.sock")[0] == 1
