"""Opening hours as a rule: when the kiosk is held stopped, when it starts again, and which hours are looser."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.contract.typed import Invalid, build
from agent.lockdown.hours import RULE, Opening, looser
from agent.lockdown.rule import COMPLIANT, Place
from agent.privileged.machine import Machine
from tests.privileged.booth import Booth

UNITS = {"kiosk": "booth-kiosk.service"}
MASK = "run/systemd/system.control/booth-kiosk.service"
SHOP = {"week": {"mon": ["07:00-12:30", "14:00-19:30"], "sun": ["08:00-12:00"]}, "exceptions": {"2026-12-21": []}}
OPEN, CLOSED = "2026-12-07T10:00", "2026-12-07T13:00"  # on a Monday

times = st.sampled_from(["00:00-08:00", "07:00-12:30", "12:30-14:00", "14:00-24:00", "08:00-09:00"])
openings = st.builds(
    Opening,
    st.sampled_from([None, None, None, "Europe/Paris", "UTC"]),
    st.dictionaries(st.sampled_from(["mon", "tue"]), st.lists(times, max_size=3)),
    st.dictionaries(st.sampled_from(["2026-12-07", "2026-12-08", "2026-12-09"]), st.lists(times, max_size=3)),
    st.sampled_from(["kiosk-off", "kiosk-off", "open"]),
)


@pytest.fixture
def booth(tmp_path: Path) -> Booth:
    """Its systemd knows one unit, as a file that is there while it runs."""
    booth = Booth(tmp_path)
    runs = tmp_path / "runs"
    booth.program(
        "systemctl",
        f"""case "$*" in
            *" stop "*) rm -f {runs};;
            *" start "*) [ ! -e {tmp_path / MASK} ] && touch {runs};;
            is-active*) [ -e {runs} ] && echo active || echo inactive;;
        esac""",
    )
    runs.touch()
    return booth


def policy(**section: Any) -> Opening:
    return build(Opening, section)


def at(local: str | None, **other: Any) -> Place:
    now = None if local is None else datetime.fromisoformat(local)
    return Place(now=now, now_utc=None if now is None else now.replace(tzinfo=UTC) - timedelta(hours=1), units=UNITS, **other)


def runs(booth: Booth) -> bool:
    return (booth.root / "runs").exists()


@pytest.mark.parametrize(
    ("section", "path"),
    [
        ({"tz": "Europe/Lutece"}, "tz"),
        ({"week": {"monday": []}}, "week"),
        ({"week": {"mon": ["12:00-07:00"]}}, "week.mon"),
        ({"week": {"mon": [f"{h:02}:{m:02}-{h:02}:{m + 1:02}" for h in range(13) for m in (0, 30)]}}, "week"),
        ({"exceptions": {"2026-02-30": []}}, "exceptions"),
        ({"exceptions": {f"{2000 + year}-01-{day:02}": [] for year in range(20) for day in range(1, 22)}}, "exceptions"),
        ({"outside": "dark"}, "outside"),
    ],
)
def test_what_may_not_be_written_is_refused_where_it_stands(section: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as refused:
        policy(**section)
    assert [problem.path for problem in refused.value.problems] == [path]


# --- what is looser ---


@settings(deadline=None)
@given(openings)
def test_nothing_is_looser_than_itself_and_the_default_is_not_looser_than_anything(part: Opening) -> None:
    assert not looser(part, part)
    assert not looser(part, Opening())


@settings(deadline=None)
@given(openings, openings, openings)
def test_not_looser_is_transitive(one: Opening, two: Opening, three: Opening) -> None:
    if not looser(one, two) and not looser(two, three):
        assert not looser(one, three)


@settings(deadline=None)
@given(openings, openings)
def test_looser_is_what_is_open_at_a_minute_at_which_the_other_is_not(one: Opening, other: Opening) -> None:
    if one.tz == other.tz:
        assert looser(one, other) == (not opens(other) <= opens(one))
    elif opens(other) and one.outside != "open":
        assert looser(one, other)


def opens(part: Opening) -> set[tuple[date, str]]:
    """The half hours of two weeks, one of them without exceptions, at which it is open."""
    found = set()
    for number in range(14):
        day = date(2026, 12, 7) + timedelta(days=number)
        spans = part.exceptions.get(day.isoformat(), part.week.get(f"{day:%a}".lower(), []))
        for time in (f"{half // 2:02}:{half % 2 * 30:02}" for half in range(48)):
            if part.outside == "open" or any(span[:5] <= time < span[6:] for span in spans):
                found.add((day, time))
    return found


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {"week": {"mon": ["07:00-08:00"]}}, True),
        ({"week": {"mon": ["07:00-12:00"]}}, {"week": {"mon": ["07:00-08:00", "08:00-11:00"]}}, False),
        ({"week": {"mon": ["07:00-12:00", "12:00-14:00"]}}, {"week": {"mon": ["11:00-13:00"]}}, False),
        ({"week": {"mon": ["07:00-12:00"]}}, {"week": {"tue": ["07:00-12:00"]}}, True),
        (SHOP, {"week": SHOP["week"]}, True),  # the Monday that was closed
        ({"week": SHOP["week"]}, SHOP, False),
        (SHOP, SHOP | {"tz": "Europe/Paris"}, True),  # which the booth may not be in
        (SHOP, {"tz": "Europe/Paris"}, False),
        (SHOP, {"outside": "open"}, True),
        ({"outside": "open"}, SHOP | {"tz": "UTC"}, False),
    ],
)
def test_looser_by_example(before: dict[str, Any], after: dict[str, Any], expected: bool) -> None:
    assert looser(policy(**before), policy(**after)) is expected


# --- on the machine ---


def test_outside_its_hours_the_kiosk_is_stopped_and_held_and_inside_it_starts_again(booth: Booth) -> None:
    machine, part = Machine(booth.root), policy(**SHOP)
    RULE.apply(machine, at(OPEN), part)
    assert runs(booth)
    assert RULE.measure(machine, at(OPEN), part) == COMPLIANT
    assert RULE.measure(machine, at(CLOSED), part).state == "violated"
    RULE.apply(machine, at(CLOSED), part)
    assert not runs(booth)
    assert RULE.measure(machine, at(CLOSED), part) == COMPLIANT
    assert RULE.measure(machine, at(OPEN), part).detail == "booth-kiosk.service is held stopped in opening hours"
    RULE.apply(machine, at(OPEN), part)
    assert runs(booth)
    assert RULE.measure(machine, at(OPEN), part) == COMPLIANT


def test_twice_applied_it_asks_and_changes_nothing(booth: Booth) -> None:
    machine, part = Machine(booth.root), policy(**SHOP)
    for moment in (CLOSED, OPEN):
        RULE.apply(machine, at(moment), part)
        said, before = len(booth.said), sorted(booth.root.rglob("*"))
        RULE.apply(machine, at(moment), part)
        assert [line for line in booth.said[said:] if "is-active" not in line] == []
        assert sorted(booth.root.rglob("*")) == before


def test_a_kiosk_that_was_stopped_by_somebody_else_is_left_alone(booth: Booth) -> None:
    (booth.root / "runs").unlink()
    RULE.apply(Machine(booth.root), at(OPEN), policy(**SHOP))
    assert booth.said == []


@pytest.mark.parametrize("drift", ["runs again", "mask deleted", "mask filled", "mask replaced by a link"])
def test_what_was_changed_by_hand_is_a_violation_and_is_repaired(booth: Booth, drift: str) -> None:
    machine, part, mask = Machine(booth.root), policy(**SHOP), booth.root / MASK
    RULE.apply(machine, at(CLOSED), part)
    if drift == "runs again":
        (booth.root / "runs").touch()
    elif drift == "mask filled":
        mask.write_text("[Service]\nExecStart=/bin/sh\n")
    else:
        mask.unlink()
        if drift == "mask replaced by a link":
            mask.symlink_to(booth.root / "elsewhere.service")
    assert RULE.measure(machine, at(CLOSED), part).state == "violated"
    RULE.apply(machine, at(CLOSED), part)
    assert RULE.measure(machine, at(CLOSED), part) == COMPLIANT
    assert not runs(booth)


def test_a_session_is_absolute_and_the_kiosk_closes_after_it(booth: Booth) -> None:
    machine, part = Machine(booth.root), policy(**SHOP)
    RULE.apply(machine, at(CLOSED, in_session=True), part)
    assert runs(booth)
    assert booth.said == []
    measured = RULE.measure(machine, at(CLOSED, in_session=True), part)
    assert (measured.state, measured.detail) == ("compliant", "it closes when the citizen has left")
    RULE.apply(machine, at(CLOSED), part)
    assert not runs(booth)


def test_a_clock_that_is_certainly_wrong_closes_no_booth(booth: Booth) -> None:
    machine = Machine(booth.root)
    RULE.apply(machine, at(None), Opening())
    assert runs(booth)
    assert RULE.measure(machine, at(None), Opening()) == COMPLIANT


def test_without_hours_it_is_never_open_but_on_days_that_are_named(booth: Booth) -> None:
    machine, part = Machine(booth.root), policy(exceptions={"2026-12-07": ["09:00-11:00"]})
    RULE.apply(machine, at("2026-12-08T10:00"), part)
    assert not runs(booth)
    RULE.apply(machine, at(OPEN), part)
    assert runs(booth)


def test_open_outside_its_hours_it_is_never_closed(booth: Booth) -> None:
    RULE.apply(Machine(booth.root), at(CLOSED), policy(**SHOP, outside="open"))
    assert runs(booth)


def test_hours_of_another_zone_are_told_by_its_clock(booth: Booth) -> None:
    machine, part = Machine(booth.root), policy(tz="Indian/Reunion", week={"mon": ["16:00-17:00"]})  # three hours ahead of Paris
    assert RULE.measure(machine, at("2026-12-07T13:30"), part) == COMPLIANT
    assert RULE.measure(machine, at("2026-12-07T16:30"), part).state == "violated"


@pytest.mark.parametrize(
    ("section", "local", "expected"),
    [
        (SHOP, "2026-12-07T06:59:59", "2026-12-07T07:00"),
        (SHOP, "2026-12-07T07:00", "2026-12-07T12:30"),
        (SHOP, "2026-12-07T20:00", "2026-12-13T08:00"),  # Sunday
        (SHOP, "2026-12-20T12:00", "2026-12-27T08:00"),  # the Monday between is closed
        ({"week": {"mon": ["08:00-10:00", "10:00-12:00"]}}, "2026-12-07T09:00", "2026-12-07T12:00"),
        ({"week": {"mon": ["20:00-24:00"], "tue": ["00:00-02:00"]}}, "2026-12-07T21:00", "2026-12-08T02:00"),
        ({"exceptions": {"2027-06-01": ["09:00-10:00"]}}, "2026-12-07T21:00", "2027-06-01T09:00"),
        ({"tz": "Indian/Reunion", "week": {"mon": ["16:00-17:00"]}}, "2026-12-07T10:00", "2026-12-07T13:00"),
        ({}, "2026-12-07T10:00", None),
        (SHOP | {"outside": "open"}, "2026-12-07T10:00", None),
        (SHOP, None, None),
    ],
)
def test_the_next_change_is_the_next_opening_or_closing(section: dict[str, Any], local: str | None, expected: str | None) -> None:
    wanted = None if expected is None else datetime.fromisoformat(expected)
    assert RULE.next_change(at(local), policy(**section)) == wanted


def test_where_it_can_do_nothing_it_says_so(booth: Booth) -> None:
    machine = Machine(booth.root)
    assert (
        RULE.measure(machine, Place(now=datetime.fromisoformat(CLOSED)), Opening()).detail == "this booth has no unit of a kiosk"
    )
    (booth.root / "usr/bin/systemctl").unlink()
    RULE.apply(machine, at(CLOSED), Opening())
    measured = RULE.measure(machine, at(CLOSED), Opening())
    assert (measured.state, measured.detail) == ("not-applicable", "systemctl is not installed")


def test_undo_leaves_nothing_and_a_kiosk_that_runs(booth: Booth) -> None:
    machine = Machine(booth.root)
    RULE.apply(machine, at(CLOSED), Opening())
    RULE.undo(machine, at(CLOSED))
    assert runs(booth)
    assert not list((booth.root / MASK).parent.iterdir())
    said = len(booth.said)
    RULE.undo(machine, at(CLOSED))
    assert booth.said[said:] == []
