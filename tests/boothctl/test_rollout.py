"""`boothctl update rollout` over simulated booths on a real broker: waves, halts, and what a cut leaves."""

import asyncio
import contextlib
import json
import random
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.boothctl.rollout_desk import Desk as RolloutDesk
from agent.boothctl.rollout_sight import Sight
from agent.boothctl.rollout_state import RolloutState, load, save
from agent.boothctl.terminal import Failed
from agent.contract.documents import Refusal, UpdatePhase, read_document
from agent.contract.envelope import open_envelope
from agent.contract.messages import Incoming, Message
from agent.contract.update import Artifact
from agent.documents.signatures import SigningKey
from agent.documents.trust import signed_by
from agent.privileged.progress import Progress
from agent.privileged.releases import Release
from agent.privileged.update_orders import Wanted
from agent.privileged.update_report import section_of
from agent.rules.waves import Wave
from agent.simulator.fleet import SimulatedFleet
from agent.simulator.fleet_script import Script, many
from agent.updates import kinds
from agent.updates.archive import pack
from tests.boothctl.desk import Desk
from tests.boothctl.program import Done, environment, state, until
from tests.boothctl.stand_in import reported
from tests.documents.operator import Operator, key
from tests.world import BIN, World, world

VERSION = "1.5.0"
LABORATORY = "10-00000"
STATE = "rollout-agent-1.5.0.json"
USUAL = Script()
FORMS = {"catalogue": {"url": "https://updates.example/forms.tar", "size_bytes": 9, "sha256": "f" * 64}}


def section(version: str = VERSION) -> dict[str, Any]:
    artifact = {"url": f"https://updates.example/{version}.tar", "size_bytes": 9, "sha256": "a" * 64}
    return {"version": version, "artifacts": {"amd64": artifact}}


def bundle(folder: Path, architecture: str = "amd64", version: str = "1.5.0", **changes: Any) -> Path:
    """A file as `make bundle` names it, with a manifest and nothing to install."""
    files = folder / f"files-{architecture}-{version}"
    files.mkdir(exist_ok=True)
    manifest = {
        "schema": 1, "name": "booth-agent", "version": version, "architecture": architecture, "python": ["3.11"], "base": 1,
        "wheels": [],
    }  # fmt: skip
    (files / "manifest.json").write_text(json.dumps(manifest | changes))
    file = folder / f"booth-agent-{version}-{architecture}.tar"
    pack(files, file, 0)
    return file


