"""Findings over time: debounce, hysteresis, order, age; and that unknown is never shown as ok."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.alarm import Text
from agent.contract.words import Severity
from agent.rules.declaration import FindingKind, Observed, threshold
from agent.rules.health import Change, Finding, Judgement, Now, aged, judge

NO_TEXT: Final = Text("", "")
KINDS: Final = {
    kind.code: kind
    for kind in (
        FindingKind("media-empty", "fault", "shopkeeper", NO_TEXT),
        FindingKind("cover-open", "fault", "shopkeeper", NO_TEXT),
        FindingKind("offline", "fault", "shopkeeper", NO_TEXT, raise_after_s=10.0),
        FindingKind("high-latency", "warning", "third-party", NO_TEXT, raise_after_s=20.0, clear_after_s=30.0),
        FindingKind("media-low", "warning", "shopkeeper", NO_TEXT),
        FindingKind("under-voltage", "warning", "technician", NO_TEXT, clear_after_s=60.0),
        FindingKind("note", "info", "nobody", NO_TEXT),
        FindingKind("no-device", "fault", "shopkeeper", NO_TEXT),
    )
}
NEVER: Final = Judgement()


def at(mono_s: float) -> Now:
    return Now(mono_s, f"t{mono_s:g}")


def seen(*codes: str) -> list[Observed]:
    return [Observed(code) for code in codes]


def codes(judgement: Judgement) -> list[str]:
    return [finding.code for finding in judgement.findings]


def what(changes: Sequence[Change]) -> list[tuple[str, str]]:
    return [(change.what, change.finding.code) for change in changes]


OK: Final = judge(NEVER, [], KINDS, at(0))[0]


def test_nothing_asked_yet_is_unknown() -> None:
    assert NEVER.status == "unknown"


def test_a_first_reading_without_findings_is_ok_since_then() -> None:
    assert (OK.status, OK.since, OK.findings, OK.checked) == ("ok", "t0", (), at(0))


def test_what_a_device_states_itself_is_believed_at_once() -> None:
    judgement, changes = judge(OK, seen("media-empty"), KINDS, at(5))
    assert judgement.status == "fault"
    assert judgement.findings == (Finding("media-empty", "fault", "shopkeeper", "t5"),)
    assert what(changes) == [("raised", "media-empty")]


def test_what_is_inferred_waits_until_it_was_seen_for_raise_after_s_without_a_break() -> None:
    first, changes = judge(OK, seen("offline"), KINDS, at(100))
    assert (first.status, codes(first), changes) == ("ok", [], ())
    almost, changes = judge(first, seen("offline"), KINDS, at(109.9))
    assert (almost.status, changes) == ("ok", ())
    believed, changes = judge(almost, seen("offline"), KINDS, at(110))
    assert (believed.status, codes(believed), what(changes)) == ("fault", ["offline"], [("raised", "offline")])


def test_a_break_in_between_begins_the_debounce_anew() -> None:
    first, _ = judge(OK, seen("offline"), KINDS, at(100))
    gone, _ = judge(first, [], KINDS, at(105))
    again, changes = judge(gone, seen("offline"), KINDS, at(112))
    assert (again.status, changes, again.seen_since) == ("ok", (), {"offline": 112})


def test_a_finding_goes_only_after_clear_after_s_without_it() -> None:
    raised, _ = judge(OK, seen("under-voltage"), KINDS, at(0))
    kept, changes = judge(raised, [], KINDS, at(10))
    assert (kept.status, codes(kept), changes) == ("degraded", ["under-voltage"], ())
    back, _ = judge(kept, seen("under-voltage"), KINDS, at(50))
    kept, changes = judge(back, [], KINDS, at(80))
    assert (codes(kept), changes) == (["under-voltage"], ())
    gone, changes = judge(kept, [], KINDS, at(140))
    assert (gone.status, codes(gone), what(changes)) == ("ok", [], [("cleared", "under-voltage")])


def test_a_measure_between_the_thresholds_keeps_a_finding_and_raises_none() -> None:
    between = [Observed("media-low", holds_only=True)]
    assert judge(OK, between, KINDS, at(1))[0].status == "ok"
    raised, _ = judge(OK, seen("media-low"), KINDS, at(1))
    held, changes = judge(raised, between, KINDS, at(2))
    assert (codes(held), changes) == (["media-low"], ())


def test_findings_stand_worst_first_whatever_order_they_were_seen_in() -> None:
    judgement, _ = judge(OK, seen("note", "media-low", "media-empty", "under-voltage", "cover-open"), KINDS, at(1))
    assert codes(judgement) == ["cover-open", "media-empty", "media-low", "under-voltage", "note"]


@pytest.mark.parametrize(
    ("observed", "status"),
    [
        ((), "ok"),
        (("note",), "ok"),
        (("media-low",), "degraded"),
        (("media-low", "note"), "degraded"),
        (("media-low", "media-empty"), "fault"),
        (("no-device", "media-low"), "absent"),
    ],
)
def test_the_status_is_that_of_the_worst_finding(observed: tuple[str, ...], status: str) -> None:
    assert judge(OK, seen(*observed), KINDS, at(1))[0].status == status


def test_since_is_when_the_finding_came_and_stays() -> None:
    raised, _ = judge(OK, seen("media-empty"), KINDS, at(5))
    later, _ = judge(raised, [Observed("media-empty", {"roll": 2})], KINDS, at(50))
    assert (later.since, later.findings[0].since, later.findings[0].detail) == ("t5", "t5", {"roll": 2})
    assert later.checked == at(50)


def test_the_status_keeps_its_since_while_another_finding_of_the_same_weight_takes_over() -> None:
    raised, _ = judge(OK, seen("media-empty"), KINDS, at(5))
    other, changes = judge(raised, seen("cover-open"), KINDS, at(9))
    assert (other.status, other.since, other.findings[0].since) == ("fault", "t5", "t9")
    assert sorted(what(changes)) == [("cleared", "media-empty"), ("raised", "cover-open")]


def test_a_severity_that_depends_on_the_facts_wins_over_the_kinds_own() -> None:
    judgement, _ = judge(OK, [Observed("media-low", severity="fault")], KINDS, at(1))
    assert (judgement.status, judgement.findings[0].severity) == ("fault", "fault")


def test_a_first_reading_with_a_fault_not_yet_believed_is_unknown_and_not_ok() -> None:
    first, _ = judge(NEVER, seen("offline"), KINDS, at(0))
    second, _ = judge(first, seen("offline"), KINDS, at(5))
    assert (first.status, second.status, second.since) == ("unknown", "unknown", "t0")
    assert judge(second, seen("offline"), KINDS, at(10))[0].status == "fault"
    assert judge(second, [], KINDS, at(10))[0].status == "ok"


def test_the_same_where_the_facts_make_the_fault() -> None:
    assert judge(NEVER, [Observed("high-latency", severity="fault")], KINDS, at(0))[0].status == "unknown"
    assert judge(NEVER, seen("high-latency"), KINDS, at(0))[0].status == "ok"


def test_the_same_for_an_ok_that_is_only_remembered_from_before_a_restart() -> None:
    remembered = Judgement("ok", "yesterday")
    first, _ = judge(remembered, seen("offline"), KINDS, at(0))
    assert first.status == "unknown"
    assert judge(remembered, [], KINDS, at(0))[0].since == "yesterday"


def test_an_ok_that_was_read_stays_ok_until_a_fault_is_believed() -> None:
    assert judge(OK, seen("offline"), KINDS, at(1))[0].status == "ok"


def test_an_answer_too_old_is_unknown_and_keeps_its_findings() -> None:
    raised, _ = judge(OK, seen("media-empty"), KINDS, at(10))
    assert aged(raised, 60, at(70)) is raised
    old = aged(raised, 60, at(70.5))
    assert (old.status, old.since, codes(old)) == ("unknown", "t70.5", ["media-empty"])
    assert aged(old, 60, at(500)) is old
    assert aged(NEVER, 60, at(500)) is NEVER


def test_after_an_age_the_next_reading_is_believed_again() -> None:
    old = aged(judge(OK, seen("media-empty"), KINDS, at(10))[0], 60, at(100))
    fresh, changes = judge(old, seen("media-empty"), KINDS, at(101))
    assert (fresh.status, fresh.findings[0].since, changes) == ("fault", "t10", ())


def test_a_code_that_this_version_no_longer_declares_is_cleared_at_once() -> None:
    before = replace(OK, status="degraded", findings=(Finding("forgotten", "warning", "auto", "t0"),))
    after, changes = judge(before, [], KINDS, at(1))
    assert (after.status, what(changes)) == ("ok", [("cleared", "forgotten")])


def test_a_code_that_is_not_declared_is_a_bug_and_said() -> None:
    with pytest.raises(KeyError):
        judge(OK, seen("never-heard-of"), KINDS, at(1))


def test_what_is_certain_needs_no_debounce_though_its_kind_has_one() -> None:
    judgement, changes = judge(OK, [Observed("offline", certain=True)], KINDS, at(1))
    assert (judgement.status, what(changes)) == ("fault", [("raised", "offline")])


def test_a_number_that_wanders_is_no_news_to_readers_and_anything_else_is() -> None:
    hot, _ = judge(OK, [Observed("under-voltage", {"volts": 4.6, "at": "usb"})], KINDS, at(1))
    warmer, _ = judge(hot, [Observed("under-voltage", {"volts": 4.5, "at": "usb"})], KINDS, at(2))
    elsewhere, _ = judge(hot, [Observed("under-voltage", {"volts": 4.6, "at": "rail"})], KINDS, at(2))
    gone, _ = judge(hot, [], KINDS, at(90))
    assert hot.same_for_readers(warmer)
    assert not hot.same_for_readers(elsewhere)
    assert not hot.same_for_readers(judge(gone, [], KINDS, at(200))[0])


def test_due_is_when_the_next_debounce_ends() -> None:
    assert OK.due_in_s(KINDS, at(3)) is None
    both, _ = judge(OK, seen("offline", "high-latency"), KINDS, at(100))
    assert both.due_in_s(KINDS, at(104)) == 6
    assert both.due_in_s(KINDS, at(500)) == 0


@pytest.mark.parametrize(
    ("value", "found"),
    [(None, []), (69.9, []), (70, []), (70.1, [True]), (79.9, [True]), (80, [False]), (95, [False])],
)
def test_an_upper_limit_raises_at_one_value_and_holds_to_another(value: float | None, found: list[bool]) -> None:
    observed = threshold("over-temperature", value, raises_at=80, clears_at=70, detail_key="temperature_c")
    assert [item.holds_only for item in observed] == found
    assert all(item.detail == {"temperature_c": value} for item in observed)


@pytest.mark.parametrize(("value", "found"), [(11, []), (10, []), (9.9, [True]), (5.1, [True]), (5, [False]), (0, [False])])
def test_a_lower_limit_does_the_same_downwards(value: float, found: list[bool]) -> None:
    assert [item.holds_only for item in threshold("storage-low", value, raises_at=5, clears_at=10)] == found


# --- properties ---

_severities: st.SearchStrategy[Severity | None] = st.sampled_from([None, "info", "warning", "fault"])
_observed = st.lists(
    st.builds(
        Observed, code=st.sampled_from(sorted(KINDS)), holds_only=st.booleans(), severity=_severities, certain=st.booleans()
    ),
    max_size=5,
    unique_by=lambda item: item.code,
)
# Steps of whole seconds: the timers of `KINDS` are whole, so that no rounding blurs an edge.
_history = st.lists(st.tuples(st.integers(0, 40), _observed), min_size=1, max_size=25)


def play(history: list[tuple[int, list[Observed]]], start: Judgement = NEVER) -> list[tuple[Judgement, tuple[Change, ...]]]:
    now_s, judgement, result = 0, start, []
    for wait_s, observed in history:
        now_s += wait_s
        judgement, changes = judge(judgement, observed, KINDS, at(now_s))
        result.append((judgement, changes))
    return result


@given(_history)
def test_ok_is_never_said_with_a_warning_or_a_fault_and_trouble_never_without(history: list[tuple[int, list[Observed]]]) -> None:
    for judgement, _ in play(history):
        severities = {finding.severity for finding in judgement.findings}
        if judgement.status == "ok":
            assert severities <= {"info"}
        if judgement.status in ("fault", "absent"):
            assert "fault" in severities or "no-device" in codes(judgement)
        if judgement.status == "degraded":
            assert "warning" in severities


@given(_history)
def test_for_each_code_what_is_told_alternates_raised_and_cleared(history: list[tuple[int, list[Observed]]]) -> None:
    told: dict[str, list[str]] = {}
    for judgement, changes in play(history):
        for change in changes:
            told.setdefault(change.finding.code, []).append(change.what)
        standing = {code for code, words in told.items() if words[-1] == "raised"}
        assert standing == set(codes(judgement)), "the changes add up to what stands"
    for words in told.values():
        assert words == ["raised", "cleared"] * (len(words) // 2) + ["raised"] * (len(words) % 2)


@given(_history, st.sampled_from(sorted(KINDS)))
def test_what_is_seen_without_a_break_for_raise_after_s_is_always_raised(
    history: list[tuple[int, list[Observed]]], code: str
) -> None:
    always = [(wait_s, [*(item for item in observed if item.code != code), Observed(code)]) for wait_s, observed in history]
    first_s, now_s = always[0][0], 0
    for (wait_s, _), (judgement, _) in zip(always, play(always), strict=True):
        now_s += wait_s
        assert (code in codes(judgement)) == (now_s - first_s >= KINDS[code].raise_after_s)


@given(_history)
def test_judging_the_same_reading_twice_changes_nothing(history: list[tuple[int, list[Observed]]]) -> None:
    now = at(sum(wait_s for wait_s, _ in history))
    judgement, _ = play(history)[-1]
    assert judge(judgement, history[-1][1], KINDS, now) == (judgement, ())


@given(_history)
def test_judging_again_when_it_is_due_is_never_too_early(history: list[tuple[int, list[Observed]]]) -> None:
    now_s = sum(wait_s for wait_s, _ in history)
    judgement, _ = play(history)[-1]
    due_s = judgement.due_in_s(KINDS, at(now_s))
    if due_s is None:
        return
    _, early = judge(judgement, history[-1][1], KINDS, at(now_s + due_s - 0.5)) if due_s >= 1 else (None, ())
    later, changes = judge(judgement, history[-1][1], KINDS, at(now_s + due_s))
    assert not early
    assert changes, "a debounce that ends says something"
    assert later.due_in_s(KINDS, at(now_s + due_s)) != 0, "and does not come due again at once"


@given(_history)
def test_findings_always_stand_worst_first_and_once_each(history: list[tuple[int, list[Observed]]]) -> None:
    for judgement, _ in play(history):
        order = [("fault", "warning", "info").index(finding.severity) for finding in judgement.findings]
        assert order == sorted(order)
        assert len(set(codes(judgement))) == len(judgement.findings)
