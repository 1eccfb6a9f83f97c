"""The shopkeeper's light, row by row of contract §9."""

from itertools import combinations

import pytest

from agent.contract.words import FixBy, LightWord, Severity
from agent.rules.alarms import Alarm
from agent.rules.light import light


def alarm(
    code: str, fix_by: FixBy = "shopkeeper", severity: Severity = "fault", *, acknowledged: bool = True, raised: bool = True
) -> Alarm:
    peripheral = "network" if code in CHAIN or code in DISTANT else "receipt-printer"
    return Alarm(peripheral, code, severity, fix_by, "", 0.0, raised=raised, acknowledged=acknowledged)


CHAIN = ("no-carrier", "no-address", "gateway-unreachable", "dns-failure", "captive-portal")
DISTANT = ("tls-failure", "broker-unreachable")
YOUR_TURN = alarm("media-empty")
NO_INTERNET = alarm("gateway-unreachable")
BROKEN = alarm("unrecoverable-error", "technician")


@pytest.mark.parametrize(
    ("word", "alarms", "flags"),
    [
        ("starting", [], {"starting": True}),
        ("locate", [], {"locate": True}),
        ("working", [], {"working": True}),
        ("your-turn", [YOUR_TURN], {}),
        ("no-internet", [NO_INTERNET], {}),
        ("broken", [BROKEN], {}),
        ("ok", [], {}),
    ],
)
def test_each_row_of_the_table(word: LightWord, alarms: list[Alarm], flags: dict[str, bool]) -> None:
    assert light(alarms, **flags) == word


ROWS: list[tuple[LightWord, dict[str, bool], list[Alarm]]] = [
    ("starting", {"starting": True}, []),
    ("locate", {"locate": True}, []),
    ("working", {"working": True}, []),
    ("your-turn", {}, [YOUR_TURN]),
    ("no-internet", {}, [NO_INTERNET]),
    ("broken", {}, [BROKEN]),
]


@pytest.mark.parametrize(("upper", "lower"), list(combinations(ROWS, 2)), ids=lambda row: row[0])
def test_of_any_two_rows_the_upper_one_is_shown(
    upper: tuple[LightWord, dict[str, bool], list[Alarm]], lower: tuple[LightWord, dict[str, bool], list[Alarm]]
) -> None:
    assert light([*lower[2], *upper[2]], **(upper[1] | lower[1])) == upper[0]


@pytest.mark.parametrize("code", CHAIN)
def test_the_chain_up_to_the_portal_is_no_internet(code: str) -> None:
    assert light([alarm(code)]) == "no-internet"


@pytest.mark.parametrize("code", DISTANT)
@pytest.mark.parametrize("severity", ["warning", "fault"])
def test_tls_or_broker_trouble_alone_leaves_the_light_as_it_is(code: str, severity: Severity) -> None:
    distant = alarm(code, "remote", severity)
    assert light([distant]) == "ok"
    for word, flags, alarms in ROWS:
        assert light([distant, *alarms], **flags) == word


@pytest.mark.parametrize("fix_by", ["auto", "remote", "technician", "third-party", "nobody"])
def test_what_is_not_hers_to_fix_is_broken_only_once_the_broker_acknowledged_the_alarm(fix_by: FixBy) -> None:
    assert light([alarm("cutter-error", fix_by, acknowledged=False)]) == "ok"
    assert light([alarm("cutter-error", fix_by, acknowledged=True)]) == "broken"


def test_until_then_the_light_keeps_the_state_that_it_had() -> None:
    new = alarm("cutter-error", "technician", acknowledged=False)
    assert light([NO_INTERNET, new]) == "no-internet"
    assert light([BROKEN, new]) == "broken"


@pytest.mark.parametrize("code", ["media-empty", "no-carrier"])
def test_what_she_can_do_needs_no_acknowledgement(code: str) -> None:
    assert light([alarm(code, acknowledged=False)]) == light([alarm(code)]) != "ok"


@pytest.mark.parametrize("severity", ["info", "warning"])
@pytest.mark.parametrize("code", ["media-low", "under-voltage", "no-carrier"])
@pytest.mark.parametrize("fix_by", ["shopkeeper", "technician"])
def test_warnings_leave_it_alone(code: str, fix_by: FixBy, severity: Severity) -> None:
    assert light([alarm(code, fix_by, severity)]) == "ok"
    assert light([alarm(code, fix_by, severity), BROKEN]) == "broken"


@pytest.mark.parametrize("waiting", [YOUR_TURN, NO_INTERNET, BROKEN])
def test_a_finding_that_is_no_alarm_yet_leaves_it_alone(waiting: Alarm) -> None:
    assert light([alarm(waiting.code, waiting.fix_by, raised=False)]) == "ok"


def test_paper_beats_a_dead_machine_because_she_can_do_something_about_it() -> None:
    assert light([BROKEN, alarm("unrecoverable-error", "technician"), YOUR_TURN, NO_INTERNET]) == "your-turn"


def test_a_network_card_that_is_not_there_is_her_turn_and_no_chain() -> None:
    assert light([alarm("no-device")]) == "your-turn"