class Scene:
    """A desk, a broker, and booths that all have version 1.0.0."""

    def __init__(self, w: World, desk: Desk, fleet: SimulatedFleet) -> None:
        self.w = w
        self.desk = desk
        self.fleet = fleet

    def command(self, *more: object) -> list[str]:
        usual = (
            "update",
            "rollout",
            "doc.json",
            "--key",
            "ann.pem",
            "--laboratory",
            LABORATORY,
            "--pause-s",
            "0",
            "--every",
            "0",
        )
        return [str(part) for part in (*usual, "--broker", f"mqtt://127.0.0.1:{self.w.broker.port}", *more)]

    async def rollout(self, *more: object, status: int = 0) -> Done:
        return await self.desk.run(*self.command(*more), status=status)

    @contextlib.asynccontextmanager
    async def running(self, *more: object) -> AsyncIterator[asyncio.subprocess.Process]:
        """The same as a process that a test ends."""
        process = await asyncio.create_subprocess_exec(
            str(BIN / "boothctl"), *self.command(*more), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env=environment(self.desk.folder), cwd=self.desk.folder,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    @property
    def state(self) -> dict[str, Any]:
        file = self.desk.folder / STATE
        return json.loads(file.read_bytes()) if file.exists() else {}

    def on(self, version: str = VERSION) -> set[str]:
        return {name for name, booth in self.fleet.booths.items() if booth.version == version}

    def lies(self, place: str) -> dict[str, Any]:
        """The doc that lies for an audience."""
        seen = self.w.observer.retained.get(f"booth/v1/{place}/update/desired")
        return {} if seen is None else read_document(open_envelope(seen.payload).payload).doc

    def pinned(self) -> set[str]:
        """Audiences below the fleet whose document names a version."""
        places = [topic.removeprefix("booth/v1/").removesuffix("/update/desired") for topic in self.w.observer.retained]
        return {place for place in places if place != "_all/_all" and "/update" not in place and "agent" in self.lies(place)}

    def publish(self, place: str, doc: dict[str, Any], rev: int = 3) -> None:
        message = Operator().sign("update", doc, rev, f"booth/v1/{place}")
        self.w.observer.publish(f"booth/v1/{place}/update/desired", message, retain=True)


@contextlib.asynccontextmanager
async def scene(folder: Path, booths: int = 40, script: Script = USUAL, *, checks: bool = True) -> AsyncIterator[Scene]:
    """`checks`: each message is held against the contract, which takes its time."""
    desk = Desk(folder)
    desk.keys("ann")
    desk.write("doc.json", {"agent": section()})
    desk.write("others.json", Operator().trust())  # whose other sections may stay
    async with world(folder) as w:
        w.observer.checks = checks
        fleet = SimulatedFleet(w.broker.port, many(booths, 4), script)
        running = asyncio.create_task(fleet.run())
        try:
            await asyncio.wait_for(fleet.said.wait(), 60)
            yield Scene(w, desk, fleet)
            assert not running.done(), "the fleet ended by itself"
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def lines(done: Done) -> list[str]:
    """Without the time before each."""
    return [line.partition("  ")[2] for line in done.out.splitlines()]


async def test_a_version_reaches_every_booth_of_200_in_waves_and_leaves_one_document(tmp_path: Path) -> None:
    async with scene(tmp_path, 200, Script(pace_s=0.02), checks=False) as s:
        s.publish("_all/_all", {"forms": FORMS})
        s.publish(f"10/{LABORATORY}", {"forms": FORMS}, 7)
        done = await s.rollout("--area", "12", "--trust", "others.json")
        assert s.on() == set(s.fleet.booths)
        assert set(s.fleet.tries.values()) == {1}, "no booth was told twice"
        told = [line for line in lines(done) if ": told " in line]
        assert [line.partition(":")[0] for line in told] == [
            "laboratory",
            "canaries",
            "5 %",
            "area 12",
            "all",
        ]  # 25 % have it by then
        assert told[0] == f"laboratory: told 1 booth ({LABORATORY}), each by a document of its own"
        assert "all: told " in told[-1]
        assert told[-1].endswith("by the fleet's document")
        await until(lambda: s.pinned() == set())
        # What is in force in the end is the fleet's document, and what else lay there still does.
        assert s.lies("_all/_all") == {"forms": FORMS, "agent": section()}
        assert s.lies(f"10/{LABORATORY}") == {"forms": FORMS}
        assert (await s.rollout()).out.endswith("agent 1.5.0 has been rolled out\n")
    s.desk.assert_no_key_was_told()


async def test_what_the_rollout_and_its_booths_say_keeps_the_contract(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        done = await s.rollout("--json")
        said = [json.loads(line) for line in done.out.splitlines()]
        assert {one["event"] for one in said} == {"plan", "wave", "told", "decision", "cleaned"}
        last = [one for one in said if one["event"] == "decision"][-1]
        assert (last["wave"], last["verdict"], last["reason"]) == ("all", "next", "settled")
        assert last["booths"]["done"] + last["earlier"]["done"] == 40
        assert (last["available_before_pct"], last["available_now_pct"], last["compared"]) == (100.0, 100.0, 40)


async def test_a_dry_run_says_the_plan_and_leaves_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        done = await s.rollout("--dry-run")
        assert "agent 1.5.0 for 40 booths in 4 waves; the fleet's document will be revision 1 of epoch 1" in lines(done)[0]
        # 5 and 25 % of 40 booths have it after the waves before.
        assert [line.partition(":")[0] for line in lines(done)[1:3]] == ["wave laboratory", "wave canaries"]
        assert lines(done)[4] == lines(done)[-1]
        assert "wave all: " in lines(done)[-1]
        assert s.on() == set()
        assert not [topic for topic in s.w.observer.retained if topic.endswith("/desired")]
        assert not list(tmp_path.glob("*rollout-*"))


async def test_too_many_failures_halt_it_and_nobody_else_is_told(tmp_path: Path) -> None:
    async with scene(tmp_path, script=Script(shares={"rolls-back": 0.5, "fails": 0.5})) as s:
        s.fleet.script = Script(fates={LABORATORY: "commits"}, shares={"rolls-back": 0.5, "fails": 0.5})
        halted = await s.rollout(status=1)
        assert "canaries: HALT too-few-done: 0 of 3 have it, 3 failed; 3 of 4 tried failed (75.0 %, at most 10 %)" in halted.out
        assert "(rolled-back: unhealthy)" in halted.out or "(failed: selftest-failed)" in halted.out
        assert halted.err.endswith("halted: nobody else is told. Look at the booths; then --go-on, or --withdraw\n")
        assert len(s.fleet.tries) == 4
        again = await s.rollout(status=1)
        assert "halted in wave canaries: too-few-done" in again.err
        assert len(s.fleet.tries) == 4


async def test_after_a_halt_somebody_lets_it_go_on_and_what_led_to_it_does_not_count_again(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        canaries = (await s.rollout("--dry-run", "--json")).out.splitlines()[2]
        some = json.loads(canaries)["some"]
        s.fleet.script = Script(fates=dict.fromkeys(some, "rolls-back"))
        await s.rollout(status=1)
        done = await s.rollout("--go-on")
        assert "goes on by hand; 3 booths do not count any more" in done.err
        assert s.on() == set(s.fleet.booths) - set(some)
        assert s.state["accepted"] == sorted(some)


async def test_a_share_of_failures_halts_a_large_wave_in_its_midst(tmp_path: Path) -> None:
    async with scene(tmp_path, 200, checks=False) as s:
        waves = [json.loads(line) for line in (await s.rollout("--dry-run", "--json")).out.splitlines()[1:]]
        early = [booth for wave in waves[:2] for booth in wave["some"]]
        s.fleet.script = Script(fates=dict.fromkeys(early, "commits"), shares={"rolls-back": 1.0}, pace_s=0.02)
        done = await s.rollout("--first-pct", "20", status=1)
        assert "20 %: HALT too-many-failed: " in done.out
        assert s.state["halted"] == "too-many-failed"
        assert len(s.fleet.tries) == 40


async def test_a_canary_that_vanishes_in_its_opening_hours_halts_it(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        canary = json.loads((await s.rollout("--dry-run", "--json")).out.splitlines()[2])["some"][0]
        s.fleet.script = Script(fates={canary: "vanishes"})
        done = await s.rollout("--halt-on-vanished-s", "0.1", status=1)
        assert f"canaries: HALT canary-vanished: {canary} lost in opening hours" in done.out


async def test_a_booth_that_goes_dark_out_of_hours_is_waited_for_and_no_failure(tmp_path: Path) -> None:
    """The master switch of the shop: the rollout goes on when the booth is back."""
    async with scene(tmp_path) as s:
        canary = json.loads((await s.rollout("--dry-run", "--json")).out.splitlines()[2])["some"][0]
        s.fleet.close(canary)
        s.fleet.script = Script(fates={canary: "vanishes"})
        async with s.running("--halt-on-vanished-s", "0.1", "--json") as process:
            await until(lambda: s.fleet.booths[canary].word == "lost" and len(s.on()) == 3)
            assert process.stdout is not None
            async with asyncio.timeout(30):
                while b'"done": 2, "failed": 0, "silent": 0, "under-way": 0, "away": 1' not in await process.stdout.readline():
                    pass
            assert s.state["at"] == 1
            assert s.state["halted"] is None
            s.fleet.script = Script()
            s.fleet.booths[canary].tried = ()
            s.fleet.wake(canary)
            async with asyncio.timeout(60):
                await process.communicate()
            assert process.returncode == 0
        assert s.on() == set(s.fleet.booths)


async def test_booths_that_are_off_do_not_hold_up_a_large_wave_and_get_it_when_they_are_back(tmp_path: Path) -> None:
    names = list(many(40, 4))
    off = set(names[-6:])
    async with scene(tmp_path, script=Script(asleep=off - {names[-1]}, dark={names[-1]})) as s:
        done = await s.rollout("--wave-patience-s", "1")
        assert s.on() == set(names) - off
        assert "all: goes on after 1 s without the rest, who get it when they are back: " in done.out
        for name in off:
            s.fleet.wake(name)
        await until(lambda: s.on() == set(names))


async def test_services_that_fall_halt_it_though_every_booth_says_committed(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        s.fleet.script = Script(fates={LABORATORY: "commits"}, shares={"breaks": 1.0})
        done = await s.rollout("--halt-on-fallen-s", "0.2", "--pause-s", "2", status=1)
        assert "canaries: HALT availability-fell: 3 of 3 have it" in done.out
        assert "services 100.0 → 70.0 % at 4 booths" in done.out


async def test_a_moment_without_a_service_halts_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path) as s, s.running("--halt-on-fallen-s", "3600") as process:
        await until(lambda: LABORATORY in s.on())
        s.fleet.change(LABORATORY, down=1)
        await until(lambda: len(s.on()) > 10)
        s.fleet.change(LABORATORY, down=0)
        async with asyncio.timeout(60):
            await process.communicate()
        assert process.returncode == 0


async def test_booths_that_refuse_the_document_count_as_failed(tmp_path: Path) -> None:
    async with scene(tmp_path, script=Script(shares={"refuses": 1.0})) as s:
        done = await s.rollout(status=1)
        assert "laboratory: HALT too-few-done: 0 of 1 have it, 1 failed; 1 of 1 tried failed (100.0 %, at most 10 %)" in done.out
        assert done.out.endswith(f"failed: {LABORATORY} (refused: untrusted-key)\n")


async def test_why_booths_do_not_get_further_is_said_with_how_many_they_are(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        some = json.loads((await s.rollout("--dry-run", "--json")).out.splitlines()[2])["some"]
        s.fleet.script = Script(fates=dict.fromkeys(some[:2], "waits"))
        async with s.running() as process:
            assert process.stdout is not None
            async with asyncio.timeout(30):
                while b"waits: 1 of 3 have it, 2 under way (unreachable: 2)" not in await process.stdout.readline():
                    pass
            s.fleet.script = Script()
            for name in some[:2]:
                s.fleet.try_again(name)
            async with asyncio.timeout(60):
                await process.communicate()
            assert process.returncode == 0


async def test_a_file_that_is_not_there_halts_it_though_booths_go_on_trying(tmp_path: Path) -> None:
    async with scene(tmp_path, script=Script(shares={"gets-nothing": 1.0})) as s:
        done = await s.rollout(status=1)
        assert "laboratory: HALT too-few-done: 0 of 1 have it, 1 failed" in done.out
        assert done.out.endswith(f"failed: {LABORATORY} (failed: http-404)\n")


async def test_a_booth_that_got_the_file_in_the_end_has_not_failed(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        canary = json.loads((await s.rollout("--dry-run", "--json")).out.splitlines()[2])["some"][0]
        s.fleet.script = Script(fates={canary: "gets-nothing"})
        async with s.running("--halt-on-tried", "9", "--pause-s", "3") as process:
            assert process.stdout is not None
            async with asyncio.timeout(60):
                while b"canaries: watches for 3 s: 2 of 3 have it, 1 failed" not in await process.stdout.readline():
                    pass
                s.fleet.script = Script()
                s.fleet.try_again(canary)
                while b"canaries: goes on: 3 of 3 have it; 0 of 4 tried failed" not in await process.stdout.readline():
                    pass


async def test_an_old_document_of_the_fleet_that_the_broker_serves_again_stops_it_before_it_begins(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        s.publish("_all/_all", {"forms": FORMS}, 7)
        await until(lambda: all(booth.report["layers"]["fleet"] for booth in s.fleet.booths.values()))
        s.publish("_all/_all", {"forms": FORMS}, 6)
        await until(lambda: s.lies("_all/_all"))
        old = await s.rollout("--trust", "others.json", status=1)
        assert "forms of revision 6, epoch 1, lies at booth/v1/_all/_all and would be signed anew, but booths have " in old.err
        assert s.state == {}
        assert s.fleet.tries == {}
        done = await s.rollout("--trust", "others.json", "--keep-rev", "6")
        assert "stays, and is signed anew: forms of revision 6 at booth/v1/_all/_all\n" in done.err
        assert s.lies("_all/_all") == {"forms": FORMS, "agent": section()}


@pytest.mark.parametrize("seed", range(3))
async def test_killed_at_any_moment_it_goes_on_where_it_was(tmp_path: Path, seed: int) -> None:
    """Each booth is told once, whatever was cut when; and there are no more documents in the end than without a cut."""
    chance = random.Random(seed)
    async with scene(tmp_path, 60, Script(pace_s=0.02), checks=False) as s:
        cuts = 0
        while True:
            async with s.running() as process:
                try:
                    async with asyncio.timeout(chance.uniform(0.5, 2.5)):
                        await process.communicate()
                except TimeoutError:
                    process.send_signal(signal.SIGKILL)
                    cuts += 1
                    continue
            assert process.returncode == 0
            break
        assert cuts > 0
        assert s.on() == set(s.fleet.booths)
        assert set(s.fleet.tries.values()) == {1}
        await until(lambda: s.pinned() == set())
        assert s.lies("_all/_all") == {"agent": section()}


async def test_interrupted_it_says_so_and_goes_on_later(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        async with s.running("--pause-s", "3600") as process:
            await until(lambda: s.state.get("settled_at_s"))
            second = await s.rollout(status=1)
            assert f"another boothctl runs the rollout of {STATE}" in second.err
            process.terminate()
            out, _ = await asyncio.wait_for(process.communicate(), 30)
            assert process.returncode == 1
            assert out.endswith(b"stopped: run the same again to go on\n")
        await s.rollout()
        assert s.on() == set(s.fleet.booths)


async def test_what_a_broker_lost_is_published_again(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        async with s.running("--pause-s", "3600") as process:
            await until(lambda: s.state.get("settled_at_s"))
            await s.w.broker.kill()
            s.w.observer.retained.clear()
            await s.w.broker.start()
            await until(lambda: "agent" in s.lies(f"10/{LABORATORY}"), 60)
            assert process.returncode is None
        assert s.fleet.tries == {LABORATORY: 1}, "nobody else was told, and what it has it does not try again"


async def test_booths_with_a_version_of_their_own_are_left_alone_and_named(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        s.publish("12/12-00002", {"agent": section("1.0.0")})
        s.publish("13/_all", {"agent": section("1.0.0")})
        done = await s.rollout()
        assert "left alone: 1 booth (12-00002), since the document of booth/v1/12/12-00002 names its own version" in done.out
        assert "left alone: 10 booths (13-00003, " in done.out
        kept = {"12-00002"} | {name for name in s.fleet.booths if name.startswith("13-")}
        assert s.on() == set(s.fleet.booths) - kept
        await until(lambda: s.pinned() == {"12/12-00002", "13/_all"})


async def test_booths_with_a_version_of_their_own_come_along_where_that_is_said(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        s.publish("12/12-00002", {"agent": section("1.0.0"), "forms": FORMS})
        s.publish("13/_all", {"agent": section("1.0.0")})
        await s.rollout("--also-pinned", "--trust", "others.json")
        assert s.on() == set(s.fleet.booths)
        await until(lambda: s.pinned() == set())
        assert s.lies("12/12-00002") == {"forms": FORMS}


async def test_a_failure_counts_also_where_an_area_has_a_document_that_will_be_overwritten(tmp_path: Path) -> None:
    async with scene(tmp_path, script=Script(fates={LABORATORY: "rolls-back"})) as s:
        s.publish("10/_all", {"agent": section("1.0.0")}, 99)
        done = await s.rollout("--also-pinned", status=1)
        assert "laboratory: HALT too-few-done: 0 of 1 have it, 1 failed" in done.out


async def test_killed_while_it_tidies_up_it_only_tidies_up(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        await s.rollout()
        s.desk.write(STATE, s.state | {"finished": False, "cleaning": True})
        s.fleet.change(LABORATORY, down=5)
        done = await s.rollout("--halt-on-fallen-s", "0")
        assert lines(done)[-1] == "0 documents of areas and booths name it no more: the fleet's does"
        assert s.state["finished"] is True


async def test_a_booth_whose_document_is_replaced_by_hand_is_left_alone(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        async with s.running("--pause-s", "3600") as process:
            await until(lambda: s.state.get("settled_at_s"))
            s.publish(f"10/{LABORATORY}", {"agent": section("1.0.0")}, 9)
            assert process.stdout is not None
            async with asyncio.timeout(30):
                while f"left alone: {LABORATORY}, since its document was replaced by hand".encode() not in (
                    await process.stdout.readline()
                ):
                    pass
            process.kill()
        again = await s.rollout()
        assert f"left alone: {LABORATORY}, " in again.out
        assert s.lies(f"10/{LABORATORY}") == {"agent": section("1.0.0")}


async def test_withdrawn_it_names_no_version_where_the_booth_has_not_got_it(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        some = json.loads((await s.rollout("--dry-run", "--json")).out.splitlines()[2])["some"]
        s.fleet.script = Script(fates=dict.fromkeys(some, "rolls-back"))
        await s.rollout(status=1)
        done = await s.rollout("--withdraw")
        assert "withdrawn: 3 documents name it no more" in done.err
        await until(lambda: s.pinned() == {f"10/{LABORATORY}"})


async def test_wrong_plans_are_refused_with_every_problem(tmp_path: Path) -> None:
    async with scene(tmp_path, 10) as s:
        (tmp_path / "plan.toml").write_text('[waves]\ncanaries = 0\nmoon = 1\n[limits]\nfailed_pct = "many"\n')
        wrong = await s.rollout("--plan", "plan.toml", status=2)
        assert [line.split(":")[2].strip() for line in wrong.err.splitlines()] == ["moon", "canaries", "failed_pct"]
        (tmp_path / "plan.toml").write_text("[waves\n")
        assert "plan.toml: " in (await s.rollout("--plan", "plan.toml", status=1)).err
        unknown = await s.rollout("--laboratory", "99-00001", "--area", "99", status=1)
        assert "99-00001: not on this broker" in unknown.err
        assert "area 99: not on this broker" in unknown.err
        s.desk.write("doc.json", {"agent": {"version": "x"}, "forms": FORMS})
        assert "has agent, forms: name one with --section" in (await s.rollout(status=2)).err
        bad = await s.rollout("--section", "agent", status=1)
        assert "doc.agent.version: write a version such as 1.4.0" in bad.err
        assert "doc.agent.artifacts: missing" in bad.err
        assert not [topic for topic in s.w.observer.retained if topic.endswith("/desired")]


async def test_a_plan_in_a_file_is_what_its_options_say(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        (tmp_path / "plan.toml").write_text('[waves]\nlaboratory = ["11-00001"]\ncanaries = 5\n[limits]\npause_s = 3600\n')
        done = await s.desk.run(
            "update", "rollout", "doc.json", "--dry-run", "--plan", "plan.toml", "--canaries", "2",
            "--broker", f"mqtt://127.0.0.1:{s.w.broker.port}",
        )  # fmt: skip
        assert lines(done)[1].startswith("wave laboratory: 1 booth (11-00001)")
        assert lines(done)[2].startswith("wave canaries: 2 booths")


async def test_no_broker_and_no_booth_are_no_answer(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.keys("ann")
    desk.write("doc.json", {"agent": section()})
    desk.write("others.json", Operator().trust())  # whose other sections may stay
    async with world(tmp_path) as w:
        command = ("update", "rollout", "doc.json", "--key", "ann.pem", "--laboratory", "61-0007", "--wait", "1")
        nobody = await desk.run(*command, "--broker", f"mqtt://127.0.0.1:{w.broker.port}", status=3)
        assert "no booth has said anything on this broker" in nobody.err
        await w.broker.stop()
        assert (
            "no answer from 127.0.0.1"
            in (await desk.run(*command, "--broker", f"mqtt://127.0.0.1:{w.broker.port}", status=3)).err
        )


async def test_the_page_works_from_top_to_bottom(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "rollouts.md"
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL))
    assert script.count("boothctl ") >= 7
    for architecture in ("amd64", "arm64"):
        bundle(tmp_path, architecture)
    async with scene(tmp_path) as s:
        env = environment(tmp_path) | {
            "PATH": f"{BIN}:/usr/bin:/bin", "BOOTHCTL_BROKER": f"mqtt://127.0.0.1:{s.w.broker.port}",
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            "sh", "-eux", "-c", script,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, cwd=tmp_path,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        assert "10-00000  applied  committed 1.5.0\n" in out.decode()
        assert s.on() == set(s.fleet.booths)
        await until(lambda: s.pinned() == set())


async def test_booths_that_were_given_the_version_before_are_freed_from_their_own_documents_as_well(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        s.publish("13/13-00003", {"agent": section()})
        await until(lambda: s.on() == {"13-00003"})
        await s.rollout()
        assert set(s.fleet.tries.values()) == {1}
        await until(lambda: s.pinned() == set())


# --- what it sees ---

AT_S = 1_000.0


def heard(*messages: tuple[str, Any], kind: str = "agent") -> Sight:
    sight = Sight(kind, lambda _hours: True)
    for topic, payload in messages:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        sight.take(Incoming(f"booth/v1/{topic}", data, retained=True), AT_S)
    return sight


@pytest.mark.parametrize(
    ("phase", "at_rest", "wanted"),
    [("committed", True, "has"), ("rolled-back", True, "gave up"), ("failed", False, "gave up"), ("verifying", False, "neither")],
)
def test_root_s_own_report_is_understood(phase: UpdatePhase, at_rest: bool, wanted: str) -> None:
    release = Release(VERSION if phase in ("committed", "verifying") else "1.0.0")
    progress = Progress(phase, VERSION, "a" * 64, "fleet", "b", before="1.0.0", reason=None)
    artifact = Artifact("https://u.example/a.tar", 9, "a" * 64)
    still = None if phase in ("committed", "verifying") else Wanted(kinds()["agent"], VERSION, artifact, None, progress.by)
    section = section_of(release, progress, still, at_rest=at_rest)
    # Forms are under way meanwhile, and the report as a whole is about them.
    forms = {"status": "pending", "version": None, "from": None, "to": "0b", "phase": "downloading", "reason": None}
    said = reported("pending", sections={"agent": section, "forms": forms}) | {"phase": "downloading", "to": "0b", "from": None}
    told = heard(("61/61-0007/update/reported", said)).booths["61-0007"].told
    assert told is not None
    assert ("has" if told.has(VERSION) else "gave up" if told.gave_up(VERSION) else "neither") == wanted
    assert not told.has("1.0.0") or wanted == "neither"
    of_forms = heard(("61/61-0007/update/reported", said), kind="forms").booths["61-0007"].told
    assert of_forms is not None
    assert (of_forms.phase, of_forms.to, of_forms.has("0b")) == ("downloading", "0b", False)


def test_a_version_that_was_taken_back_is_that_which_runs() -> None:
    """Root says `idle` then, and nothing of what had failed."""
    progress = Progress("rolled-back", VERSION, "a" * 64, "fleet:1:1", "b", before="1.0.0", reason="unhealthy")
    agent = section_of(Release("1.0.0", "b" * 64), progress, None, at_rest=True)
    told = heard(("61/61-0007/update/reported", reported(sections={"agent": agent}))).booths["61-0007"].told
    assert told is not None
    assert (told.has("1.0.0"), told.has(VERSION), told.gave_up(VERSION)) == (True, False, False)
    assert told.held_up_by(VERSION) == "has 1.0.0"


def test_the_same_file_told_anew_has_not_failed_yet() -> None:
    artifact = Artifact("https://u.example/a.tar", 9, "a" * 64)
    progress = Progress("failed", VERSION, "a" * 64, "fleet:1:1", "b", before="1.0.0", reason="bad-archive")
    agent = section_of(
        Release("1.0.0", "b" * 64), progress, Wanted(kinds()["agent"], VERSION, artifact, None, "fleet:1:2"), at_rest=False
    )
    told = heard(("61/61-0007/update/reported", reported("pending", sections={"agent": agent}))).booths["61-0007"].told
    assert told is not None
    assert (told.gave_up(VERSION), told.held_up_by(VERSION), told.phase) == (False, None, "downloading")


def test_a_lost_of_another_session_is_stale_and_the_time_of_a_true_one_is_kept() -> None:
    root = "61/61-0007/state"
    sight = heard((root, state("online", session="b")), (root, state("lost", session="a")))
    assert sight.booths["61-0007"].word == "online"
    sight.take(Incoming(f"booth/v1/{root}", json.dumps(state("lost", session="b")).encode(), retained=False), 2_000.0)
    sight.take(Incoming(f"booth/v1/{root}", json.dumps(state("lost", session="b")).encode(), retained=True), 3_000.0)
    assert (sight.booths["61-0007"].word, sight.booths["61-0007"].lost_at_s) == ("lost", 2_000.0)


def test_a_booth_is_in_one_area_and_its_usual_services_are_those_of_its_opening_hours() -> None:
    here, former = ("61/61-0007/state", state()), ("70/61-0007/state", state("lost"))
    for sight in (heard(here, former), heard(former, here)):
        assert (sight.booths["61-0007"].area, sight.booths["61-0007"].word) == ("61", "online")
    assert sight.booths["61-0007"].usual == (1, 1)
    sight.open_now = lambda _hours: False
    down = json.dumps(state(services={"print": "down"})).encode()
    sight.take(Incoming("booth/v1/61/61-0007/state", down, retained=False), AT_S)
    assert sight.booths["61-0007"].services == (0, 1)
    assert sight.booths["61-0007"].usual == (1, 1)


@given(
    st.sampled_from(["state", "meta", "update/reported", "update/desired", "trust/desired"]),
    st.binary() | st.just(b"[" * 100_000),
)
def test_no_bytes_at_all_stop_a_rollout(topic: str, payload: bytes) -> None:
    heard((f"61/61-0007/{topic}", payload), (f"_all/_all/{topic}", payload))


def test_nobody_drives_the_revisions_of_others_up() -> None:
    fleet, booth = "booth/v1/_all/_all", "booth/v1/61/61-0007"
    liar = reported(
        layers={"fleet": {"seen_rev": 10**9, "applied_rev": 1}, "area": None, "booth": {"seen_rev": 10**9, "applied_rev": 1}}
    )
    sight = heard(("61/61-0007/update/reported", liar), ("_all/_all/update/desired", Operator().sign("update", {}, 6, fleet)))
    desk = RolloutDesk(sight, section(), [], None)
    assert desk.next_rev(booth) == 10**9 + 1, "it harms itself alone"
    with pytest.raises(Failed, match="Booths have seen 1000000000, and 6 lies there"):
        desk.next_rev(fleet)


async def test_nobodys_section_is_signed_anew_unless_it_was_signed_by_whom_we_name() -> None:
    root, operator = "booth/v1/61/61-0007", Operator()
    for signer, good in (("first", True), ("somebody", False)):
        lies = operator.sign("update", {"forms": {"catalogue": {}}}, 3, root, keys=[key(signer)])
        message = Incoming(f"{root}/update/desired", lies, retained=True)
        sight = Sight("agent", lambda _hours: True, lambda found: signed_by_one(found, key("first")))
        sight.take(message, 0.0)
        published: list[bytes] = []
        desk = RolloutDesk(sight, section(), [key("first")], 1)
        broker = Paper(published)
        if good:
            await desk.publish(broker, {root: 4}, 1.0)  # type: ignore[arg-type]
            assert read_document(open_envelope(published[0]).payload).doc.keys() == {"forms", "agent"}
        else:
            with pytest.raises(Failed, match="would be signed anew by you"):
                await desk.publish(broker, {root: 4}, 1.0)  # type: ignore[arg-type]
            assert not published


async def test_nobody_is_told_where_one_of_the_documents_may_not_be_signed_anew() -> None:
    booth, other = "booth/v1/61/61-0007", "booth/v1/61/61-0008"
    said = reported(layers={"fleet": None, "area": None, "booth": {"seen_rev": 4, "applied_rev": 4}})
    lies = Operator().sign("update", {"forms": {"catalogue": {}}}, 3, booth)
    for keep, good in (((), False), ((2,), False), ((3,), True)):
        sight = Sight("agent", lambda _hours: True, lambda found: signed_by_one(found, key("first")))
        sight.take(Incoming(f"{booth}/update/reported", json.dumps(said).encode(), retained=True), 0.0)
        sight.take(Incoming(f"{booth}/update/desired", lies, retained=True), 0.0)
        published: list[bytes] = []
        desk = RolloutDesk(sight, section(), [key("first")], 1, keep)
        if good:
            await desk.publish(Paper(published), {other: 1, booth: 5}, 1.0)  # type: ignore[arg-type]
            assert [len(read_document(open_envelope(one).payload).doc) for one in published] == [1, 2]
            continue
        with pytest.raises(Failed, match="booths have seen revision 4"):
            await desk.publish(Paper(published), {other: 1, booth: 5}, 1.0)  # type: ignore[arg-type]
        assert not published


class Paper:
    """A connection that takes everything."""

    def __init__(self, published: list[bytes]) -> None:
        self._published = published

    async def publish(self, message: Message, _within_s: float) -> int:
        self._published.append(message.payload)
        return 0


def signed_by_one(message: bytes, by: SigningKey) -> bool:
    try:
        return bool(signed_by(open_envelope(message), {by.id: by.public}, 1))
    except Refusal:
        return False


def test_a_damaged_state_is_said_and_never_begun_anew(tmp_path: Path) -> None:
    file = tmp_path / STATE
    for damaged in (b"", b"{}", b'{"schema":2}', b"\xff"):
        file.write_bytes(damaged)
        with pytest.raises(Failed, match="no state of a rollout"):
            load(file)
    file.unlink()
    assert load(file) is None
    save(file, whole := RolloutState(1, "agent", VERSION, section(), (Wave("all", "fleet", ("61-0007",)),), written={"x": 3}))
    assert load(file) == whole
