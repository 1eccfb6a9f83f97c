"""What goes into a bundle, and that nothing else does, wherever it stands."""

import copy
import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest

from agent.diagnostics import allowed
from agent.diagnostics.__main__ import bundle
from agent.diagnostics.allowed import LEFT_OUT
from agent.diagnostics.known import Known
from agent.diagnostics.units import Names, read
from agent.lockdown import rules
from agent.peripherals import declared
from tests.diagnostics.question import AT, question

# A name, a social-security number, an IBAN, an address, a telephone number; one that looks like a name of ours.
CANARIES = ("Jeanne Dupont", "185057800608436", "FR7630006000011234567890189", "jeanne@exemple.fr", "0612345678", "jeanne-dupont")


def test_every_fact_that_is_a_text_was_decided_upon() -> None:
    texts = {(kind, fact.name) for kind, item in declared().items() for fact in item.facts if fact.type == "string"}
    assert texts == set(allowed.FACTS), "decide in agent/diagnostics/allowed.py what of it may go into a bundle"


def test_the_rules_of_the_lockdown_are_all_known() -> None:
    assert rules().keys() == allowed.RULES


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every text in plain data, and to every key."""
    if isinstance(value, str):
        yield way
    elif isinstance(value, dict):
        for key, item in value.items():
            yield (*way, ("key", key))
            yield from places(item, (*way, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*way, index))


def put(data: Any, way: tuple[Any, ...], text: str) -> Any:
    """The data with a text at one place."""
    changed = copy.deepcopy(data)
    *before, last = way
    at = changed
    for step in before:
        at = at[step]
    if isinstance(last, tuple):
        at[text] = at.pop(last[1])
    else:
        at[last] = text
    return changed


# The daemon's own names, from agent.toml: whoever writes that may call a printer what he likes.
OWN = ("area", "booth", "peripherals")


@pytest.mark.parametrize("canary", CANARIES)
def test_whatever_stands_in_any_place_does_not_come_out(canary: str) -> None:
    asked = question()
    tried = 0
    for topic in asked["image"]:
        if asked["image"][topic].startswith("{"):
            inner = json.loads(asked["image"][topic])
            for way in places(inner):
                changed = copy.deepcopy(asked)
                changed["image"][topic] = json.dumps(put(inner, way, canary))
                assert canary not in json.dumps(Known(changed).sections(), ensure_ascii=False), (topic, way)
                tried += 1
    for way in places(asked):
        if way[0] not in OWN and way[0] != ("key", "peripherals"):
            assert canary not in json.dumps(Known(put(asked, way, canary)).sections(), ensure_ascii=False), way
            tried += 1
    assert tried > 200


def test_what_a_technician_needs_is_in_it() -> None:
    found = bundle(question())
    assert (found["booth"], found["at"], found["clock"], found["board"]["architecture"]) == ("61-0007", AT, "synced", "aarch64")
    assert found["versions"]["agent"]
    peripherals = found["peripherals"]
    assert peripherals["receipt-printer"]["facts"] == {"paper": "empty", "online": False, "error": None}
    assert peripherals["receipt-printer"]["slot"] == "usb-1.2"
    printer = peripherals["document-printer"]
    assert printer["facts"] == {"reasons": f"media-empty-report,{LEFT_OUT}", "toner_lowest": LEFT_OUT, "queued_jobs": 3}
    assert [item["detail"] for item in printer["findings"]] == [
        {"reason": LEFT_OUT},
        {"reasons": "media-jam", "accepting": False},
    ]
    assert printer["healing"] == {"remedy": "enable-queue", "since": AT, "rung": 1, "attempt": 2}
    network = peripherals["network"]
    assert network["facts"] == {
        "interface": "enx…", "address": "IPv4, public", "gateway": "192.168.1.1", "broker": "connect:refused",
    }  # fmt: skip
    assert peripherals["scanner"]["findings"][0]["detail"] == {
        "reason": "crashed",
        "how": "SIGSEGV",
        "text": LEFT_OUT,
        "pid": 4711,
    }
    assert peripherals["camera"]["findings"][0]["detail"] == {"found": LEFT_OUT}
    assert found["alarms"][0]["tried"] == [{"remedy": "enable-queue", "outcome": "failed", "at": AT}]
    assert found["commands"] == [
        {"verb": "probe", "state": "failed", "reason": "busy", "at": AT},
        {"verb": "(unknown)", "state": "refused", "reason": "unknown-verb", "at": AT},
    ]
    assert found["healing"]["cases"]["document-printer"]["attempts"][0]["remedy"] == "enable-queue"
    assert found["documents"]["config"]["layers"]["fleet"] == {"seen_rev": 7, "applied_rev": 7}
    assert found["documents"]["policy"]["rules"] == {"usb": "violated"}
    assert found["link"]["last_error"] == {"stage": "connect", "reason": "refused"}
    assert found["settings"]["hours"] == {"mon": ["07:00-12:30"]}
    assert found["settings"]["peripherals"]["document-printer"] == {"poll_s": 15.0}, "numbers, and no name of a device"
    assert found["settings"]["peripherals"]["network"] == {}, "of its options, those that its kind has"
    assert found["figures"] == {"rss_bytes": 20_000_000, "cpu_s": 1.5}


def test_a_daemon_that_knows_nothing_yet_still_gets_a_bundle() -> None:
    found = bundle({"area": "61", "booth": "61-0007", "max_bytes": 4096})
    assert found["peripherals"] == {}
    assert found["journal"]["entries"] == [] or found["journal"]["unavailable"] is None


@pytest.mark.parametrize(
    ("text", "out"),
    [
        ("192.168.1.7", "192.168.1.7"), ("fe80::1%eth0", "IPv6, private"), ("2a01:e0a::1", "IPv6, public"),
        ("8.8.8.8", "IPv4, public"), ("jeanne", LEFT_OUT),
    ],
)  # fmt: skip
def test_an_address_is_that_of_the_shops_own_network_or_only_said_to_be_one(text: str, out: str) -> None:
    assert allowed.address(text) == out


@pytest.mark.parametrize(
    ("unit", "out"),
    [
        ("booth-agent.service", "booth-agent.service"), ("kiosk.service", "kiosk.service"),
        ("booth-act-usb-reset@3-1234-0.service", "booth-act-usb-reset@.service"), ("user@1000.service", "user@.service"),
        ("getty@jeanne.dupont.service", "getty@.service"), ("media-JEANNE.mount", None), ("jeanne@x.service", None), (7, None),
    ],
)  # fmt: skip
def test_units_are_named_without_what_they_were_made_for(unit: Any, out: str | None) -> None:
    assert Names(["kiosk.service", "../x.service", "media-x.mount"]).known(unit) == out


def test_what_systemctl_says_of_units() -> None:
    shown = (
        "Id=cups.service\nLoadState=loaded\nActiveState=active\nSubState=running\nResult=success\nNRestarts=2\nExecMainStatus=0\n\n"
        "Id=jeanne.mount\nLoadState=loaded\nActiveState=active\n\nId=dhcpcd.service\nLoadState=not-found\nActiveState=inactive\n\n"
        "Id=init.scope\nLoadState=loaded\nActiveState=Jeanne Dupont\n"
    )
    assert read(shown, Names()) == [
        {"unit": "cups.service", "active": "active", "sub": "running", "result": "success", "restarts": 2, "status": 0},
        {"unit": "init.scope", "active": LEFT_OUT},
    ]


def test_options_with_a_secret_would_have_to_be_numbers() -> None:
    """Of the configuration, numbers and switches go in: no option of a kind is a number that is secret."""
    named = {field.name for item in declared().values() for field in fields(item.options)}
    assert not {name for name in named if any(word in name for word in ("pin", "code", "secret", "password", "token"))}
