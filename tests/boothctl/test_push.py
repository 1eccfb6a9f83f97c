"""`boothctl config|policy push` with booths of the test's own, and with the real one."""

import asyncio
import json
from pathlib import Path

import pytest

from agent.boothctl.following import Answer, answer_of
from agent.contract.documents import read_document
from agent.contract.envelope import open_envelope
from tests.boothctl.desk import Desk
from tests.boothctl.program import say, state
from tests.boothctl.stand_in import applies, booths, is_silent, refuses, reported, reverts, revisions
from tests.documents.operator import Operator
from tests.world import World, world


def desk_at(folder: Path) -> Desk:
    desk = Desk(folder)
    desk.keys("ann", "bob")
    desk.write("doc.json", {"reporting": {"heartbeat_s": 600}})
    return desk


def url(w: World) -> str:
    return f"mqtt://127.0.0.1:{w.broker.port}"


async def test_a_doc_is_signed_published_retained_and_followed_to_its_end(tmp_path: Path) -> None:
    desk = desk_at(tmp_path)
    async with world(tmp_path) as w, booths(w, b61_0007=applies, b61_0008=applies, b70_0001=refuses("invalid", "not mine")):
        push = ("config", "push", "doc.json", "61", "--key", "ann.pem", "--broker", url(w), "--wait", "20")
        done = await desk.run(*push)
        first, *rest = done.out.splitlines()
        assert first == "published: config for booth/v1/61/_all, revision 1, epoch 1: reporting"
        assert sorted(rest) == ["61-0007  applied", "61-0008  applied"]
        seen = w.observer.retained["booth/v1/61/_all/config/desired"]
        assert (seen.qos, seen.expiry_s) == (1, None)
        envelope = open_envelope(seen.payload)
        assert [id_ for id_, _ in envelope.signatures] == [desk.id("ann")]
        assert read_document(envelope.payload).doc == {"reporting": {"heartbeat_s": 600}}

        again = await desk.run(*push, "--key", "bob.pem", "--json")
        assert again.json == {
            "topic": "booth/v1/61/_all/config/desired", "rev": 2, "epoch": 1,
            "booths": {"61-0007": {"status": "applied", "errors": []}, "61-0008": {"status": "applied", "errors": []}},
        }  # fmt: skip
        assert len(open_envelope(w.observer.retained["booth/v1/61/_all/config/desired"].payload).signatures) == 2
    desk.assert_no_key_was_told()


async def test_what_a_booth_refuses_or_takes_back_is_said_with_its_reason(tmp_path: Path) -> None:
    desk = desk_at(tmp_path)
    refusing = refuses("invalid", "write a number \x1b[2J", "doc.reporting.heartbeat_s")
    async with world(tmp_path) as w, booths(w, b61_0007=applies, b61_0008=refusing, b61_0009=reverts, b70_0001=is_silent):
        push = ("config", "push", "doc.json", "--key", "ann.pem", "--broker", url(w))
        some = await desk.run(*push, "61", "--wait", "20", status=1)
        assert sorted(some.out.splitlines()[1:]) == [
            "61-0007  applied",
            "61-0008  rejected  invalid doc.reporting.heartbeat_s: write a number \\x1b[2J",
            "61-0009  reverted",
        ]
        silent = await desk.run(*push, "70-0001", "--wait", "1", status=3)
        assert silent.out.splitlines()[1:] == ["70-0001  no answer within 1 s"]
        both = await desk.run(*push, "fleet", "--wait", "1", "--json", status=1)
        assert both.json["booths"]["70-0001"] is None
        assert both.json["booths"]["61-0008"]["errors"][0]["code"] == "invalid"


async def test_booths_that_are_away_are_named_and_not_waited_for(tmp_path: Path) -> None:
    desk = desk_at(tmp_path)
    async with world(tmp_path) as w, booths(w, b61_0007=applies):
        say(w, "61-0001", "state", state("lost", services={})).wait_for_publish(20)
        say(w, "72-0001", "state", state("asleep", services={})).wait_for_publish(20)
        push = ("policy", "push", "doc.json", "--key", "ann.pem", "--broker", url(w), "--wait", "20")
        desk.write("doc.json", {})
        done = await desk.run(*push, "61")
        assert done.out.splitlines()[1:] == ["61-0007  applied"]
        assert done.err == "boothctl: not online, so it is read later: 61-0001\n"
        nobody = await desk.run(*push, "72", status=3)
        assert "no booth of this audience is online" in nobody.err
        assert "booth/v1/72/_all/policy/desired" in w.observer.retained


