"""The words as colours and rhythms: contract §9, row by row, and what makes rhythms safe and tellable apart."""

from itertools import pairwise
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from agent.contract.light import COLOURS, RHYTHMS, level, period_ms, phase
from agent.contract.words import LightWord

WORDS = st.sampled_from(get_args(LightWord))
STEP_MS = 50  # every duration is a multiple of it


def lit(word: LightWord, at_ms: int) -> bool:
    return phase(RHYTHMS[word], at_ms)[0]


def flashes(seen: list[bool]) -> list[int]:
    """When it goes on, in ms, of what was seen every STEP_MS."""
    return [(at + 1) * STEP_MS for at, (before, now) in enumerate(pairwise(seen)) if now and not before]


def test_every_word_has_its_colour_and_rhythm() -> None:
    white, yellow = {"red", "green", "blue"}, {"red", "green"}
    assert {word: set(colours) for word, colours in COLOURS.items()} == {
        "starting": white, "locate": white, "working": white,
        "your-turn": {"blue"}, "no-internet": yellow, "broken": {"red"}, "ok": {"green"},
    }  # fmt: skip
    assert set(RHYTHMS) == set(COLOURS) == set(get_args(LightWord))
    assert {word: len(rhythm) for word, rhythm in RHYTHMS.items()} == {
        "starting": 1, "locate": 1, "working": 1, "your-turn": 2, "no-internet": 1, "broken": 3, "ok": 0,
    }  # fmt: skip
    assert RHYTHMS["starting"] == ((1000, 1000),)
    assert period_ms(RHYTHMS["locate"]) == 500
    (on, off) = RHYTHMS["working"][0]
    assert on > 5 * off
    for word in ("your-turn", "no-internet", "broken"):
        *within, (_, pause) = RHYTHMS[word]
        assert all(pause > 5 * dark for _, dark in within)


@given(WORDS, st.integers(0, 60_000))
def test_never_over_three_flashes_a_second_even_when_begun_again_at_any_moment(word: LightWord, begun_again_ms: int) -> None:
    begun_again_ms -= begun_again_ms % STEP_MS
    seen = [lit(word, at if at < begun_again_ms else at - begun_again_ms) for at in range(0, begun_again_ms + 3000, STEP_MS)]
    on = flashes(seen)
    assert all(later - first >= 1000 for first, later in zip(on, on[3:], strict=False))


def test_rhythms_alone_tell_the_words_apart() -> None:
    # From any moment on, within five seconds: nobody sees a rhythm from its beginning.
    views = {
        word: {tuple(lit(word, start + at) for at in range(0, 5000, STEP_MS)) for start in range(0, 3000, STEP_MS)}
        for word in get_args(LightWord)
    }
    assert sum(map(len, views.values())) == len(set().union(*views.values()))


@given(WORDS, st.integers(0, 10_000_000))
def test_the_phase_lasts_as_long_as_it_says(word: LightWord, at_ms: int) -> None:
    now, left_ms = phase(RHYTHMS[word], at_ms)
    if left_ms is None:
        assert word == "ok"
        return
    assert left_ms > 0
    assert lit(word, at_ms + left_ms - 1) == now != lit(word, at_ms + left_ms)


@given(st.integers(1, 65535), st.integers(0, 100))
def test_dimmed_is_never_dark_nor_more_than_all(maximum: int, dim_pct: int) -> None:
    assert 1 <= level(maximum, dim_pct) <= maximum
    assert level(maximum, 100) == maximum
    assert level(255, 20) == 51
