"""`boothctl update show | get | push | publish`: the versions of booths, as an operator sees and publishes them."""

import hashlib
from pathlib import Path
from typing import Any

from agent.boothctl.following import answer_of
from agent.contract.documents import read_document
from agent.contract.envelope import open_envelope
from agent.simulator.fleet_script import Script
from tests.boothctl.desk import Desk
from tests.boothctl.program import WHEN, say, until
from tests.boothctl.stand_in import reported, revisions
from tests.boothctl.test_rollout import FORMS, LABORATORY, bundle, scene, section
from tests.documents.operator import Operator
from tests.world import World, world


def url(w: World) -> str:
    return f"mqtt://127.0.0.1:{w.broker.port}"


def lying(w: World, place: str) -> Any:
    return read_document(open_envelope(w.observer.retained[f"booth/v1/{place}/update/desired"].payload).payload)


async def test_a_release_is_published_and_followed_to_its_end_at_each_booth(tmp_path: Path) -> None:
    script = Script(fates={"10-00004": "rolls-back", "10-00008": "fails", "10-00012": "refuses"}, asleep=["10-00016"])
    async with scene(tmp_path, script=script) as s:
        files = [bundle(tmp_path, architecture) for architecture in ("amd64", "arm64")]
        publish = ("update", "publish", *files, "10", "--url", "https://updates.example/agent/", "--window", "idle")
        done = await s.desk.run(*publish, "--key", "ann.pem", "--broker", url(s.w), "--wait", "30", status=1)
        first, *rest = done.out.splitlines()
        assert first == "published: update for booth/v1/10/_all, revision 1, epoch 1: agent"
        assert len(rest) == 9
        assert f"{LABORATORY}  applied  committed 1.5.0" in rest
        assert "10-00004  reverted  rolled-back 1.5.0 unhealthy" in rest
        assert "10-00008  reverted  failed 1.5.0 selftest-failed" in rest
        assert "10-00012  rejected  untrusted-key: signed by nobody it knows" in rest
        assert "not online, so it is read later: 10-00016" in done.err
        artifacts = lying(s.w, "10/_all").doc["agent"]["artifacts"]
        assert artifacts["arm64"] == {
            "url": "https://updates.example/agent/booth-agent-1.5.0-arm64.tar", "size_bytes": files[1].stat().st_size,
            "sha256": hashlib.sha256(files[1].read_bytes()).hexdigest(),
        }  # fmt: skip


