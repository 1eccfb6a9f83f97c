"""The command `diagnostics` over a real broker: a bundle that arrives whole, behind everything else, or fails clearly."""

import json
from pathlib import Path

import pytest

from agent.contract.command import CommandStatus
from agent.contract.decode import encode
from agent.contract.typed import plain
from agent.rules.bundle import CHUNK_BYTES, NotWhole, unpacked
from agent.simulator.machine import SimulatedMachine
from tests.commands.technician import command, ended, send, signed_command, states
from tests.diagnostics.large import assembly_of, bytes_of, large
from tests.documents.operator import Operator
from tests.faults.proxy import ChaosProxy
from tests.world import ROOT, World, agent_inside, world

OPERATOR = Operator()
DONE = ["received", "accepted", "executing", "succeeded"]


def chunks(w: World, id_: str) -> list[str]:
    """The numbers of the pieces that came, in order."""
    prefix = f"{ROOT}/cmd/diagnostics/{id_}/chunk/"
    return [message.topic.removeprefix(prefix) for message in w.observer.messages if message.topic.startswith(prefix)]


async def test_a_bundle_comes_whole_beside_the_status(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.start_agent()
        w.printer.change(paper="out")
        await w.until(lambda: "media-empty" in w.observer.codes("receipt-printer"), "something is wrong")
        id_ = send(w, "diagnostics", by="tech-7")
        status = await ended(w, "diagnostics", id_)
        assert states(w, "diagnostics", id_) == DONE
        result = status["result"]
        assert result.keys() == {"chunks", "bytes", "sha256", "format"}
        found = unpacked(assembly_of(w.observer, id_).bundle(result))
        assert (found["booth"], found["state"]["state"]) == ("61-0007", "online")
        assert [item["code"] for item in found["peripherals"]["receipt-printer"]["findings"]] == ["media-empty"]
        assert found["figures"]["rss_bytes"] > 0
        assert {item["verb"] for item in found["commands"]} == {"diagnostics"}
        assert "tech-7" not in json.dumps(found)
        sent = [message for message in w.observer.messages if "/chunk/" in message.topic]
        assert {(message.qos, message.retain) for message in sent} == {(1, False)}


async def test_the_size_that_was_asked_for_is_kept_and_another_one_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.start_agent()
        status = await command(w, "diagnostics", args={"max_bytes": 4096})
        assert status["state"] == "succeeded"
        assert status["result"]["bytes"] <= 4096
        for size in (100, 5 * 1024 * 1024, "many"):
            assert (await command(w, "diagnostics", args={"max_bytes": size}))["reason"] == "bad-args"


async def test_one_at_a_time_and_one_that_is_cancelled_sends_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.system.collecting.collected", large(100 * CHUNK_BYTES))
    async with world(tmp_path) as w, ChaosProxy(w.broker.port, bytes_per_s=64_000) as proxy:
        OPERATOR.install(tmp_path)
        w.config["broker"] = {"url": proxy.url}
        async with agent_inside(w, SimulatedMachine(tmp_path / "machine")):
            await w.until(lambda: w.observer.last("led") == "ok", "online")
            id_ = send(w, "diagnostics")
            await w.until(lambda: len(chunks(w, id_)) >= 3, "some pieces")
            second = await command(w, "diagnostics")
            assert (second["state"], second["reason"]) == ("failed", "busy")
            assert (await signed_command(w, OPERATOR, "cancel", args={"id": id_}))["state"] == "succeeded"
            assert (await ended(w, "diagnostics", id_))["state"] == "cancelled"
            sent = len(chunks(w, id_))
            third = await command(w, "probe", args={"peripheral": "board"})
            assert third["state"] == "succeeded"
            assert len(chunks(w, id_)) <= sent + 1, "the one that was under way"
            with pytest.raises(NotWhole, match="pieces did not come"):
                assembly_of(w.observer, id_).bundle({"chunks": 100, "bytes": 100 * CHUNK_BYTES, "sha256": "0" * 64})


async def test_progress_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.system.collecting.collected", large(20 * CHUNK_BYTES))
    async with world(tmp_path) as w, ChaosProxy(w.broker.port, bytes_per_s=64_000) as proxy:
        w.config["broker"] = {"url": proxy.url}
        async with agent_inside(w, SimulatedMachine(tmp_path / "machine")):
            await w.until(lambda: w.observer.last("led") == "ok", "online")
            status = await command(w, "diagnostics")
            said = [message.json for message in w.observer.of(f"cmd/diagnostics/{status['id']}/status")]
            steps = [(item["step"], item["pct"]) for item in said if item["step"]]
            assert steps[0][0] in ("collecting", "sending")
            shares = [pct for step, pct in steps if step == "sending"]
            assert len(shares) >= 3
            assert shares == sorted(shares)


async def test_a_lost_connection_goes_on_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 40 * CHUNK_BYTES + 77
    monkeypatch.setattr("agent.system.collecting.collected", large(size))
    async with world(tmp_path) as w, ChaosProxy(w.broker.port, bytes_per_s=128_000) as proxy:
        w.config["broker"] = {"url": proxy.url}
        async with agent_inside(w, SimulatedMachine(tmp_path / "machine")):
            await w.until(lambda: w.observer.last("led") == "ok", "online")
            id_ = send(w, "diagnostics")
            for pieces in (5, 20):
                await w.until(lambda pieces=pieces: len(chunks(w, id_)) >= pieces, "some pieces")  # type: ignore[misc]
                proxy.hang_up()
            status = await ended(w, "diagnostics", id_)
            assert status["state"] == "succeeded"
            assert assembly_of(w.observer, id_).bundle(status["result"]) == bytes_of(size)


async def test_a_broker_that_refuses_the_pieces_is_told_what_it_must_allow(tmp_path: Path) -> None:
    rules = tmp_path / "acl"
    rules.write_text(
        f"topic read booth/v1/#\ntopic write {ROOT}/cmd/+/req\ntopic readwrite {ROOT}/echo\ntopic write {ROOT}/cmd/+/+/status\n"
        + "".join(f"topic write {ROOT}/{name}\n" for name in ("state", "meta", "led", "+/reported", "tele/+", "event/+"))
        + "".join(f"topic write {ROOT}/{name}\n" for name in ("health/+", "service/+", "alarm/+/+"))
    )
    async with world(tmp_path, broker_extra=f"acl_file {rules}\n") as w:
        await w.start_agent()
        status = await command(w, "diagnostics")
        assert status["state"] == "failed"
        assert "cmd/diagnostics/+/chunk/+" in status["result"]["message"]
        assert (await command(w, "locate"))["state"] == "succeeded"
        assert w.observer.codes("booth") == []


async def test_another_broker_in_the_middle_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.system.collecting.collected", large(40 * CHUNK_BYTES))
    async with world(tmp_path) as w, ChaosProxy(w.broker.port, bytes_per_s=64_000) as proxy, ChaosProxy(w.broker.port) as other:
        w.config["broker"] = {"url": proxy.url}
        async with agent_inside(w, SimulatedMachine(tmp_path / "machine")) as agent:
            await w.until(lambda: w.observer.last("led") == "ok", "online")
            id_ = send(w, "diagnostics")
            await w.until(lambda: len(chunks(w, id_)) >= 3, "some pieces")
            assert await agent._live.reach(w.config | {"broker": {"url": other.url}}, 20.0)
            status = await ended(w, "diagnostics", id_)
            assert (status["state"], status["reason"]) == ("failed", "interrupted")
            assert "another broker" in status["result"]["message"]


async def test_what_cannot_be_collected_fails_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as w, agent_inside(w, SimulatedMachine(tmp_path / "machine")):
        await w.until(lambda: w.observer.last("led") == "ok", "online")
        monkeypatch.setattr("agent.system.one_shot.sys.executable", str(tmp_path / "none"))
        status = await command(w, "diagnostics")
        assert status["state"] == "failed"
        assert "there is no bundle" in status["result"]["message"]


def test_the_result_is_one_of_the_contracts_statuses() -> None:
    result = {"chunks": 1, "bytes": 10, "sha256": "0" * 64, "format": "json+gzip"}
    status = CommandStatus("c-1", "diagnostics", "succeeded", None, None, None, result, None, "2026-10-06T12:00:00.000Z")
    assert json.loads(encode(plain(status)))["result"] == result


async def test_f21_a_bundle_over_64_kbit_s_comes_whole_while_health_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rate is the real one; the bundle is a sixteenth of the figure's, which `make bench` has (tests/bench/bundle.py)."""
    size = 128 * 1024
    monkeypatch.setattr("agent.system.collecting.collected", large(size))
    async with world(tmp_path) as w, ChaosProxy(w.broker.port, bytes_per_s=8_000, latency_s=0.05) as proxy:
        w.config["broker"] = {"url": proxy.url}
        async with agent_inside(w, SimulatedMachine(tmp_path / "machine")):
            await w.until(lambda: w.observer.last("led") == "ok", "online")
            id_ = send(w, "diagnostics")
            await w.until(lambda: len(chunks(w, id_)) >= 2, "some pieces")
            for paper, wanted in (("out", True), ("plenty", False), ("out", True)):
                before = len(chunks(w, id_))
                w.printer.change(paper=paper)
                await w.until(lambda wanted=wanted: ("media-empty" in w.observer.codes("receipt-printer")) is wanted, paper)  # type: ignore[misc]
                assert len(chunks(w, id_)) - before <= 2, "it waited behind one piece, or the one that was begun in between"
            status = await ended(w, "diagnostics", id_)
            assert status["state"] == "succeeded"
            assert assembly_of(w.observer, id_).bundle(status["result"]) == bytes_of(size)
            assert w.observer.last("led") == "your-turn"
