"""What the citizen can do, row by row of contract §10."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.contract.words import ServiceWord, Severity, Status
from agent.peripherals import declared
from agent.rules.health import Finding
from agent.rules.services import DEFAULT_RULES, PeripheralState, ServiceRule, services, touched_by
from agent.settings import read


def has(kind: str, *found: str | tuple[str, Severity], status: Status | None = None) -> PeripheralState:
    """A peripheral with these findings, faults unless said otherwise; its status follows from them."""
    findings = tuple(
        Finding(item, "fault", "auto", "") if isinstance(item, str) else Finding(*item, "auto", "") for item in found
    )
    severities = {finding.severity for finding in findings}
    worst: Status = "fault" if "fault" in severities else "degraded" if "warning" in severities else "ok"
    return PeripheralState(kind, kind, status or worst, findings)


def low(kind: str, code: str = "toner-low") -> PeripheralState:
    return has(kind, (code, "warning"))


def absent(kind: str) -> PeripheralState:
    return has(kind, "no-device", status="absent")


def unknown(kind: str) -> PeripheralState:
    return has(kind, status="unknown")


def word(service: str, *peripherals: PeripheralState) -> ServiceWord | None:
    return services(DEFAULT_RULES, peripherals).get(service)


NETWORK, BOARD, KIOSK = has("network"), has("board"), has("kiosk")
PRINTER, TICKETS, SCANNER = has("document-printer"), has("receipt-printer"), has("scanner")
CAMERA, AUDIO, FORMS = has("camera"), has("audio"), has("forms")
ALL = (NETWORK, BOARD, KIOSK, PRINTER, TICKETS, SCANNER, CAMERA, AUDIO, FORMS)

CHAIN = ("no-carrier", "no-address", "gateway-unreachable", "dns-failure", "captive-portal", "tls-failure")
LINE = ("high-latency", "high-loss", "weak-signal")


def but(*changed: PeripheralState) -> tuple[PeripheralState, ...]:
    """The whole booth, with these peripherals instead of their healthy twins."""
    kinds = {item.kind: item for item in changed}
    return tuple(kinds.get(item.kind, item) for item in ALL)


def without(*kinds: str) -> tuple[PeripheralState, ...]:
    return tuple(item for item in ALL if item.kind not in kinds)


def test_a_healthy_booth_offers_everything() -> None:
    assert services(DEFAULT_RULES, ALL) == dict.fromkeys(("web", "forms", "print", "scan", "visio"), "ok")


# --- web: network up to HTTPS, clock, kiosk where configured ---


@pytest.mark.parametrize("code", CHAIN)
def test_web_is_down_where_the_chain_fails_up_to_https(code: str) -> None:
    assert word("web", *but(has("network", code))) == "down"


@pytest.mark.parametrize("code", LINE)
def test_web_is_degraded_by_a_bad_line(code: str) -> None:
    assert word("web", *but(has("network", (code, "warning")))) == "degraded"


@pytest.mark.parametrize("severity", ["warning", "fault"])
def test_web_does_not_mind_a_broker_that_alone_is_unreachable(severity: Severity) -> None:
    assert word("web", *but(has("network", ("broker-unreachable", severity)))) == "ok"


def test_web_does_not_mind_that_the_brokers_tls_fails() -> None:
    assert word("web", *but(has("network", ("tls-failure", "warning")))) == "ok"


def test_web_is_down_with_a_clock_that_is_certainly_wrong_and_fine_with_one_that_is_unverified() -> None:
    assert word("web", *but(has("board", ("clock-unsynced", "fault")))) == "down"
    assert word("web", *but(has("board", ("clock-unsynced", "warning")))) == "ok"


def test_web_does_not_mind_the_boards_other_troubles() -> None:
    assert word("web", *but(has("board", "storage-read-only", ("over-temperature", "warning")))) == "ok"


def test_web_needs_the_kiosk_application_where_it_is_configured() -> None:
    assert word("web", *but(has("kiosk", "app-frozen"))) == "down"
    assert word("web", *without("kiosk")) == "ok"


# --- forms: document printer, cache where configured ---


def test_forms_are_printable_offline() -> None:
    assert word("forms", *but(has("network", "no-carrier"))) == "ok"


def test_forms_need_a_document_printer_and_no_other() -> None:
    assert word("forms", *but(has("document-printer", "media-empty"))) == "down"
    assert word("forms", *but(absent("document-printer"))) == "down"
    assert word("forms", *without("document-printer")) is None


@pytest.mark.parametrize("code", ["toner-low", "media-low"])
def test_forms_are_degraded_by_low_toner_or_media(code: str) -> None:
    assert word("forms", *but(low("document-printer", code))) == "degraded"


def test_forms_are_degraded_by_an_expired_form_and_down_without_one() -> None:
    assert word("forms", *but(has("forms", ("form-expired", "warning")))) == "degraded"
    assert word("forms", *but(has("forms", "form-missing"))) == "down"
    assert word("forms", *without("forms")) == "ok"


# --- print: either printer ---


@pytest.mark.parametrize("kind", ["document-printer", "receipt-printer"])
def test_print_is_offered_with_either_printer(kind: str) -> None:
    assert services(DEFAULT_RULES, [has(kind)])["print"] == "ok"
    assert services(DEFAULT_RULES, [has(kind, "media-empty")])["print"] == "down"
    assert services(DEFAULT_RULES, [absent(kind)])["print"] == "down"


@pytest.mark.parametrize("broken", [has("document-printer", "media-jam"), absent("receipt-printer"), low("receipt-printer")])
def test_print_is_degraded_where_one_of_two_fails_or_is_low(broken: PeripheralState) -> None:
    assert word("print", *but(broken)) == "degraded"


def test_print_is_down_only_when_both_fail() -> None:
    assert word("print", *but(has("document-printer", "media-jam"), absent("receipt-printer"))) == "down"


def test_print_does_not_hang_on_one_unknown_printer_while_the_other_works() -> None:
    assert word("print", *but(unknown("document-printer"))) == "degraded"
    assert word("print", *but(unknown("document-printer"), absent("receipt-printer"))) == "unknown"
    assert word("print", *but(unknown("document-printer"), unknown("receipt-printer"))) == "unknown"


# --- scan: scanner, disk ---


def test_scan_needs_a_scanner_and_a_disk_that_takes_something() -> None:
    assert word("scan", *but(has("scanner", "io-error"))) == "down"
    assert word("scan", *but(absent("scanner"))) == "down"
    assert word("scan", *but(has("board", "storage-read-only"))) == "down"
    assert word("scan", *but(has("board", "storage-low"))) == "down"
    assert word("scan", *but(has("board", ("storage-low", "warning")))) == "ok"
    assert word("scan", *without("scanner")) is None


# --- visio: camera, good network, audio where configured ---


@pytest.mark.parametrize("code", CHAIN)
def test_visio_is_down_without_the_network(code: str) -> None:
    assert word("visio", *but(has("network", code))) == "down"


@pytest.mark.parametrize("code", ["high-latency", "high-loss"])
def test_a_slow_line_takes_visio_down_and_only_degrades_web(code: str) -> None:
    booth = but(has("network", (code, "warning")))
    assert (word("visio", *booth), word("web", *booth)) == ("down", "degraded")


def test_a_weak_signal_alone_leaves_visio_alone() -> None:
    assert word("visio", *but(has("network", ("weak-signal", "warning")))) == "ok"


def test_visio_does_not_mind_the_broker() -> None:
    assert word("visio", *but(has("network", ("broker-unreachable", "warning")))) == "ok"


def test_visio_needs_a_camera_and_audio_where_configured() -> None:
    assert word("visio", *but(has("camera", "no-frames"))) == "down"
    assert word("visio", *but(has("audio", "no-microphone"))) == "down"
    assert word("visio", *without("audio")) == "ok"
    assert word("visio", *without("camera")) is None


@pytest.mark.parametrize("kind", ["scanner", "document-printer"])
def test_visio_is_degraded_without_scanner_or_printer(kind: str) -> None:
    assert word("visio", *but(absent(kind))) == "degraded"
    assert word("visio", *but(has(kind, "cover-open"))) == "degraded"
    assert word("visio", *without(kind)) == "ok", "none was promised"


def test_a_printer_that_is_only_low_is_not_missing() -> None:
    assert word("visio", *but(low("document-printer"))) == "ok"


# --- all of them ---


@pytest.mark.parametrize(
    ("kind", "services_"),
    [
        ("network", {"web", "visio"}),
        ("board", {"web", "scan"}),
        ("kiosk", {"web"}),
        ("document-printer", {"forms"}),
        ("scanner", {"scan"}),
        ("camera", {"visio"}),
        ("audio", {"visio"}),
        ("forms", {"forms"}),
    ],
)
def test_a_service_that_hangs_on_an_unknown_peripheral_is_unknown(kind: str, services_: set[str]) -> None:
    words = services(DEFAULT_RULES, but(unknown(kind)))
    assert {name for name, word in words.items() if word == "unknown"} == services_


def test_what_is_certainly_down_is_down_whatever_else_is_unknown() -> None:
    assert word("web", *but(has("network", "no-carrier"), unknown("board"))) == "down"


@pytest.mark.parametrize("code", ["probe-failed", "not-responding", "wedged"])
@pytest.mark.parametrize(("kind", "service"), [("network", "web"), ("board", "web"), ("board", "scan"), ("network", "visio")])
def test_what_could_not_be_measured_is_never_taken_for_good(kind: str, service: str, code: str) -> None:
    assert word(service, *but(has(kind, code))) == "unknown"


def test_what_the_booth_has_no_peripheral_for_is_not_offered() -> None:
    assert services(DEFAULT_RULES, []) == {}
    assert services(DEFAULT_RULES, [BOARD]) == {}
    assert set(services(DEFAULT_RULES, [NETWORK, BOARD])) == {"web"}


def test_in_maintenance_every_offered_service_says_so() -> None:
    booth = [has("network", "no-carrier"), unknown("scanner")]
    assert services(DEFAULT_RULES, booth, maintenance=True) == {"web": "maintenance", "scan": "maintenance"}


def test_an_info_changes_nothing() -> None:
    booth = [replace(item, findings=(Finding("note", "info", "nobody", ""),)) for item in ALL]
    assert set(services(DEFAULT_RULES, booth).values()) == {"ok"}


@pytest.mark.parametrize(
    ("kind", "code", "severity", "touched"),
    [
        ("receipt-printer", "media-empty", "fault", ["print"]),
        ("document-printer", "media-empty", "fault", ["forms", "print", "visio"]),
        ("document-printer", "toner-low", "warning", ["forms", "print"]),
        ("scanner", "no-device", "fault", ["scan", "visio"]),
        ("network", "no-carrier", "fault", ["web", "visio"]),
        ("network", "broker-unreachable", "warning", []),
        ("network", "high-loss", "warning", ["web", "visio"]),
        ("board", "over-temperature", "warning", []),
        ("booth", "store-damaged", "warning", []),
    ],
)
def test_an_alarm_names_the_services_that_its_finding_touches(
    kind: str, code: str, severity: Severity, touched: list[str]
) -> None:
    assert touched_by(DEFAULT_RULES, DEFAULT_RULES, kind, code, severity) == touched


def test_an_alarm_names_only_services_that_are_offered() -> None:
    assert touched_by(DEFAULT_RULES, ["print"], "document-printer", "media-empty", "fault") == ["print"]


# --- the mapping is configuration ---


def overlaid(**tables: Any) -> dict[str, ServiceRule]:
    data = {
        "booth": {"id": "61-0007", "area": "61"},
        "broker": {"url": "mqtt://127.0.0.1"},
        "peripherals": {},
        "services": tables,
    }
    return dict(read(data, declared(), Path("/")).services)


def test_a_service_can_be_taken_away() -> None:
    assert "print" not in services(overlaid(print={"offered": False}), ALL)
    assert "web" in services(overlaid(print={"offered": False}), ALL)


def test_a_service_can_need_something_more() -> None:
    rules = overlaid(forms={"needs": ["document-printer", "network"]})
    assert services(rules, but(has("network", "no-carrier")))["forms"] == "down"
    assert services(rules, but(has("forms", "form-missing")))["forms"] == "ok"


def test_what_it_needed_before_keeps_its_meaning() -> None:
    rules = overlaid(web={"needs": ["network"]})
    assert services(rules, but(has("network", ("broker-unreachable", "fault"))))["web"] == "ok"
    assert services(rules, but(has("network", ("high-loss", "warning"))))["web"] == "degraded"
    assert services(rules, but(has("kiosk", "app-frozen")))["web"] == "ok"


def test_print_can_be_the_document_printers_alone() -> None:
    rules = overlaid(print={"either": ["document-printer"]})
    assert services(rules, but(has("receipt-printer", "media-empty")))["print"] == "ok"
    assert "print" not in services(rules, [TICKETS])


def test_what_helps_can_be_chosen() -> None:
    rules = overlaid(visio={"helps": ["receipt-printer"]})
    assert services(rules, but(absent("scanner")))["visio"] == "ok"
    assert services(rules, but(absent("receipt-printer")))["visio"] == "degraded"


def test_a_booth_without_scanner_offers_no_scan_whatever_else_scan_needs() -> None:
    assert "scan" not in services(overlaid(scan={"needs": ["scanner", "board"]}), without("scanner"))
