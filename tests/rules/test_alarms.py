"""Alarms: findings that lasted. Contract §5."""

from dataclasses import replace
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from agent.contract.words import FixBy, Severity
from agent.rules.alarms import CLEAR_AFTER_S, Alarm, AlarmKey, Step, due_in_s, track
from agent.rules.health import Finding, Now

AFTER_S: Final = 30
EMPTY: Final[AlarmKey] = ("receipt-printer", "media-empty")
CUTTER: Final[AlarmKey] = ("receipt-printer", "cutter-error")

Tracked = dict[AlarmKey, Alarm]


def at(mono_s: float) -> Now:
    return Now(mono_s, f"t{mono_s:g}")


def found(key: AlarmKey, severity: Severity = "fault", fix_by: FixBy = "shopkeeper") -> dict[AlarmKey, Finding]:
    return {key: Finding(key[1], severity, fix_by, "since")}


def told(steps: tuple[Step, ...]) -> list[tuple[str, AlarmKey]]:
    return [(step.what, step.alarm.key) for step in steps]


def raised(key: AlarmKey, fix_by: FixBy = "shopkeeper", severity: Severity = "fault") -> Tracked:
    """The alarm, raised at 30."""
    alarms, _ = track({}, found(key, severity, fix_by), AFTER_S, at(0))
    alarms, steps = track(alarms, found(key, severity, fix_by), AFTER_S, at(30))
    assert told(steps) == [("raised", key)]
    return alarms


def test_a_finding_becomes_an_alarm_once_it_has_lasted_alarm_after_s() -> None:
    alarms, steps = track({}, found(EMPTY), AFTER_S, at(100))
    assert (steps, alarms[EMPTY].raised) == ((), False)
    alarms, steps = track(alarms, found(EMPTY), AFTER_S, at(129.9))
    assert steps == ()
    alarms, steps = track(alarms, found(EMPTY), AFTER_S, at(130))
    assert told(steps) == [("raised", EMPTY)]
    assert (alarms[EMPTY].raised, alarms[EMPTY].since, alarms[EMPTY].acknowledged) == (True, "since", False)
    assert track(alarms, found(EMPTY), AFTER_S, at(500))[1] == (), "and is told once"


def test_alarm_after_zero_seconds_is_at_once() -> None:
    assert told(track({}, found(EMPTY), 0, at(0))[1]) == [("raised", EMPTY)]


def test_a_finding_that_goes_before_that_was_never_an_alarm() -> None:
    alarms, _ = track({}, found(EMPTY), AFTER_S, at(0))
    alarms, steps = track(alarms, {}, AFTER_S, at(10))
    assert (alarms, steps) == ({}, ())
    alarms, steps = track(alarms, found(EMPTY), AFTER_S, at(31))
    assert (steps, alarms[EMPTY].seen_s) == ((), 31), "the time begins anew"


def test_an_info_never_becomes_one() -> None:
    alarms, steps = track({}, found(EMPTY, "info"), 0, at(0))
    assert (alarms, steps) == ({}, ())


def test_what_the_shopkeeper_fixed_is_cleared_at_once() -> None:
    alarms, steps = track(raised(EMPTY), {}, AFTER_S, at(31))
    assert (alarms, told(steps)) == ({}, [("cleared", EMPTY)])


def test_anything_else_only_after_120_s_without_the_finding() -> None:
    alarms, steps = track(raised(CUTTER, "technician"), {}, AFTER_S, at(40))
    assert (told(steps), alarms[CUTTER].raised, alarms[CUTTER].gone_s) == ([], True, 40)
    alarms, steps = track(alarms, {}, AFTER_S, at(159.9))
    assert steps == ()
    alarms, steps = track(alarms, {}, AFTER_S, at(160))
    assert (alarms, told(steps)) == ({}, [("cleared", CUTTER)])


def test_a_finding_that_comes_back_within_those_120_s_is_the_same_alarm() -> None:
    alarms, _ = track(raised(CUTTER, "technician"), {}, AFTER_S, at(40))
    alarms, steps = track(alarms, found(CUTTER, fix_by="technician"), AFTER_S, at(100))
    assert (steps, alarms[CUTTER].gone_s) == ((), None)
    alarms, steps = track(alarms, {}, AFTER_S, at(170))
    assert (steps, alarms[CUTTER].gone_s) == ((), 170), "the 120 s begin anew"