async def test_without_wait_it_is_published_and_that_is_all(tmp_path: Path) -> None:
    desk = desk_at(tmp_path)
    async with world(tmp_path) as w:
        done = await desk.run("config", "push", "doc.json", "61-0007", "--key", "ann.pem", "--broker", url(w))
        assert done.out == "published: config for booth/v1/61/61-0007, revision 1, epoch 1: reporting\n"
        assert "booth/v1/61/61-0007/config/desired" in w.observer.retained


async def test_an_envelope_is_published_as_it_is_and_only_where_it_belongs(tmp_path: Path) -> None:
    desk = desk_at(tmp_path)
    terms = ("--audience", "61", "--rev", "9", "--epoch", "1")
    await desk.run("sign", "config", "doc.json", "--key", "ann.pem", *terms, "-o", "c.dsse")
    async with world(tmp_path) as w, booths(w, b61_0007=applies):
        to = ("--broker", url(w))
        assert "61-0007  applied" in (await desk.run("config", "push", "c.dsse", "61", "--wait", "20", *to)).out
        assert w.observer.retained["booth/v1/61/_all/config/desired"].payload == desk.read("c.dsse").strip()
        wrong = await desk.run("config", "push", "c.dsse", "fleet", *to, status=1)
        assert "it is for booth/v1/61/_all; at booth/v1/_all/_all every booth refuses it" in wrong.err
        kind = await desk.run("policy", "push", "c.dsse", "61", *to, status=1)
        assert "a config document, and no policy" in kind.err
        for extra in (("--key", "bob.pem"), ("--rev", "3")):
            assert "is signed already" in (await desk.run("config", "push", "c.dsse", "61", *extra, *to, status=2)).err
        unsigned = await desk.run("config", "push", "doc.json", "61", *to, status=2)
        assert "doc.json is not signed: give --key" in unsigned.err
        desk.write("doc.json", {"hors": {}})
        invalid = await desk.run("config", "push", "doc.json", "61", "--key", "ann.pem", *to, status=1)
        assert "doc.hors: unknown section" in invalid.err
        assert "booth/v1/_all/_all/config/desired" not in w.observer.retained


async def test_what_lies_there_is_dropped_only_by_name(tmp_path: Path) -> None:
    """A document is its whole layer: one that knows only its own section would take the others away."""
    desk = desk_at(tmp_path)
    before: dict[str, object] = {
        "reporting": {},
        "hours": {},
        "light": {},
        "peripherals": {"scanner": {}, "camera": {}, "board": {}},
    }
    topic = "booth/v1/61/61-0007/config/desired"
    async with world(tmp_path) as w:
        w.observer.publish(topic, Operator().sign("config", before, 6), retain=True)
        desk.write("doc.json", {"reporting": {}, "heal": {}, "peripherals": {"board": {}}})
        push = ("config", "push", "doc.json", "61-0007", "--key", "ann.pem", "--broker", url(w))
        bare = await desk.run(*push, status=1)
        *dropped, what_to_do = bare.err.splitlines()
        assert (bare.out, dropped) == ("", [
            "boothctl: doc.json lacks hours, which revision 6 for booth/v1/61/61-0007 has",
            "boothctl: doc.json lacks light, which revision 6 for booth/v1/61/61-0007 has",
            "boothctl: doc.json lacks peripherals.scanner, which revision 6 for booth/v1/61/61-0007 has",
            "boothctl: doc.json lacks peripherals.camera, which revision 6 for booth/v1/61/61-0007 has",
        ])  # fmt: skip
        assert "begin with what boothctl config get booth/v1/61/61-0007 prints, or say --drop NAME" in what_to_do
        some = await desk.run(*push, "--drop", "hours", "--drop", "peripherals.scanner", "--wait", "1", status=1)
        assert [line.split()[3] for line in some.err.splitlines()[:-1]] == ["light,", "peripherals.camera,"]
        assert read_document(open_envelope(w.observer.retained[topic].payload).payload).rev == 6, "nothing was published"

        named = await desk.run(*push, "--drop", "hours", "--drop", "light", "--drop", "peripherals")
        assert named.out.startswith("published: config for booth/v1/61/61-0007, revision 7, epoch 1")
        await desk.run(*push)
        desk.write("doc.json", {})
        await desk.run(*push, "--drop-all")
        await w.until(lambda: read_document(open_envelope(w.observer.retained[topic].payload).payload).doc == {}, "emptied")


