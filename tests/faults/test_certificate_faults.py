"""Rows 29 to 32 of the fault catalogue: the booth's own certificate, and another authority."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from agent.contract.decode import encode
from agent.simulator.machine import SimulatedMachine
from tests.faults.fake_broker import until
from tests.faults.secure_broker import another_observer, put_in_place, secure_broker
from tests.faults.test_broker_faults import changes, stored
from tests.world import BOOTH, ROOT, Observer, agent_inside, world


def days(see: Observer) -> Any:
    """What a fresh look says, after the one that is asked for now."""
    see.publish(f"{ROOT}/cmd/probe/req", encode({"id": f"c-{len(see.messages)}", "args": {"peripheral": "booth"}}))
    done = [m.json for m in see.messages if "/cmd/probe/" in m.topic and m.topic.endswith("/status")]
    return next((one["result"]["facts"]["certificate_days"] for one in reversed(done) if one["state"] == "succeeded"), None)


async def test_f29_a_restart_says_nothing_new_of_a_certificate_that_is_the_same(tmp_path: Path) -> None:
    async with world(tmp_path) as w, secure_broker(tmp_path, "good") as secure, another_observer(w, secure.plain_port) as see:
        w.config["broker"] = secure.toml(secure.authority.issue(BOOTH, days=3), secure.authority.file)
        agent = await w.start_agent(online=False)
        await see.until(lambda: see.last("alarm/booth/certificate-expiring"), "the alarm", 30)
        await agent.stop()
        await w.start_agent(online=False)
        await see.until(lambda: days(see) in (2, 3), "a look")
        assert changes(see.events(), "certificate-expiring") == ["raised"]


async def test_f29_a_certificate_near_its_end_is_told_until_it_is_renewed_in_place(tmp_path: Path) -> None:
    async with world(tmp_path) as w, secure_broker(tmp_path, "good") as secure, another_observer(w, secure.plain_port) as see:
        own = secure.authority.issue(BOOTH, days=3)
        w.config["broker"] = secure.toml(own, secure.authority.file)
        agent = await w.start_agent(online=False)
        raised = await see.until(lambda: see.last("alarm/booth/certificate-expiring"), "the alarm", 30)
        assert (raised["severity"], raised["fix_by"]) == ("warning", "remote")
        assert see.last("health/booth")["facts"]["certificate_days"] in (2, 3)
        put_in_place(secure.authority.issue(BOOTH, files="renewed"), own)
        await agent.stop()
        await w.start_agent(online=False)
        await see.until(lambda: "certificate-expiring" not in see.codes("booth"), "the end of it", 30)
        await see.until(lambda: days(see) in (89, 90), "the new one", 30)


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        ("expired", "own-certificate-expired"),
        ("revoked", "own-certificate-revoked"),
        ("stranger", "own-certificate-of-unknown-ca"),
        ("none", "own-certificate-missing"),
    ],
)
async def test_f30_f31_a_certificate_that_is_refused_is_named_and_one_put_in_its_place_connects(
    why: str, reason: str, tmp_path: Path
) -> None:
    async with (
        world(tmp_path) as w,
        secure_broker(tmp_path, "good", revoked=why == "revoked") as secure,
        another_observer(w, secure.plain_port) as see,
    ):
        authority = secure.stranger if why == "stranger" else secure.authority
        own = authority.issued("refused") if why == "revoked" else authority.issue(BOOTH, expired=why == "expired")
        w.config["broker"] = secure.toml(None if why == "none" else own, secure.authority.file)
        w.config["peripherals"]["network"] = {"kind": "network", "interval_s": 5.0}
        async with agent_inside(w, SimulatedMachine(tmp_path / "machine")):
            raised = await until(
                lambda: [e for e in stored(w) if e["code"] == "tls-failure"], "tls-failure", told=lambda: str(stored(w))
            )
            assert raised[0]["data"]["detail"] == {"at": "broker", "reason": reason}
            assert [e["code"] for e in stored(w) if e["class"] == "security"] == [], "nobody took the booth's name"
            assert see.of("state") == []
            if why != "none":
                put_in_place(secure.authority.issue(BOOTH, files="good"), own)
                await see.until(lambda: changes(see.events(), "tls-failure") == ["raised", "cleared"], "recovery", 90)


async def test_f32_another_authority_comes_in_two_steps(tmp_path: Path) -> None:
    """Both are trusted, the broker moves, then the old one goes; files are read at each connection."""
    async with world(tmp_path) as w, secure_broker(tmp_path, "good") as secure, another_observer(w, secure.plain_port) as see:
        ca = tmp_path / "ca.pem"
        ca.write_bytes(secure.authority.file.read_bytes() + secure.stranger.file.read_bytes())
        w.config["broker"] = secure.toml(secure.authority.issue(BOOTH), ca)

        async def comes_online() -> None:
            already = len(see.of("state"))
            agent = await w.start_agent(online=False)
            await see.until(lambda: any(m.json["state"] == "online" for m in see.of("state")[already:]), "online")
            assert await agent.stop() == 0

        await comes_online()
        secure.certified_by(secure.stranger)
        await comes_online()
        shutil.copy(secure.stranger.file, ca)
        await comes_online()