async def test_what_else_lies_there_stays(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.keys("ann")
    async with world(tmp_path) as w:
        w.observer.publish(
            "booth/v1/_all/_all/update/desired",
            Operator().sign("update", {"forms": FORMS}, 6, "booth/v1/_all/_all", keys=[desk.key("ann")]),
            retain=True,
        )
        publish = ("update", "publish", bundle(tmp_path), "fleet", "--url", "https://u.example", "--key", "ann.pem", "--json")
        done = await desk.run(*publish, "--broker", url(w))
        assert done.json == {"topic": "booth/v1/_all/_all/update/desired", "rev": 7, "epoch": 1, "booths": {}}
        assert lying(w, "_all/_all").doc["forms"] == FORMS
        got = await desk.run("update", "get", "fleet", "--broker", url(w))
        assert got.json.keys() == {"forms", "agent"}
        desk.write("agent.json", {"agent": section()})
        dropped = await desk.run("update", "push", "agent.json", "fleet", "--key", "ann.pem", "--broker", url(w), status=1)
        assert "agent.json lacks forms, which revision 7 for booth/v1/_all/_all has" in dropped.err
    desk.assert_no_key_was_told()


async def test_an_old_document_that_a_broker_serves_again_is_not_signed_anew(tmp_path: Path) -> None:
    """Its signature is good for ever. Signed anew, its sections would be the newest that booths know."""
    desk = Desk(tmp_path)
    desk.keys("ann")
    place, topic = "booth/v1/_all/_all", "booth/v1/_all/_all/update/desired"
    async with world(tmp_path) as w:

        def lay(rev: int, epoch: int = 1) -> None:
            message = Operator().sign("update", {"forms": FORMS}, rev, place, keys=[desk.key("ann")], epoch=epoch)
            w.observer.publish(topic, message, retain=True)

        publish = ("update", "publish", bundle(tmp_path), "fleet", "--url", "https://u.example", "--broker", url(w))
        signed = (*publish, "--key", "ann.pem")
        say(w, "61-0007", "update/reported", reported(layers=revisions("fleet", 7, 7))).wait_for_publish(20)
        lay(6)
        old = await desk.run(*signed, status=1)
        what, what_to_do = old.err.splitlines()
        assert what.startswith(f"boothctl: forms of revision 6, epoch 1, lies at {place} and would be signed anew, ")
        assert what.endswith("but booths have seen revision 7: it is an old document that the broker has gone back to")
        assert "--keep-rev 6 says so; else publish by hand what you want there, with boothctl update push" in what_to_do
        lay(7)
        assert "epoch 2 has begun" in (await desk.run(*signed, "--epoch", "2", status=1)).err, "whatever its revision says"
        assert lying(w, "_all/_all").doc == {"forms": FORMS}, "nothing was published"
        lay(6)
        assert "--keep-rev 6" in (await desk.run(*signed, "--keep-rev", "5", status=1)).err
        named = await desk.run(*signed, "--keep-rev", "6")
        assert "stays, and is signed anew: forms of revision 6, epoch 1, of 20" in named.err
        assert (lying(w, "_all/_all").rev, lying(w, "_all/_all").doc["forms"]) == (8, FORMS)

        lay(6)
        desk.write("forms.json", (await desk.run("update", "get", "fleet", "--broker", url(w))).json)
        await desk.run("update", "push", "forms.json", "fleet", "--key", "ann.pem", "--broker", url(w))
        await desk.run(*signed)
        assert (lying(w, "_all/_all").rev, lying(w, "_all/_all").doc.keys()) == (9, {"forms", "agent"})


async def test_keys_stay_off_the_network_where_a_file_goes_there_and_back(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.keys("ann", "bob")
    async with world(tmp_path) as w:
        publish = ("update", "publish", bundle(tmp_path), "fleet", "--url", "https://u.example", "--broker", url(w))
        await desk.run(*publish, "-o", "doc.json")
        assert desk.json("doc.json").keys() == {"agent"}
        said = await desk.run(*publish, "--statement", "-o", "statement.json")
        assert "to be signed: update for booth/v1/_all/_all, revision 1, epoch 1: agent" in said.out
        assert "booth/v1/_all/_all/update/desired" not in w.observer.retained
        for wrong in ((), ("--statement", "--key", "ann.pem"), ("--key", "ann.pem", "-o", "x.json")):
            await desk.run(*publish, *wrong, status=2)
        # Elsewhere, without a network, by two people.
        await desk.run("sign", "update", "statement.json", "--statement", "--key", "ann.pem", "-o", "u.dsse")
        await desk.run("sign", "--add", "u.dsse", "--key", "bob.pem", "-o", "u.dsse")
        await desk.run("update", "push", "u.dsse", "fleet", "--broker", url(w))
        assert lying(w, "_all/_all").doc == desk.json("doc.json")


async def test_bundles_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.keys("ann")
    desk.write("note.tar", "no archive")
    rest = ("fleet", "--url", "https://u.example", "--key", "ann.pem", "--broker", "mqtt://127.0.0.1:1")
    one = bundle(tmp_path)

    async def refused(*files: object) -> str:
        return (await desk.run("update", "publish", *files, *rest, status=1)).err

    assert "these bundles are of 1.5.0, 1.6.0" in await refused(one, bundle(tmp_path, "arm64", "1.6.0"))
    assert "there is a bundle for amd64 already" in await refused(one, one)
    assert "note.tar: no bundle: there is no manifest.json in it" in await refused("note.tar")
    assert "manifest.json: base: write" in await refused(bundle(tmp_path, version="1.7.0", base=0))
    assert "away.tar: No such file" in await refused("away.tar")


async def test_a_document_is_judged_by_the_kinds_of_update_that_there_are(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.keys("ann")
    wrong = {"agent": {"version": "1.0", "artifacts": {}, "window": "noon"}, "forms": {}, "moon": {}}
    desk.write("doc.json", wrong)
    sign = ("sign", "update", "doc.json", "--key", "ann.pem", "--audience", "fleet", "--rev", "1", "--epoch", "1")
    done = await desk.run(*sign, "-o", "u.dsse", status=1)
    paths = [line.split(": ")[3] for line in done.err.splitlines()]
    assert sorted(paths) == ["doc.agent.artifacts", "doc.agent.window", "doc.forms.catalogue", "doc.moon"]


async def test_how_far_a_booth_is_in_words(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    report = reported(
        "pending", layers=revisions("fleet", 7, 7), at=WHEN,
        sections={
            "agent": {
                "status": "pending", "version": "1.4.0", "from": "1.4.0", "to": "1.5.0", "phase": "downloading", "reason": None,
            },
            "forms": {
                "status": "reverted", "version": "0a", "from": "0a", "to": "0b", "phase": "failed", "reason": "bad-archive",
            },
        },
    ) | {"from": "1.4.0", "to": "1.5.0", "phase": "downloading", "attempt": 2, "pct": 40, "reason": None}  # fmt: skip
    doc = {"agent": section() | {"window": "idle"}, "forms": FORMS}
    async with world(tmp_path) as w:
        message = Operator().sign("update", doc, 7, "booth/v1/_all/_all")
        w.observer.publish("booth/v1/_all/_all/update/desired", message, retain=True)
        say(w, "61-0007", "update/reported", report).wait_for_publish(20)
        page = await desk.run("update", "show", "61-0007", "--broker", url(w))
        assert [line.split() for line in page.out.splitlines()[-3:]] == [
            ["SECTION", "STATUS", "LAYER", "PHASE", "IN", "USE", "FROM", "TO", "ATTEMPT", "PCT", "REASON"],
            ["agent", "pending", "fleet", "downloading", "1.4.0", "1.4.0", "1.5.0", "2", "40", "–"],
            ["forms", "reverted", "fleet", "failed", "0a", "0a", "0b", "–", "–", "bad-archive"],
        ]
        assert (await desk.run("update", "show", "61-0007", "--json", "--broker", url(w))).json == report
        origin = await desk.run("update", "origin", "61-0007", "agent", "--broker", url(w))
        assert ["agent.window", '"idle"', "fleet"] in [line.split() for line in origin.out.splitlines()]
        desk.write("doc.json", doc | {"agent": section("1.6.0") | {"window": "idle"}})
        diff = await desk.run("update", "diff", "61-0007", "doc.json", "--audience", "fleet", "--broker", url(w))
        assert ["~", "agent.version", '"1.5.0"', "→", '"1.6.0"'] in [line.split() for line in diff.out.splitlines()]


def test_an_update_is_answered_when_it_is_at_rest() -> None:
    def answer(status: str, **more: Any) -> str | None:
        said = reported(status, layers=revisions("fleet", 7, 7)) | {"phase": "idle", "to": "1.5.0", "reason": None} | more
        said |= {"errors": [{"layer": "booth", "code": "invalid", "path": "", "message": "of another layer"}]}
        found = answer_of("61-0007", said, "fleet", 7)
        return None if found is None else f"{found.status} {found.outcome}"

    assert answer("pending", phase="downloading") is None
    assert answer("applying", phase="verifying") is None
    assert answer("rejected", phase="downloading") is None
    assert answer("rejected", phase="committed") == "applied committed 1.5.0"
    assert answer("applied", phase="committed") == "applied committed 1.5.0"
    assert answer("reverted", phase="rolled-back", reason="unhealthy") == "reverted rolled-back 1.5.0 unhealthy"
    assert answer("applied", to=None, **{"from": "1.5.0"}) == "applied idle 1.5.0"


def test_the_answer_is_that_of_the_section_that_was_published() -> None:
    def answer(agent: dict[str, Any], version: str = "1.5.0", **more: str) -> str | None:
        at_rest = {"status": "applied", "version": "1.4.0", "from": "1.4.0", "to": None, "phase": "idle", "reason": None}
        forms = {"status": "pending", "version": "0a", "from": "0a", "to": "0b", "phase": "downloading", "reason": None}
        said = {"agent": at_rest | agent, "forms": forms}
        report = reported("pending", layers=revisions("fleet", 7, 7), sections=said) | {"phase": "downloading", "to": "0b"}
        found = answer_of("61-0007", report, "fleet", 7, {"agent": version} | more)
        return None if found is None else f"{found.status} {found.outcome}"

    # The forms are still under way, and say nothing of the agent.
    assert answer({"version": "1.5.0", "to": "1.5.0", "phase": "committed"}) == "applied committed 1.5.0"
    assert answer({"version": "1.5.0", "to": "1.5.0", "phase": "committed"}, forms="0b") is None
    # The operator has taken a version back, and the one that is wanted runs.
    assert answer({"version": "1.5.0", "from": "1.5.0"}) == "applied idle 1.5.0"
    assert answer({}, "1.4.0") == "applied idle 1.4.0"
    # A document of its own keeps it at another one, or somebody has installed a newer one by hand.
    assert answer({}) == "overruled idle 1.4.0"
    assert answer({"status": "drifted", "version": "1.6.0"}) == "drifted idle 1.6.0"
    # Somebody has to mend what it fetches, and it tries again meanwhile.
    failed = {"to": "1.5.0", "phase": "failed", "reason": "http-404"}
    assert answer(failed | {"status": "pending"}) == "pending failed 1.5.0 http-404"
    assert answer(failed | {"status": "reverted"}) == "reverted failed 1.5.0 http-404"
    assert answer({"status": "pending", "to": "1.5.0", "phase": "downloading", "reason": "http-503"}) is None
    assert answer({"status": "applying", "to": "1.5.0", "phase": "verifying", "version": "1.5.0"}) is None


async def test_booths_that_get_no_file_are_said_with_the_reason_and_a_pin_of_its_own_is_no_success(tmp_path: Path) -> None:
    async with scene(tmp_path, script=Script(fates={"10-00004": "gets-nothing"})) as s:
        s.publish("10/10-00008", {"agent": section("0.9.0")})
        await until(lambda: s.on("0.9.0") == {"10-00008"})
        publish = ("update", "publish", bundle(tmp_path), "10", "--url", "https://updates.example/agent/")
        done = await s.desk.run(*publish, "--key", "ann.pem", "--broker", url(s.w), "--wait", "30", status=1)
        assert "10-00004  pending  failed 1.5.0 http-404" in done.out.splitlines()
        assert "10-00008  overruled  committed 0.9.0" in done.out.splitlines()
        assert f"{LABORATORY}  applied  committed 1.5.0" in done.out.splitlines()
