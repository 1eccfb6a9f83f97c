"""`boothctl config|policy show | origin | diff`: what a booth made of its documents, in words."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.boothctl.on_broker import parts_of
from agent.boothctl.reports import Difference, Part, Report, differences, leaves
from agent.contract.topics import Address
from agent.contract.typed import plain
from agent.lockdown import rules
from tests.boothctl.desk import Desk
from tests.boothctl.program import WHEN, say
from tests.boothctl.stand_in import reported
from tests.documents.operator import Operator
from tests.world import World, world

EVIL = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e"

CONFIG = reported(
    layers={
        "fleet": {"seen_rev": 17, "applied_rev": 17}, "area": {"seen_rev": 2, "applied_rev": None},
        "booth": {"seen_rev": 4, "applied_rev": 3},
    },
    sections={
        "reporting": {"status": "applied", "layer": "fleet", "value": {"heartbeat_s": 600, "telemetry_s": 900}},
        "hours": {"status": "applied", "layer": "local", "value": {"tz": "Europe/Paris", "week": {"mon": ["07:00-19:30"]}}},
        "peripherals": {"status": "applied", "absent": ["camera"], "names": {
            "scanner": {"layer": "booth", "value": {"check_every_s": 60, "patience": {"open_s": 3}}},
            "board": {"layer": "default", "value": {"interval_s": None}},
        }},
        "tomorrow": {"status": "applied", "invented": "later"},
    },
    errors=[{"layer": "booth", "code": "invalid", "path": "doc.reporting.heartbeat_s", "message": "write a number from 5"}],
    at=WHEN,
)  # fmt: skip


def publish(w: World, kind: str, report: dict[str, Any], **documents: bytes) -> str:
    """What the broker has of 61-0007; returns its address."""
    for name, message in documents.items():
        place = {"fleet": "_all/_all", "area": "61/_all", "booth": "61/61-0007"}[name]
        w.observer.publish(f"booth/v1/{place}/{kind}/desired", message, retain=True)
    say(w, "61-0007", f"{kind}/reported", report).wait_for_publish(20)
    return f"mqtt://127.0.0.1:{w.broker.port}"


def signed(kind: str, doc: Any, rev: int, place: str) -> bytes:
    return Operator().sign(kind, doc, rev, f"booth/v1/{place}")


async def test_a_configuration_in_words(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    async with world(tmp_path) as w:
        url = publish(w, "config", CONFIG)
        page = await desk.run("config", "show", "61-0007", "--broker", url)
        assert page.out.splitlines() == [
            f"61-0007 (61)  config applied at {WHEN}",
            "fleet     revision 17",
            "area      revision 2 seen, none in force",
            "booth     revision 3 in force, 4 seen",
            "ERROR     booth: invalid doc.reporting.heartbeat_s: write a number from 5",
            "",
            "SECTION              STATUS   LAYER    VALUE",
            'reporting            applied  fleet    {"heartbeat_s": 600, "telemetry_s": 900}',
            'hours                applied  local    {"tz": "Europe/Paris", "week": {"mon": ["07:00-19:30"]}}',
            'peripherals.scanner  applied  booth    {"check_every_s": 60, "patience": {"open_s": 3}}',
            'peripherals.board    applied  default  {"interval_s": null}',
            "peripherals.camera   absent   –        –",
            "tomorrow             applied  –        –",
        ]
        assert (await desk.run("config", "show", "61-0007", "--json", "--broker", url)).json == CONFIG


async def test_a_policy_in_words_with_what_was_measured(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    policy = reported(
        "drifted",
        sections={
            "usb": {"status": "applied", "layer": "area", "value": {"storage": False}},
            "web": {"status": "applied", "layer": "floor", "value": {}},
        },
        rules={
            "usb": {"measured": "violated", "detail": "usb-1.2 is a disk", "at": WHEN},
            "camera": {"measured": "not-applicable", "detail": None, "at": WHEN},
        },
        at=WHEN,
    )
    async with world(tmp_path) as w:
        url = publish(w, "policy", policy)
        page = await desk.run("policy", "show", "61-0007", "--broker", url)
        assert page.out.splitlines()[0] == f"61-0007 (61)  policy drifted at {WHEN}"
        assert [line.split() for line in page.out.splitlines()[5:]] == [
            ["RULE", "STATUS", "LAYER", "MEASURED", "AT", "DETAIL", "VALUE"],
            ["usb", "applied", "area", "violated", WHEN, "usb-1.2", "is", "a", "disk", '{"storage":', "false}"],
            ["web", "applied", "floor", "–", "–", "–", "{}"],
            ["camera", "–", "–", "not-applicable", WHEN, "–", "–"],
        ]


async def test_which_layer_gave_a_value(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    fleet = signed("config", {"reporting": {"heartbeat_s": 600}}, 17, "_all/_all")
    # Revision 3 is in force, and this is 4: what the booth has of 3 is not known.
    booth = signed("config", {"peripherals": {"scanner": {}}}, 4, "61/61-0007")
    async with world(tmp_path) as w:
        url = publish(w, "config", CONFIG, fleet=fleet, booth=booth)
        page = await desk.run("config", "origin", "61-0007", "--broker", url)
        assert [line.split(maxsplit=2) for line in page.out.splitlines()] == [
            ["VALUE", "IS", "FROM"],
            ["reporting.heartbeat_s", "600", "fleet"],
            ["reporting.telemetry_s", "900", "local or default"],
            ["hours.tz", '"Europe/Paris"', "local"],
            ["hours.week.mon", '["07:00-19:30"]', "local"],
            ["peripherals.scanner.check_every_s", "60", "booth"],
            ["peripherals.scanner.patience.open_s", "3", "booth"],
            ["peripherals.board.interval_s", "null", "default"],
        ]
        one = await desk.run("config", "origin", "61-0007", "peripherals.scanner", "--json", "--broker", url)
        assert one.json == [
            {"path": "peripherals.scanner.check_every_s", "value": 60, "from": "booth"},
            {"path": "peripherals.scanner.patience.open_s", "value": 3, "from": "booth"},
        ]
        all_of_them = await desk.run("config", "origin", "61-0007", "peripherals", "--json", "--broker", url)
        assert all_of_them.json == [*one.json, {"path": "peripherals.board.interval_s", "value": None, "from": "default"}]
        some = await desk.run("config", "origin", "61-0007", "peripherals.board", "hours", "--broker", url)
        assert [line.split()[0] for line in some.out.splitlines()[1:]] == [
            "hours.tz", "hours.week.mon", "peripherals.board.interval_s",
        ]  # fmt: skip
        none = await desk.run("config", "origin", "61-0007", "hours", "light", "heal", "--broker", url, status=1)
        assert none.err == "boothctl: the booth reports no section 'light'\nboothctl: the booth reports no section 'heal'\n"
        assert none.out == ""


async def test_what_a_document_would_change(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    fleet = signed("config", {"reporting": {"heartbeat_s": 600}}, 17, "_all/_all")
    desk.write("doc.json", {
        "reporting": {"telemetry_s": 60}, "light": {"dim": True},
        "peripherals": {"scanner": {"check_every_s": 60, "patience": {"open_s": 5}}},
    })  # fmt: skip
    async with world(tmp_path) as w:
        url = publish(w, "config", CONFIG, fleet=fleet)
        diff = ("config", "diff", "61-0007")
        page = await desk.run(*diff, "doc.json", "--broker", url)
        assert [line.split(maxsplit=2) for line in page.out.splitlines()] == [
            ["~", "reporting.telemetry_s", "900  →  60"],
            ["-", "reporting.heartbeat_s", "600  →  (local or default)"],
            ["+", "light.dim", "–    →  true"],
            ["~", "peripherals.scanner.patience.open_s", "3    →  5"],
        ]
        as_json = await desk.run(*diff, "doc.json", "--json", "--broker", url)
        assert as_json.json == [
            {"path": "reporting.telemetry_s", "now": 900, "then": 60},
            {"path": "reporting.heartbeat_s", "now": 600},
            {"path": "light.dim", "then": True},
            {"path": "peripherals.scanner.patience.open_s", "now": 3, "then": 5},
        ]
        desk.write("same.dsse", signed("config", {"hours": {"tz": "Europe/Paris"}}, 1, "61/_all").decode())
        assert (await desk.run(*diff, "same.dsse", "--broker", url)).out == "no difference\n"
        desk.write("doc.json", {"hors": {}})
        assert (
            "doc.json: invalid: doc.hors: unknown section" in (await desk.run(*diff, "doc.json", "--broker", url, status=1)).err
        )


async def test_what_a_document_leaves_out_of_its_layer_is_a_difference_too(tmp_path: Path) -> None:
    """A document is its whole layer: what the last one gave falls to whatever else names it."""
    desk = Desk(tmp_path)
    fleet = signed("config", {"reporting": {"heartbeat_s": 600}, "heal": {}, "peripherals": {"scanner": {}}}, 17, "_all/_all")
    area = signed("config", {"heal": {}, "checks": {"a": 1}, "peripherals": {"camera": {"fps": 5}}}, 2, "61/_all")
    booth = signed("config", {
        "heal": {"enabled": False}, "hours": {"tz": "UTC"},
        "peripherals": {"camera": {}, "scanner": {}, "reader": {"x": 1}},
    }, 4, "61/61-0007")  # fmt: skip
    elsewhere = signed("config", {"hours": {}}, 3, "70/_all")
    desk.write("doc.json", {"light": {}, "peripherals": {"reader": {}}})
    async with world(tmp_path) as w:
        url = publish(w, "config", CONFIG, fleet=fleet, area=area, booth=booth)
        w.observer.publish("booth/v1/70/_all/config/desired", elsewhere, retain=True)
        diff = ("config", "diff", "61-0007", "doc.json", "--broker", url)
        assert [line.split(maxsplit=2) for line in (await desk.run(*diff)).out.splitlines()] == [
            ["-", "peripherals.scanner", "{}                  →  (fleet)"],
            ["-", "heal", '{"enabled": false}  →  (area)'],
            ["-", "hours", '{"tz": "UTC"}       →  (local or default)'],
            ["-", "peripherals.camera", "{}                  →  (area)"],
        ]
        assert (await desk.run(*diff, "--json")).json == [
            {"path": "peripherals.scanner", "now": {}, "falls_to": "fleet"},
            {"path": "heal", "now": {"enabled": False}, "falls_to": "area"},
            {"path": "hours", "now": {"tz": "UTC"}, "falls_to": "local or default"},
            {"path": "peripherals.camera", "now": {}, "falls_to": "area"},
        ]
        of_the_area = await desk.run(*diff, "--audience", "61", "--json")
        assert of_the_area.json == [
            {"path": "heal", "now": {}, "falls_to": "booth"},
            {"path": "checks", "now": {"a": 1}, "falls_to": "local or default"},
            {"path": "peripherals.camera", "now": {"fps": 5}, "falls_to": "booth"},
        ]


async def test_a_section_that_the_booth_says_it_has_is_missed_where_the_broker_lost_the_document(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("doc.json", {})
    usb = {"status": "applied", "layer": "booth", "value": {"storage": False}}
    async with world(tmp_path) as w:
        url = publish(w, "policy", reported(sections={"usb": usb}))
        page = await desk.run("policy", "diff", "61-0007", "doc.json", "--broker", url)
        assert page.out.split() == ["-", "usb", '{"storage":', "false}", "→", "(floor", "or", "default)"]


async def test_a_document_for_a_layer_changes_nothing_that_a_more_specific_one_names(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("doc.json", {"peripherals": {"scanner": {"check_every_s": 5}}})
    async with world(tmp_path) as w:
        url = publish(w, "config", CONFIG)
        diff = ("config", "diff", "61-0007", "--broker", url)
        done = await desk.run(*diff, "doc.json", "--audience", "61")
        assert done.out == "no difference\n"
        assert done.err == "boothctl: peripherals.scanner stays as it is: the booth's document gives it\n"
        stranger = await desk.run(*diff, "doc.json", "--audience", "70", status=1)
        assert stranger.err == "boothctl: a document for booth/v1/70/_all does not reach booth/v1/61/61-0007\n"
        desk.write("c.dsse", signed("config", {}, 1, "61/_all").decode())
        assert (await desk.run(*diff, "c.dsse", "--audience", "61")).out == "no difference\n"
        other = await desk.run(*diff, "c.dsse", "--audience", "fleet", status=2)
        assert other.err == "boothctl: c.dsse is signed for booth/v1/61/_all\n"


async def test_the_doc_that_lies_on_the_broker_is_got(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    operator = Operator()
    operator.install(tmp_path)
    doc = {"usb": {"storage": False}, "hours": {"week": {"mon": [EVIL]}}}
    async with world(tmp_path) as w:
        url = publish(w, "policy", reported(), booth=operator.sign("policy", doc, 7, not_after="2026-11-21T08:00:00.000Z"))
        get = ("policy", "get", "61-0007", "--broker", url)
        done = await desk.run(*get)
        assert (done.json, done.out.replace("\n", "").isprintable()) == (doc, True)
        assert done.err.startswith("boothctl: policy for booth/v1/61/61-0007, revision 7, epoch 1, until 2026-11-21")
        assert done.err.endswith("; signatures not looked at\n")
        by_list = await desk.run(*get, "--trust", "trust.json")
        assert (by_list.json, by_list.err.endswith("; well signed\n")) == (doc, True), "it was good when it was taken"

        none = await desk.run("policy", "get", "fleet", "--broker", url, status=3)
        assert (none.out, none.err) == ("", "boothctl: nothing lies at booth/v1/_all/_all/policy/desired\n")


@pytest.mark.parametrize(
    ("lies", "code"),
    [
        (Operator(first=Operator().roots[0]).sign("policy", {}), "untrusted-key"),
        (Operator().sign("policy", {}, epoch=2), "untrusted-key"),
        (Operator().sign("policy", {}).replace(b'"sig":"', b'"sig":"AAAA'), "bad-signature"),
        (Operator().sign("policy", {}, audience="booth/v1/61/_all"), "wrong-audience"),
        (Operator().sign("config", {}), "unsupported"),
        (b"{}", "bad-envelope"),
    ],
)  # fmt: skip
async def test_nothing_is_got_that_a_booth_with_the_list_would_refuse(tmp_path: Path, lies: bytes, code: str) -> None:
    desk = Desk(tmp_path)
    Operator().install(tmp_path)
    async with world(tmp_path) as w:
        url = publish(w, "policy", reported(), booth=lies)
        done = await desk.run("policy", "get", "61-0007", "--trust", "trust.json", "--broker", url, status=1)
        assert (done.out, code in done.err) == ("", True), done.err


def test_a_rules_part_is_compared_with_what_it_leaves_out() -> None:
    name, rule = next(iter(rules().items()))
    everything_locked = differences_of("policy", name, {}, {})
    assert {one.path.partition(".")[0] for one in everything_locked} <= {name}
    value = {one.path.removeprefix(f"{name}."): one.then for one in everything_locked}
    assert value.keys() == leaves(plain(rule.schema())).keys(), "the report said nothing of them, and they get the rule's own"


def differences_of(kind: str, name: str, value: Any, wanted: Any) -> list[Difference]:
    sections = {name: {"status": "applied", "layer": "floor", "value": value}}
    return differences(Report(kind, Address("61", "61-0007"), reported(sections=sections)), {name: wanted}, "booth")


def test_null_is_a_value_and_a_section_that_is_none_is_tolerated() -> None:
    assert differences_of("config", "hours", {"tz": None}, {"tz": None}) == []
    assert differences_of("config", "hours", {}, {"tz": None}) == [Difference("hours.tz", None, None, has_now=False)]
    assert differences_of("config", "hours", None, {}) == []
    assert differences_of("config", "hours", 3, 4) == [Difference("hours", 3, 4)]
    strange = Report("config", Address("61", "61-0007"), reported(sections={"peripherals": {"names": [1]}, "x": {"names": {}}}))
    assert strange.parts() == {"peripherals": Part("–", "–", None, None), "x": Part("–", "–", None, None)}
    assert parts_of({"peripherals": 3}) == {"peripherals": 3}


async def test_the_newest_report_counts_of_a_booth_that_was_moved(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    async with world(tmp_path) as w:
        url = publish(w, "config", reported("stale", at=WHEN))
        w.observer.publish("booth/v1/70/61-0007/config/reported", json.dumps(reported()), retain=True)
        assert (await desk.run("config", "show", "61-0007", "--broker", url)).out.startswith("61-0007 (70)  config applied")


async def test_nothing_that_a_booth_reports_can_command_the_terminal(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    hostile = reported(
        sections={
            EVIL: {"status": EVIL, "layer": EVIL, "value": {EVIL: EVIL}},
            "peripherals": {"names": {EVIL: {"value": EVIL}}},
        },
        errors=[{"layer": "booth", "code": "invalid", "path": EVIL, "message": EVIL}],
    )
    async with world(tmp_path) as w:
        url = publish(w, "config", hostile)
        publish(w, "policy", hostile | {"rules": {EVIL: {"measured": "violated", "detail": EVIL, "at": WHEN}}})
        desk.write("doc.json", {})
        for kind in ("config", "policy"):
            for act in (("show", "61-0007"), ("origin", "61-0007"), ("diff", "61-0007", "doc.json")):
                for form in ((), ("--json",)):
                    done = await desk.run(kind, *act, *form, "--broker", url)
                    assert (done.out + done.err).replace("\n", "").isprintable(), act
        for garbage in (b"{}", b"\xff", b"[" * 200_000, EVIL.encode()):
            say(w, "61-0007", "config/reported", garbage).wait_for_publish(20)
            done = await desk.run("config", "show", "61-0007", "--broker", url, status=3)
            assert done.err == "boothctl: no config report of a booth '61-0007' on this broker\n"
        w.observer.problems.clear()  # they were all bad


async def test_no_answer(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("doc.json", {})
    acts = [("show",), ("origin",), ("diff", "doc.json")]
    async with world(tmp_path) as w:
        url = f"mqtt://127.0.0.1:{w.broker.port}"
        for act, *rest in acts:
            done = await desk.run("policy", act, "61-0007", *rest, "--broker", url, status=3)
            assert done.err == "boothctl: no policy report of a booth '61-0007' on this broker\n"
    for act, *rest in acts:
        done = await desk.run("policy", act, "61-0007", *rest, "--broker", url, "--wait", "0.5", status=3)
        assert done.err.startswith("boothctl: no answer from 127.0.0.1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("config",), "usage: boothctl config"),
        (("config", "show"), "BOOTH"),
        (("config", "show", "+", "--broker", "mqtt://127.0.0.1"), "write a name of a-z"),
        (("policy", "origin", "#", "--broker", "mqtt://127.0.0.1"), "write a name of a-z"),
        (("config", "diff", "61-0007"), "FILE"),
        (("config", "show", "61-0007"), "which broker?"),
    ],
)
async def test_wrong_usage(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    done = await Desk(tmp_path).run(*arguments, status=2)
    assert (done.out, said in done.err) == ("", True), done.err
