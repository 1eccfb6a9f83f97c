"""The ladder: patience, one rung after the other, budgets, an end, and slow retries for ever."""

from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.words import Status
from agent.rules.health import Finding
from agent.rules.ladder import (
    DAY_S,
    REBOOT_EVERY_S,
    RELAPSE_S,
    Attempt,
    Case,
    Limits,
    Outcome,
    Patient,
    Remedy,
    Seen,
    Try,
    Wait,
    decide,
    gave_up,
    held_back,
)

NOW_S = 1_800_000_000.0
LIMITS = Limits(per_day=24, retry_s=14_400)


async def nothing(*_: Any) -> None:
    """No remedy runs here."""


def rung(name: str, *cures: str, **more: Any) -> Remedy:
    return Remedy(name, frozenset(cures or ("mute",)), nothing, **more)


LADDER = (rung("reopen"), rung("reset", max_attempts=2, cooldown_s=100.0), rung("power", needs_usb=True))
REBOOT = rung("reboot", reboots=True, patience_s=1800.0)


def ill(*codes: str, lasted_s: float = 1000.0, on_usb: bool = True, **detail: Any) -> Patient:
    findings = [Finding(code, "fault", "auto", "", detail) for code in codes]
    return Patient(findings, dict.fromkeys(codes, lasted_s), on_usb)


def tried(*attempts: tuple[str, float, str], code: str = "mute", round_: int = 0) -> Case:
    """Attempts as (remedy, seconds ago, outcome)."""
    return Case(
        tuple(Attempt(name, code, NOW_S - ago_s, 0, round_, cast("Outcome", how)) for name, ago_s, how in attempts), 0, round_
    )


def due(case: Case, patient: Patient | None = None, ladder: tuple[Remedy, ...] = LADDER, **more: Any) -> str | Wait | None:
    decision = decide(ladder, patient or ill("mute"), case, NOW_S, LIMITS, **more)
    return decision.remedy.name if isinstance(decision, Try) else decision


def test_who_is_well_or_has_what_no_rung_cures_is_left_alone() -> None:
    assert due(Case(), Patient()) is None
    assert due(Case(), ill("broker-unreachable")) is None


def test_a_finding_has_to_last_before_anything_is_tried() -> None:
    assert due(Case(), ill("mute", lasted_s=5.0)) == Wait(15.0, "patience")
    assert due(Case(), ill("mute", lasted_s=20.0)) == "reopen"


@pytest.mark.parametrize(
    ("before", "then"),
    [
        pytest.param([], "reopen", id="the gentlest first"),
        pytest.param([("reopen", 60, "failed")], "reset", id="the next rung"),
        pytest.param([("reopen", 60, "interrupted")], "reset", id="a power cut in the middle counts"),
        pytest.param([("reopen", 60, "running")], "reset", id="one that never ended counts"),
        pytest.param([("reopen", 60, "refused")], "reset", id="one that root refused counts"),
        pytest.param([("reopen", 60, "cured")], "reopen", id="one that helped may help again"),
        pytest.param([("reopen", 60, "relapsed")], "reset", id="one that helped for a moment did not"),
        pytest.param([("reopen", 300, "failed"), ("reset", 200, "failed")], "reset", id="a second attempt"),
        pytest.param([("reopen", 300, "failed"), ("reset", 99, "failed")], Wait(1.0, "cooldown"), id="after its cooldown"),
        pytest.param([("reset", 9, "failed"), ("reset", 8, "failed"), ("reopen", 3, "failed")], Wait(2.0, "cooldown"), id="gap"),
        pytest.param([("reopen", 400, "failed"), ("reset", 300, "failed"), ("reset", 9, "failed")], "power", id="the last"),
    ],
)  # fmt: skip
def test_the_ladder_is_climbed_rung_by_rung(before: list[tuple[str, float, str]], then: str | Wait) -> None:
    assert due(tried(*before)) == then


def test_a_rung_for_usb_is_none_for_a_network_printer() -> None:
    spent = tried(("reopen", 900, "failed"), ("reset", 800, "failed"), ("reset", 600, "failed"))
    assert due(spent) == "power"
    assert due(spent, ill("mute", on_usb=False)) == Wait(14_400 - 600, "gave-up")


def test_what_was_given_up_is_tried_again_slowly_once_each_rung_and_for_ever() -> None:
    spent = tried(
        ("reopen", 20_000, "failed"), ("reset", 19_000, "failed"), ("reset", 18_000, "failed"), ("power", 15_000, "failed")
    )
    finding = ill("mute").findings[0]
    assert gave_up(LADDER, ill("mute"), spent, finding, NOW_S, LIMITS)
    case = spent
    for _ in range(5):
        names = []
        for _ in LADDER:
            decision = decide(LADDER, ill("mute"), case, NOW_S, LIMITS)
            assert isinstance(decision, Try)
            names.append(decision.remedy.name)
            case = case.begun(decision.remedy, "mute", decision.round, NOW_S - 15_000).ended("failed")
        assert names == ["reopen", "reset", "power"]
        assert case.round > 0


def test_a_reboot_that_did_not_help_is_never_done_again_in_the_same_episode() -> None:
    ladder = (rung("reopen"), REBOOT)
    patient = ill("mute", lasted_s=1e6)
    case = tried(("reopen", 90_000, "failed")).begun(REBOOT, "mute", 0, NOW_S - 80_000).ended("rebooted")
    for _ in range(100):
        decision = decide(ladder, patient, case, NOW_S, replace(LIMITS, per_day=1000), NOW_S - 80_000)
        assert isinstance(decision, Try)
        assert decision.remedy.name == "reopen"
        case = case.begun(decision.remedy, "mute", decision.round, NOW_S - 15_000).ended("failed")
    again = decide((REBOOT,), patient, case.closed(), NOW_S, replace(LIMITS, per_day=1000), NOW_S - 80_000)
    assert isinstance(again, Try)