async def test_an_envelope_is_compared_like_a_doc(tmp_path: Path) -> None:
    desk = desk_at(tmp_path)
    async with world(tmp_path) as w:
        before = Operator().sign("config", {"hours": {}}, 6, "booth/v1/61/_all")
        w.observer.publish("booth/v1/61/_all/config/desired", before, retain=True)
        desk.write("c.dsse", Operator().sign("config", {}, 7, "booth/v1/61/_all").decode())
        push = ("config", "push", "c.dsse", "61", "--broker", url(w))
        assert "c.dsse lacks hours" in (await desk.run(*push, status=1)).err
        await desk.run(*push, "--drop", "hours")


async def test_what_other_layers_and_kinds_have_is_not_dropped(tmp_path: Path) -> None:
    desk = desk_at(tmp_path)
    async with world(tmp_path) as w:
        for place in ("_all/_all", "61/61-0007"):
            message = Operator().sign("config", {"hours": {}}, 6, f"booth/v1/{place}")
            w.observer.publish(f"booth/v1/{place}/config/desired", message, retain=True)
        w.observer.publish("booth/v1/61/_all/policy/desired", Operator().sign("policy", {}, 6, "booth/v1/61/_all"), retain=True)
        await desk.run("config", "push", "doc.json", "61", "--key", "ann.pem", "--broker", url(w))


@pytest.mark.parametrize(
    "lies", [b"{}", Operator().sign("config", {"reporting": {}}, 6, "booth/v1/70/_all"), Operator().sign("policy", {}, 6)]
)
async def test_what_cannot_be_compared_is_replaced_only_by_name(tmp_path: Path, lies: bytes) -> None:
    desk = desk_at(tmp_path)
    async with world(tmp_path) as w:
        w.observer.publish("booth/v1/61/61-0007/config/desired", lies, retain=True)
        push = ("config", "push", "doc.json", "61-0007", "--key", "ann.pem", "--broker", url(w))
        done = await desk.run(*push, status=1)
        assert done.err.startswith("boothctl: what lies for booth/v1/61/61-0007 cannot be compared: ")
        assert done.err.endswith("boothctl: --drop-all replaces it all the same\n")
        await desk.run(*push, "--drop-all")
        w.observer.problems.clear()  # what lay there kept no contract


async def test_a_report_that_is_only_said_again_is_no_answer(tmp_path: Path) -> None:
    """A booth that reconnects says its old report anew, with what was wrong before."""
    desk = desk_at(tmp_path)
    old = reported("rejected", errors=[{"layer": "booth", "code": "expired", "path": "", "message": "of last week"}])
    async with world(tmp_path) as w:
        say(w, "61-0007", "state", state())
        say(w, "61-0007", "config/reported", old).wait_for_publish(20)
        pushing = asyncio.create_task(
            desk.run("config", "push", "doc.json", "61-0007", "--key", "ann.pem", "--broker", url(w), "--wait", "30")
        )
        await w.until(lambda: "booth/v1/61/61-0007/config/desired" in w.observer.retained, "published")
        say(w, "61-0007", "config/reported", old).wait_for_publish(20)
        say(w, "61-0007", "config/reported", reported(layers=revisions("booth", 1, 1))).wait_for_publish(20)
        assert (await pushing).out.splitlines()[1:] == ["61-0007  applied"]


async def test_a_broker_that_lets_nobody_publish_is_said(tmp_path: Path) -> None:
    desk = desk_at(tmp_path)
    acl = tmp_path / "acl"
    acl.write_text("topic read booth/#\n")
    async with world(tmp_path, broker_extra=f"acl_file {acl}") as w:
        done = await desk.run("config", "push", "doc.json", "61", "--key", "ann.pem", "--broker", url(w), status=1)
        assert done.err == "boothctl: the broker refuses a message at booth/v1/61/_all/config/desired (MQTT reason 0x87)\n"


async def test_no_broker_no_answer(tmp_path: Path) -> None:
    desk = desk_at(tmp_path)
    async with world(tmp_path) as w:
        gone = url(w)
    for more in (("--rev", "1", "--epoch", "1"), ()):
        done = await desk.run(
            "config", "push", "doc.json", "61", "--key", "ann.pem", "--broker", gone, "--wait", "1", *more, status=3
        )
        assert (done.out, "no answer from 127.0.0.1" in done.err) == ("", True)


