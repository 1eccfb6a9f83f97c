"""When a rollout goes on and when it halts, and which booths come in which wave."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.rules.rollout import Figures, Limits, Presence, Standing, compare, decide, failed, standing, tried
from agent.rules.waves import Choice, Wave, waves

LIMITS = Limits()
FLEET = {f"{area}-{number:04d}": str(area) for area in range(10, 20) for number in range(40)}
LABORATORY = Choice(laboratory=["10-0000", "10-0001"])


def figures(done: int = 0, bad: int = 0, under_way: int = 0, away: int = 0, earlier: int = 0, **over: Any) -> Figures:
    """`earlier`: booths of the waves before, all of which have the version."""
    wave: Counter[Standing] = Counter({"done": done, "failed": bad, "under-way": under_way, "away": away})
    return Figures(wave, Counter({"done": earlier}), **over)


def verdict(seen: Figures, limits: Limits = LIMITS) -> tuple[str, str]:
    decision = decide(seen, limits)
    return decision.verdict, decision.reason


# --- deciding ---


@pytest.mark.parametrize(
    ("seen", "wanted"),
    [
        (figures(under_way=3), ("wait", "booths")),
        (figures(done=2, away=1), ("wait", "booths")),
        (figures(done=3), ("soak", "pause")),
        (figures(done=3, settled_s=3599.0), ("soak", "pause")),
        (figures(done=3, settled_s=3600.0), ("next", "settled")),
        (figures(settled_s=3600.0), ("next", "settled")),  # a wave of nobody
        # so many tried, such a share failed
        (figures(done=3, bad=1, under_way=96), ("wait", "booths")),
        (figures(done=4, bad=1, under_way=95), ("halt", "too-many-failed")),
        (figures(done=9, bad=1, under_way=90), ("wait", "booths")),
        (figures(done=8, bad=1, under_way=90), ("halt", "too-many-failed")),
        (figures(done=90, bad=10, settled_s=3600.0), ("next", "settled")),
        (figures(done=89, bad=11, settled_s=3600.0), ("halt", "too-many-failed")),
        # one bad area does not hide behind what went well before, and one bad booth does not stop it
        (figures(done=3, bad=2, under_way=15, earlier=500), ("wait", "booths")),
        (figures(done=3, bad=3, under_way=14, earlier=500), ("halt", "too-many-failed")),
        # few booths, and most of them failed
        (figures(bad=1, settled_s=3600.0, careful=True), ("halt", "too-few-done")),
        (figures(done=1, bad=1, settled_s=3600.0, careful=True), ("next", "settled")),
        # patience
        (figures(done=60, away=40, wave_s=86_399.0), ("wait", "booths")),
        (figures(done=60, away=40, wave_s=86_400.0, settled_s=3600.0), ("next", "patience")),
        (figures(done=49, away=51, wave_s=1e9, settled_s=3600.0), ("wait", "too-few-done")),
        (figures(done=2, away=1, wave_s=1e9, settled_s=3600.0, careful=True), ("wait", "booths")),
        # a canary vanished
        (figures(done=3, settled_s=3600.0, vanished=("61-0007",)), ("halt", "canary-vanished")),
        # the services
        (figures(done=3, before_pct=98.0, now_pct=96.0, fallen_s=1e9, settled_s=3600.0), ("next", "settled")),
        (figures(done=3, before_pct=98.0, now_pct=95.9, fallen_s=59.0, settled_s=3599.0), ("soak", "pause")),
        (figures(done=3, before_pct=98.0, now_pct=95.9, fallen_s=60.0, settled_s=3600.0), ("halt", "availability-fell")),
        (figures(done=3, before_pct=95.0, now_pct=99.0, fallen_s=1e9, settled_s=3600.0), ("next", "settled")),
        (figures(done=3, before_pct=None, now_pct=None, fallen_s=1e9, settled_s=3600.0), ("next", "settled")),
    ],
)
def test_what_follows(seen: Figures, wanted: tuple[str, str]) -> None:
    assert verdict(seen) == wanted


COUNTS = st.fixed_dictionaries({name: st.integers(0, 300) for name in ("done", "failed", "silent", "under-way", "away")})
ANY = st.builds(
    Figures,
    wave=COUNTS.map(Counter), earlier=COUNTS.map(Counter), vanished=st.sampled_from([(), (), ("61-0007",)]),
    before_pct=st.floats(0, 100), now_pct=st.floats(0, 100), compared=st.integers(0, 300), fallen_s=st.floats(0, 1e5),
    wave_s=st.floats(0, 1e6), settled_s=st.none() | st.floats(0, 1e5), careful=st.booleans(),
)  # fmt: skip


@given(ANY)
def test_nothing_ever_proceeds_past_a_reason_to_halt(seen: Figures) -> None:
    together = seen.earlier + seen.wave
    assert seen.before_pct is not None
    assert seen.now_pct is not None
    too_many = tried(together) >= 5 and failed(together) > tried(together) * 0.1 + 1e-9
    fallen = seen.fallen_s >= 60 and seen.before_pct - seen.now_pct > 2.0
    if seen.vanished or too_many or fallen:
        assert decide(seen, LIMITS).verdict == "halt"


@given(ANY)
def test_the_next_wave_is_told_only_after_a_wave_that_proved_something_and_was_watched(seen: Figures) -> None:
    if decide(seen, LIMITS).verdict == "next":
        assert seen.settled_s is not None
        assert seen.settled_s >= LIMITS.pause_s
        assert seen.wave["done"] * 2 >= seen.size
        assert not (seen.careful and seen.missing)
        assert not seen.missing or seen.wave_s >= LIMITS.patience_s


@given(ANY)
def test_one_more_failure_never_lets_it_go_on(seen: Figures) -> None:
    """Worse figures have no better verdict."""
    worse = Figures(**vars(seen) | {"wave": seen.wave + Counter({"failed": 1})})
    if decide(seen, LIMITS).verdict == "halt":
        assert decide(worse, LIMITS).verdict == "halt"


# --- one booth ---


@pytest.mark.parametrize(
    ("outcome", "presence", "wanted"),
    [
        ("done", Presence("online", is_open=True, lost_s=0, was_there=True), "done"),
        ("done", Presence("lost", is_open=True, lost_s=1e6, was_there=True), "done"),
        ("failed", Presence("asleep", is_open=False, lost_s=0, was_there=True), "failed"),
        ("none", Presence("online", is_open=True, lost_s=0, was_there=True), "under-way"),
        ("none", Presence("starting", is_open=False, lost_s=0, was_there=True), "under-way"),
        ("none", Presence("asleep", is_open=True, lost_s=0, was_there=True), "away"),
        ("none", Presence("unknown", is_open=True, lost_s=0, was_there=False), "away"),
        # silence is a failure in opening hours alone, after a while, and of a booth that was there
        ("none", Presence("lost", is_open=True, lost_s=300, was_there=True), "silent"),
        ("none", Presence("lost", is_open=True, lost_s=299, was_there=True), "away"),
        ("none", Presence("lost", is_open=False, lost_s=1e6, was_there=True), "away"),
        ("none", Presence("lost", is_open=True, lost_s=1e6, was_there=False), "away"),
    ],
)
def test_how_a_booth_stands(outcome: Any, presence: Presence, wanted: Standing) -> None:
    assert standing(outcome, presence, LIMITS) == wanted


def test_only_booths_that_were_seen_before_and_now_are_compared() -> None:
    before = {"a": (5, 5), "b": (4, 5), "gone": (0, 5)}
    assert compare(before, {"a": (5, 5), "b": (3, 5), "new": (0, 9)}) == (90.0, 80.0, 2)
    assert compare(before, {}) == (None, None, 0)
    assert compare({"a": (0, 0)}, {"a": (0, 0)}) == (None, None, 1)


# --- who comes when ---


def test_the_waves_in_their_order() -> None:
    found = waves(FLEET, LABORATORY, "1.5.0", FLEET)
    of_area = len(found[3].booths)
    assert [len(wave.booths) for wave in found] == [2, 3, 15, of_area, 80 - of_area, 300]
    assert [wave.name for wave in found] == ["laboratory", "canaries", "5 %", f"area {found[3].area}", "25 %", "all"]
    assert set(found[0].booths) == {"10-0000", "10-0001"}
    assert [wave.layer for wave in found] == ["booth", "booth", "booth", "area", "booth", "fleet"]
    assert [wave.careful for wave in found] == [True, True, False, False, False, False]
    assert {FLEET[booth] for booth in found[3].booths} == {found[3].area}


def test_the_same_version_begins_with_the_same_booths_and_another_with_others() -> None:
    first = waves(FLEET, LABORATORY, "1.5.0", FLEET)
    again = waves(dict(reversed(FLEET.items())), LABORATORY, "1.5.0", set(FLEET))
    assert [set(wave.booths) for wave in first] == [set(wave.booths) for wave in again]
    assert first[1].booths == again[1].booths
    assert first[1].booths != waves(FLEET, LABORATORY, "1.5.1", FLEET)[1].booths


def test_no_canary_is_a_booth_that_is_switched_off_where_there_are_others() -> None:
    there = set(list(FLEET)[200:])
    assert set(waves(FLEET, LABORATORY, "1.5.0", there)[1].booths) <= there
    nobody = waves(FLEET, LABORATORY, "1.5.0", ())[1]
    assert len(nobody.booths) == 3


def test_the_area_is_the_operators_choice() -> None:
    found = waves(FLEET, Choice(["10-0000"], area="17"), "1.5.0", FLEET)
    assert next(wave for wave in found if wave.layer == "area").name == "area 17"


def test_small_fleets_have_fewer_waves() -> None:
    assert [wave.name for wave in waves({"61-0001": "61"}, Choice(["61-0001"]), "1", ())] == ["laboratory", "all"]
    five = {f"61-000{number}": "61" for number in range(5)}
    assert [wave.name for wave in waves(five, Choice(["61-0001"]), "1", ())] == ["laboratory", "canaries", "all"]


@given(
    st.dictionaries(st.from_regex(r"[a-z0-9]{3,5}", fullmatch=True), st.sampled_from(["10", "11", "12"]), max_size=60),
    st.integers(1, 10), st.floats(0, 100), st.floats(0, 100), st.data(),
)  # fmt: skip
def test_every_booth_is_told_exactly_once(
    booths: dict[str, str], canaries: int, first: float, second: float, data: st.DataObject
) -> None:
    some = st.lists(st.sampled_from(sorted(booths) or ["nobody"]), max_size=5)
    found = waves(booths, Choice(data.draw(some), canaries, first, None, second), "1.5.0", set(data.draw(some)))
    told = [booth for wave in found for booth in wave.booths]
    assert sorted(told) == sorted(booths)
    assert found[-1].layer == "fleet"
    assert all(wave.booths for wave in found[:-1])
    assert all(isinstance(wave, Wave) for wave in found)
