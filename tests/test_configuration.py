"""The operator's configuration on a running agent: accepted, refused, taken back, over a real broker."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.documents.shelf import Shelf
from agent.documents.signatures import seal
from agent.documents.trust import PAYLOAD_TYPE
from agent.overlay import SHELF
from agent.simulator.mosquitto import Mosquitto
from tests.documents.operator import Operator
from tests.world import Observer, World, world

BOOTH_TOPIC = "booth/v1/61/61-0007"
PLACES = {"fleet": "booth/v1/_all/_all", "area": "booth/v1/61/_all", "booth": BOOTH_TOPIC}


@pytest.fixture
def operator() -> Operator:
    return Operator()


async def publish(w: World, layer: str, envelope: bytes, kind: str = "config") -> None:
    w.observer.publish(f"{PLACES[layer]}/{kind}/desired", envelope, retain=True)


async def answer(w: World, layer: str, envelope: bytes, kind: str = "config") -> Any:
    """The final `reported` to one document."""
    already = len(w.observer.of(f"{kind}/reported"))
    await publish(w, layer, envelope, kind)
    return await reported(w, already, kind)


async def reported(
    w: World, already: int, kind: str = "config", but: tuple[str, ...] = ("applying", "awaiting-confirmation")
) -> Any:
    def final() -> Any:
        new = [message.json for message in w.observer.of(f"{kind}/reported")[already:]]
        return next((one for one in reversed(new) if one["status"] not in ("applying", "awaiting-confirmation")), None)

    return await w.until(final, f"a final {kind}/reported")


async def on_trial(w: World, already: int) -> None:
    await w.until(lambda: any(m.json["status"] == "awaiting-confirmation" for m in w.observer.of("config/reported")[already:]))


async def test_a_document_changes_what_the_booth_does_and_is_answered(tmp_path: Path, operator: Operator) -> None:
    async with world(tmp_path) as w:
        operator.install(tmp_path)
        await w.start_agent()
        doc = {"reporting": {"telemetry_s": 5}, "hours": {"week": {"mon": ["09:00-12:00"]}}}
        said = await answer(w, "booth", operator.sign("config", doc, rev=4))
        assert (said["status"], said["errors"]) == ("applied", [])
        assert said["layers"] == {"fleet": None, "area": None, "booth": {"seen_rev": 4, "applied_rev": 4}}
        assert said["sections"]["reporting"]["layer"] == "booth"
        assert said["sections"]["reporting"]["value"] == {"heartbeat_s": 3600, "telemetry_s": 5, "alarm_after_s": 1}
        await w.until(lambda: w.observer.of("meta")[-1].json["hours"]["week"] == {"mon": ["09:00-12:00"]})
        await w.until(lambda: w.observer.of("tele/agent"), "telemetry at the new rhythm")
        assert w.observer.of("state")[-1].json["state"] == "online"  # nothing was started anew


async def test_what_stands_at_the_broker_outlives_a_heartbeat_that_becomes_slower(tmp_path: Path, operator: Operator) -> None:
    async with world(tmp_path) as w:
        operator.install(tmp_path)
        w.config.setdefault("reporting", {})["heartbeat_s"] = 5
        await w.start_agent()
        said = await answer(w, "booth", operator.sign("config", {"reporting": {"heartbeat_s": 3600}}, rev=1))
        assert said["status"] == "applied"

        def expiries() -> set[int | None]:
            return {w.observer.of(topic)[-1].expiry_s for topic in ("health/receipt-printer", "service/print", "led")}

        await w.until(lambda: expiries() == {7200}, "the new expiry")


async def test_layers_do_not_mix_inside_a_section(tmp_path: Path, operator: Operator) -> None:
    async with world(tmp_path) as w:
        operator.install(tmp_path)
        await w.start_agent()
        await answer(
            w, "fleet", operator.sign("config", {"reporting": {"telemetry_s": 7, "heartbeat_s": 500}}, audience=PLACES["fleet"])
        )
        said = await answer(w, "area", operator.sign("config", {"reporting": {"telemetry_s": 8}}, audience=PLACES["area"]))
        # The area has the section whole: the fleet's heartbeat is gone; agent.toml's alarm_after_s lies below.
        assert said["sections"]["reporting"]["value"] == {"heartbeat_s": 3600, "telemetry_s": 8, "alarm_after_s": 1}
        assert said["sections"]["reporting"]["layer"] == "area"


async def test_a_peripherals_options_change_while_it_is_watched(tmp_path: Path, operator: Operator) -> None:
    async with world(tmp_path) as w:
        operator.install(tmp_path)
        await w.start_agent()
        doc = {"peripherals": {"board": {"over_temperature_c": 60}, "scanner-of-another-booth": {"scan": False}}}
        said = await answer(w, "booth", operator.sign("config", doc))
        assert said["status"] == "applied"
        assert said["sections"]["peripherals"]["names"]["board"]["value"]["over_temperature_c"] == 60
        assert said["sections"]["peripherals"]["absent"] == ["scanner-of-another-booth"]


async def test_refusals_say_why_and_leave_everything_as_it_was(tmp_path: Path, operator: Operator) -> None:
    async with world(tmp_path) as w:
        operator.install(tmp_path)
        await w.start_agent()
        good = await answer(w, "booth", operator.sign("config", {"reporting": {"telemetry_s": 9}}, rev=5))
        stranger = Operator(first=operator.roots[0])
        flipped = json.loads(operator.sign("config", {}, rev=6))
        flipped["payload"] = flipped["payload"][:-8] + ("B" if flipped["payload"][-8] != "B" else "C") + flipped["payload"][-7:]
        refused = {
            "bad-envelope": b"{}",
            "bad-signature": json.dumps(flipped).encode(),
            "untrusted-key": stranger.sign("config", {}, rev=6),
            "wrong-audience": operator.sign("config", {}, rev=6, audience="booth/v1/61/61-0008"),
            "rollback": operator.sign("config", {}, rev=4),
            "conflict": operator.sign("config", {}, rev=5),
            "expired": operator.sign("config", {}, rev=6, not_after="2026-01-01T00:00:00.000Z"),
            "too-large": operator.sign("config", {"reporting": {"x" * 300_000: 1}}, rev=6),
            "invalid": operator.sign("config", {"reporting": {"telemetry_s": "often"}, "hour": {}}, rev=6),
            "unsupported": operator.sign("config", {}, rev=6, schema=2),
        }
        for code, envelope in refused.items():
            said = await answer(w, "booth", envelope)
            assert (said["status"], {error["code"] for error in said["errors"]}) == ("rejected", {code})
            assert said["effective_sha256"] == good["effective_sha256"]
        said = await answer(w, "booth", operator.sign("config", {"reporting": {"telemetry_s": 10}}, rev=6))
        assert (said["status"], said["errors"]) == ("applied", [])


async def test_every_problem_is_told_at_once(tmp_path: Path, operator: Operator) -> None:
    doc = {
        "reporting": {"telemetry_s": 1, "often": True},
        "peripherals": {"board": {"kind": "board"}, "receipt-printer": {"device": "tcp://x:1", "poll_s": 99}},
        "broker": {"key": "other.key"},
        "colour": {},
    }
    async with world(tmp_path) as w:
        operator.install(tmp_path)
        await w.start_agent()
        said = await answer(w, "booth", operator.sign("config", doc))
        paths = {error["path"] for error in said["errors"]}
        assert {"doc.peripherals.board.kind", "doc.peripherals.receipt-printer.device", "doc.broker.key", "doc.colour"} <= paths


async def test_f19_documents_out_of_order(tmp_path: Path, operator: Operator) -> None:
    async with world(tmp_path) as w:
        operator.install(tmp_path)
        await w.start_agent()
        for rev in (3, 1, 5, 2, 4):
            await publish(w, "booth", operator.sign("config", {"reporting": {"telemetry_s": 10 + rev}}, rev=rev))
        said = await w.until(
            lambda: next(
                (m.json for m in w.observer.of("config/reported") if m.json["errors"] and "4" in m.json["errors"][0]["message"]),
                None,
            )
        )
        assert said["layers"]["booth"] == {"seen_rev": 5, "applied_rev": 5}
        assert said["sections"]["reporting"]["value"]["telemetry_s"] == 15


async def test_a_restart_keeps_what_was_accepted(tmp_path: Path, operator: Operator) -> None:
    async with world(tmp_path) as w:
        operator.install(tmp_path)
        agent = await w.start_agent()
        await answer(w, "booth", operator.sign("config", {"reporting": {"telemetry_s": 11}}, rev=2))
        w.observer.publish(f"{BOOTH_TOPIC}/config/desired", b"", retain=True)  # takes nothing away
        await agent.stop()
        already = len(w.observer.of("config/reported"))
        await w.start_agent()
        said = await reported(w, already)
        assert said["sections"]["reporting"]["value"]["telemetry_s"] == 11
        assert said["layers"]["booth"]["applied_rev"] == 2


async def test_f40_a_broker_that_is_not_there_is_taken_back(tmp_path: Path, operator: Operator) -> None:
    async with world(tmp_path) as w:
        operator.install(tmp_path)
        await w.start_agent()
        envelope = operator.sign("config", {"broker": {"url": "mqtt://127.0.0.1:9"}}, confirm_s=10)
        already = len(w.observer.of("config/reported"))
        await publish(w, "booth", envelope)
        await w.until(
            lambda: any(m.json["status"] == "awaiting-confirmation" for m in w.observer.of("config/reported")[already:])
        )
        said = await reported(w, already)
        assert said["status"] == "reverted"
        assert said["layers"]["booth"] == {"seen_rev": 1, "applied_rev": None}
        assert said["sections"]["broker"]["value"]["url"] == f"mqtt://127.0.0.1:{w.broker.port}"
        said = await answer(w, "booth", envelope)  # it is not tried again
        assert said["status"] == "reverted"


async def test_another_broker_is_gone_to_once_it_was_reached(tmp_path: Path, operator: Operator) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    async with world(tmp_path / "a") as w:
        operator.install(w.folder)
        other = Mosquitto(tmp_path / "b")
        await other.start()
        try:
            await w.start_agent()
            await publish(w, "booth", operator.sign("config", {"broker": {"url": f"mqtt://127.0.0.1:{other.port}"}}))
            await w.until(lambda: w.observer.of("state")[-1].json["state"] == "asleep", "the old broker is told")
            there = Observer(other.port, 3600)
            try:
                await there.until(
                    lambda: (there.last("config/reported") or {}).get("status") == "applied", "applied at the other"
                )
                said = there.last("config/reported")
                assert said["sections"]["broker"]["value"]["url"].endswith(str(other.port))
            finally:
                there.close()
        finally:
            await other.stop()


async def test_f40_a_power_cut_during_the_trial_goes_back_at_the_start(tmp_path: Path, operator: Operator) -> None:
    async with world(tmp_path) as w:
        operator.install(tmp_path)
        agent = await w.start_agent()
        already = len(w.observer.of("config/reported"))
        await publish(w, "booth", operator.sign("config", {"broker": {"url": "mqtt://127.0.0.1:9"}}, confirm_s=600))
        await w.until(
            lambda: any(m.json["status"] == "awaiting-confirmation" for m in w.observer.of("config/reported")[already:])
        )
        await agent.kill()
        already = len(w.observer.of("config/reported"))
        await w.start_agent()
        assert (await reported(w, already))["status"] == "reverted"


async def test_without_a_trust_list_nothing_is_taken(tmp_path: Path, operator: Operator) -> None:
    async with world(tmp_path) as w:
        await w.start_agent()
        said = await answer(w, "booth", operator.sign("config", {}))
        assert (said["status"], said["errors"][0]["code"]) == ("rejected", "untrusted-key")


async def test_f39_a_leaked_keys_huge_revision_ends_with_its_epoch(tmp_path: Path, operator: Operator) -> None:
    thief = Operator(first=operator.first)
    async with world(tmp_path) as w:
        operator.install(tmp_path)
        await w.start_agent()
        said = await answer(w, "booth", thief.sign("config", {"reporting": {"telemetry_s": 86400}}, rev=2**53))
        assert said["status"] == "applied"
        said = await answer(w, "booth", operator.sign("config", {}, rev=7))
        assert said["errors"][0]["code"] == "rollback"
        fresh = Operator(first=operator.second, second=operator.roots[0])
        await replace_trust(w, operator, fresh, version=2, epoch=2)
        # What is retained is judged anew by the new list, which no longer has the key that signed it.
        await w.until(lambda: w.observer.last("config/reported")["errors"][0]["code"] == "untrusted-key", "judged anew")
        said = await answer(w, "booth", thief.sign("config", {}, rev=2**53, keys=[thief.first], epoch=2))
        assert said["errors"][0]["code"] == "untrusted-key"
        said = await answer(w, "booth", fresh.sign("config", {"reporting": {"telemetry_s": 60}}, rev=1, epoch=2))
        assert (said["status"], said["sections"]["reporting"]["value"]["telemetry_s"]) == ("applied", 60)


async def replace_trust(w: World, old: Operator, new: Operator, **over: Any) -> None:
    envelope = seal(PAYLOAD_TYPE, json.dumps(new.trust(**over)).encode(), list(old.roots))
    w.observer.publish(f"{BOOTH_TOPIC}/trust/desired", envelope, retain=True)
    await w.until(lambda: any(m.json["code"] == "trust-replaced" for m in w.observer.of("event/security")), "the new trust list")


async def test_an_agent_toml_that_no_longer_goes_with_the_documents_counts_alone(tmp_path: Path, operator: Operator) -> None:
    async with world(tmp_path) as w:
        operator.install(tmp_path)
        agent = await w.start_agent()
        light = {"light": {"white": "booth:white:status"}, "reporting": {"telemetry_s": 12}}
        assert (await answer(w, "booth", operator.sign("config", light)))["status"] == "applied"
        await agent.stop()
        w.observer.publish(f"{BOOTH_TOPIC}/config/desired", b"", retain=True)
        w.config["light"] = {"gpio": True}
        already = len(w.observer.of("config/reported"))
        agent = await w.start_agent()
        said = await reported(w, already)
        assert said["sections"]["reporting"]["value"]["telemetry_s"] == 900
        assert "counts alone" in agent.stderr()


async def test_an_agent_that_is_started_twice_takes_no_trial_back(tmp_path: Path, operator: Operator) -> None:
    async with world(tmp_path) as w:
        operator.install(tmp_path)
        await w.start_agent()
        already = len(w.observer.of("config/reported"))
        await publish(w, "booth", operator.sign("config", {"broker": {"url": "mqtt://127.0.0.1:9"}}, confirm_s=600))
        await on_trial(w, already)
        second = await w.start_agent(online=False)
        assert await second.process.wait() == 1
        assert Shelf(w.state_dir / SHELF).state.trying == "booth"