async def test_the_real_booth_without_a_trust_list_says_untrusted_key(tmp_path: Path) -> None:
    desk = desk_at(tmp_path)
    async with world(tmp_path) as w:
        await w.start_agent()
        desk.write("doc.json", {})
        for kind in ("config", "policy"):
            push = (kind, "push", "doc.json", "61-0007", "--key", "ann.pem", "--broker", url(w), "--wait", "20")
            done = await desk.run(*push, status=1)
            assert done.out.splitlines()[1].startswith("61-0007  rejected  untrusted-key"), done
            shown = await desk.run(kind, "show", "61-0007", "--broker", url(w))
            assert f"61-0007 (61)  {kind} rejected at 20" in shown.out
            assert "ERROR     booth: untrusted-key" in shown.out


async def test_the_real_booth_with_a_trust_list_applies_and_refuses(tmp_path: Path) -> None:
    desk = desk_at(tmp_path)
    desk.keys("root")
    keys = ("--root", "root.pem", "--root-threshold", "1", "--key", "ann.pem:config")
    await desk.run("key", "trust", "new", *keys, "-o", "trust.json")
    async with world(tmp_path) as w:
        await w.start_agent()
        desk.write("doc.json", {"reporting": {"telemetry_s": 600}})
        to = ("--broker", url(w))
        push = ("config", "push", "doc.json", "--key", "ann.pem", "--wait", "30", *to)
        assert "61-0007  applied" in (await desk.run(*push, "61")).out
        origin = await desk.run("config", "origin", "61-0007", "reporting", "--json", *to)
        assert {"path": "reporting.telemetry_s", "value": 600, "from": "area"} in origin.json
        assert {"path": "reporting.alarm_after_s", "value": 1, "from": "local or default"} in origin.json
        assert (await desk.run("config", "diff", "61-0007", "doc.json", *to)).out == "no difference\n"

        desk.write("doc.json", {"reporting": {"telemetry_s": 1}})
        refused = await desk.run(*push, "61", status=1)
        assert "61-0007  rejected  invalid doc.reporting.telemetry_s: write a number from 5 to 86400" in refused.out
        desk.write("doc.json", {"reporting": {"telemetry_s": 300}})
        again = await desk.run(*push, "61")
        assert "revision 3, epoch 1" in again.out, "the refused one has used revision 2"


@pytest.mark.parametrize(
    ("report", "status"),
    [
        (reported("applying", layers=revisions("area", 5, 5)), None),
        (reported("awaiting-confirmation", layers=revisions("area", 5, 5)), None),
        (reported("applied", layers=revisions("area", 5, 5)), "applied"),
        (reported("applied", layers=revisions("area", 4, 4)), None),
        (reported("applied", layers=revisions("booth", 5, 5)), None),
        (reported("applied", layers=revisions("area", 5, 4)), "rejected"),
        (reported("rejected", layers=revisions("area", 5, None)), "rejected"),
        (reported("rejected", layers=revisions("area", 4, 4)), None),
        (reported("rejected", layers=revisions("area", 5, 5)), "applied"),
        (reported("reverted", layers=revisions("area", 5, 4)), "reverted"),
        (reported("stale", layers=revisions("area", 5, 5)), "stale"),
        (reported("drifted", layers=revisions("area", 5, 5)), "drifted"),
    ],
)
def test_what_a_report_says_of_a_revision(report: dict[str, object], status: str | None) -> None:
    assert answer_of("61-0007", report, "area", 5) == (None if status is None else Answer("61-0007", status))


def test_an_error_of_the_layer_is_an_answer_and_one_of_another_is_not() -> None:
    error = {"layer": "area", "code": "rollback", "path": "rev", "message": "older"}
    report = reported("applied", layers=revisions("area", 9, 9), errors=[error])
    assert answer_of("61-0007", report, "area", 5) == Answer("61-0007", "rejected", [error])
    assert answer_of("61-0007", report, "booth", 5) is None


async def test_what_the_operator_of_other_tests_signs_is_pushed_too(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    (tmp_path / "c.dsse").write_bytes(Operator().sign("config", {"reporting": {}}, audience="booth/v1/_all/_all"))
    async with world(tmp_path) as w:
        done = await desk.run("config", "push", "c.dsse", "fleet", "--broker", url(w), "--json")
        assert done.json == {"topic": "booth/v1/_all/_all/config/desired", "rev": 1, "epoch": 1, "booths": {}}
        assert json.loads(w.observer.retained["booth/v1/_all/_all/config/desired"].payload) == desk.json("c.dsse")