def test_a_severity_that_changes_is_told_and_has_to_be_acknowledged_again() -> None:
    before = {CUTTER: Alarm(*CUTTER, "warning", "technician", "since", 0, raised=True, acknowledged=True)}
    alarms, steps = track(before, found(CUTTER, "fault", "technician"), AFTER_S, at(60))
    assert told(steps) == [("changed", CUTTER)]
    assert (alarms[CUTTER].severity, alarms[CUTTER].acknowledged, alarms[CUTTER].raised) == ("fault", False, True)
    assert track(alarms, found(CUTTER, "fault", "technician"), AFTER_S, at(61))[1] == ()


def test_an_alarm_whose_finding_sinks_to_info_goes_as_if_it_were_gone() -> None:
    alarms, steps = track(raised(EMPTY), found(EMPTY, "info"), AFTER_S, at(40))
    assert (alarms, told(steps)) == ({}, [("cleared", EMPTY)])


def test_each_alarm_is_followed_by_itself() -> None:
    alarms, steps = track(raised(EMPTY), found(CUTTER, fix_by="technician"), AFTER_S, at(31))
    assert told(steps) == [("cleared", EMPTY)]
    assert not alarms[CUTTER].raised


def test_nothing_is_due_where_nothing_waits() -> None:
    assert due_in_s({}, AFTER_S, at(0)) is None
    assert due_in_s(raised(EMPTY), AFTER_S, at(99)) is None


def test_due_is_the_next_alarm_to_be_raised_or_cleared() -> None:
    alarms, _ = track(raised(CUTTER, "technician"), found(EMPTY), AFTER_S, at(40))
    assert due_in_s(alarms, AFTER_S, at(45)) == 25
    alarms, _ = track(alarms, {}, AFTER_S, at(50))
    assert due_in_s(alarms, AFTER_S, at(60)) == 40 + CLEAR_AFTER_S - 60
    assert due_in_s(alarms, AFTER_S, at(1000)) == 0


# --- property ---

_change = st.tuples(
    st.integers(0, 200),
    st.dictionaries(
        st.sampled_from([EMPTY, CUTTER, ("network", "no-carrier")]),
        st.tuples(st.sampled_from(["info", "warning", "fault"]), st.sampled_from(["shopkeeper", "technician"])),
    ),
)


def _play(
    changes: list[tuple[int, dict[AlarmKey, tuple[Severity, FixBy]]]], step_s: int | None
) -> list[tuple[float, str, AlarmKey]]:
    """Everything that was told, and when: looking every `step_s`, or only when something changed or was due."""
    now_s, alarms = 0.0, Tracked()
    story: list[tuple[float, str, AlarmKey]] = []

    def look(findings: dict[AlarmKey, Finding]) -> None:
        nonlocal alarms
        alarms, steps = track(alarms, findings, AFTER_S, at(now_s))
        story.extend((now_s, step.what, step.alarm.key) for step in sorted(steps, key=lambda step: step.alarm.key))

    for lasts_s, wanted in [*changes, (1000, {})]:
        findings = {key: Finding(key[1], severity, fix_by, "since") for key, (severity, fix_by) in wanted.items()}
        end_s = now_s + lasts_s
        look(findings)
        while True:
            wait_s = due_in_s(alarms, AFTER_S, at(now_s)) if step_s is None else step_s
            if wait_s is None or now_s + wait_s >= end_s:
                break
            now_s += wait_s
            look(findings)
        now_s = end_s
    return story


@given(st.lists(_change, max_size=12))
def test_who_looks_only_when_it_is_due_is_never_late(changes: list[tuple[int, dict[AlarmKey, tuple[Severity, FixBy]]]]) -> None:
    assert _play(changes, None) == _play(changes, 1)


@given(st.lists(_change, max_size=12))
def test_every_alarm_that_is_raised_is_cleared_in_the_end_and_only_then(
    changes: list[tuple[int, dict[AlarmKey, tuple[Severity, FixBy]]]],
) -> None:
    standing: set[AlarmKey] = set()
    for _, step, key in _play(changes, None):
        assert (key in standing) == (step != "raised")
        standing = standing - {key} if step == "cleared" else standing | {key}
    assert not standing


def test_a_fault_that_goes_from_the_booth_to_a_technician_was_told_already_and_one_of_the_shopkeepers_was_not() -> None:
    """Else the light would be green from giving up until the broker has the new word, which may take hours."""

    def acknowledged_after(before: FixBy, after: FixBy, severity: Severity = "fault") -> bool:
        alarms = {key: replace(alarm, acknowledged=True) for key, alarm in raised(EMPTY, before).items()}
        alarms, steps = track(alarms, found(EMPTY, severity, after), AFTER_S, at(60))
        assert told(steps) == [("changed", EMPTY)]
        return alarms[EMPTY].acknowledged

    assert acknowledged_after("auto", "technician")
    assert not acknowledged_after("shopkeeper", "technician")
    assert not acknowledged_after("auto", "technician", "warning")