def test_the_booth_is_rebooted_once_in_six_hours_for_whatever_reason() -> None:
    patient = ill("mute", lasted_s=1e6)
    assert due(Case(), patient, ladder=(REBOOT,)) == "reboot"
    assert due(Case(), patient, ladder=(REBOOT,), reboot_s=NOW_S - 3600) == Wait(REBOOT_EVERY_S - 3600, "cooldown")
    assert due(Case(), patient, ladder=(REBOOT,), reboot_s=NOW_S + 1e9) == Wait(REBOOT_EVERY_S, "cooldown")


def test_a_device_that_is_cured_again_and_again_has_a_budget() -> None:
    case = tried(*(("reopen", 3600.0 - 100 * count, "cured") for count in range(24)))
    assert due(case) == Wait(DAY_S - 3600.0, "budget")
    assert gave_up(LADDER, ill("mute"), case, ill("mute").findings[0], NOW_S, LIMITS)
    assert not gave_up(LADDER, ill("mute"), case, ill("mute").findings[0], NOW_S + DAY_S, LIMITS)


def test_failed_attempts_make_a_cooldown_longer_up_to_an_hour() -> None:
    ladder = (rung("reset", cooldown_s=100.0, max_attempts=20),)
    waits = []
    for count in range(1, 9):
        decision = decide(ladder, ill("mute"), tried(*[("reset", 0.0, "failed")] * count), NOW_S, LIMITS)
        assert isinstance(decision, Wait)
        waits.append(decision.seconds)
    assert waits == [100, 200, 400, 800, 1600, 3200, 3600, 3600]


def test_a_clock_that_jumps_back_makes_nothing_older() -> None:
    case = Case((Attempt("reopen", "mute", NOW_S + 1e8, 0, 0, "failed"),))
    assert due(case) == Wait(5.0, "cooldown")


def test_a_cure_is_taken_back_by_a_relapse_of_the_same_finding_only() -> None:
    case = tried(("reopen", 100, "cured"))
    ended_s = NOW_S - 100
    assert case.relapsed("mute", ended_s + RELAPSE_S - 1).attempts[-1].outcome == "relapsed"
    assert case.relapsed("mute", ended_s + RELAPSE_S + 1) == case
    assert case.relapsed("io-error", ended_s + 1) == case
    failed = tried(("reopen", 100, "failed"))
    assert failed.relapsed("mute", ended_s + 1) == failed


def test_what_was_tried_is_told_of_this_episode_and_this_finding() -> None:
    case = tried(("reopen", 100, "failed"))
    assert [item.remedy for item in case.tried("mute")] == ["reopen"]
    assert case.tried("io-error") == ()
    assert case.closed().tried("mute") == ()
    assert case.begun(LADDER[1], "mute", 0, NOW_S).tried("mute") == case.attempts  # what runs is told elsewhere


def test_a_finding_may_be_looked_at_before_a_rung_is_tried() -> None:
    def near(finding: Finding) -> bool:
        return finding.detail.get("reason") != "far"

    ladder = (rung("bounce", when=near),)
    assert due(Case(), ill("mute"), ladder=ladder) == "bounce"
    assert due(Case(), ill("mute", reason="far"), ladder=ladder) is None


def seen(status: Status, *codes: str, pluggable: bool = True) -> Seen:
    return Seen(status, frozenset(codes), pluggable)


@pytest.mark.parametrize(
    ("booth", "reason"),
    [
        pytest.param([seen("ok"), seen("fault", "mute")], None, id="one fault"),
        pytest.param([seen("absent"), seen("ok")], None, id="one is out"),
        pytest.param([seen("absent")], None, id="the only one is out"),
        pytest.param([seen("absent"), seen("absent")], "everything-gone", id="all are out"),
        pytest.param([seen("absent"), seen("absent"), seen("ok", pluggable=False)], "everything-gone", id="all but the board"),
        pytest.param(
            [seen("degraded", "under-voltage", pluggable=False), seen("fault", "mute")], "under-voltage", id="weak power"
        ),
    ],
)
def test_nothing_is_healed_when_power_or_everything_is_gone(booth: list[Seen], reason: str | None) -> None:
    assert held_back(booth) == reason


OUTCOMES: list[Outcome] = ["cured", "failed", "timed-out", "refused", "interrupted", "relapsed"]


@given(st.lists(st.tuples(st.sampled_from(OUTCOMES), st.floats(0, 50_000)), max_size=60))
def test_whatever_happens_no_day_has_more_remedies_than_its_budget_and_no_six_hours_two_reboots(
    story: list[tuple[Outcome, float]],
) -> None:
    ladder = (*LADDER, replace(REBOOT, patience_s=0.0))
    case, now_s, reboot_s = Case(), NOW_S, None
    done: list[tuple[float, str]] = []
    for outcome, pause_s in story:
        now_s += pause_s
        decision = decide(ladder, ill("mute", lasted_s=1e6), case, now_s, LIMITS, reboot_s)
        if isinstance(decision, Try):
            done.append((now_s, decision.remedy.name))
            reboot_s = now_s if decision.remedy.reboots else reboot_s
            case = case.begun(decision.remedy, decision.code, decision.round, now_s).ended(outcome)
        else:
            assert decision is not None
            assert decision.seconds > 0
    for at_s, _ in done:
        assert sum(0 <= at_s - other_s < DAY_S for other_s, _ in done) <= LIMITS.per_day
    reboots = [at_s for at_s, name in done if name == "reboot"]
    assert all(later - earlier >= REBOOT_EVERY_S for earlier, later in pairwise(reboots))
