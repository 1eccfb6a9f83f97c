"""The healer: one remedy at a time, a fresh probe decides, citizens and distant faults are left alone, nothing loops."""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import wraps
from typing import Any, ParamSpec

import pytest

from agent.engine.heal import STORED_WITHIN_S
from agent.peripherals import declared
from agent.rules.declaration import Reading
from agent.rules.health import Finding
from agent.rules.ladder import REBOOT_EVERY_S, WELL_S
from agent.settings_tables import HealTable
from tests.engine.clinic import WELL, Clinic, Fault, seeded
from tests.virtual_time import virtual_run

P = ParamSpec("P")
HOUR_S = 3600.0
MUTE = Fault("receipt-printer", "mute", unreadable="not-responding")
STOPPED = Fault("document-printer", "stopped", {"state": "stopped"}, cured_by=frozenset({"enable-queue"}))
NO_ADDRESS = Fault("network", "no-address", {"address": None, "gateway": None})


def on_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        virtual_run(lambda: test(*args, **kwargs))

    return run


@pytest.mark.parametrize("cure", ["reopen", "usb-rebind", "usb-reset", "usb-authorize", "usb-power"])
@on_virtual_time
async def test_a_mute_printer_is_healed_by_the_first_rung_that_helps_and_no_further(cure: str) -> None:
    async with Clinic("receipt-printer").open() as here:
        here.devices["receipt-printer"].has(replace(MUTE, cured_by=frozenset({cure})))
        assert await here.until_well("receipt-printer", 300.0) is not None
        ladder = ["reopen", "usb-rebind", "usb-reset", "usb-authorize", "usb-power"]
        climbed = ladder[: ladder.index(cure) + 1]
        assert here.devices["receipt-printer"].done == climbed == here.worked
        assert here.outcomes() == [(name, "failed") for name in climbed[:-1]] + [(cure, "cured")]


@on_virtual_time
async def test_what_root_claims_is_not_believed_but_a_probe() -> None:
    async with Clinic("receipt-printer").open() as here:
        here.devices["receipt-printer"].has(MUTE)
        await asyncio.sleep(300)
        rungs = ["reopen", "usb-rebind", "usb-reset", "usb-authorize", "usb-power"]
        assert here.outcomes() == [(rung, "failed") for rung in rungs]


@on_virtual_time
async def test_f64_a_remedy_that_is_refused_hangs_or_raises_is_one_attempt_and_the_next_rung_follows() -> None:
    async with Clinic("receipt-printer").open() as here:
        printer = here.devices["receipt-printer"]
        printer.reopen = lambda: 1 / 0  # type: ignore[method-assign, assignment]
        here.root.refuses.add("usb-rebind")
        here.root.never.add("usb-reset")
        printer.has(replace(MUTE, cured_by=frozenset({"usb-authorize"})))
        assert await here.until_well("receipt-printer", 300.0) is not None
        told = {event["remedy"]: (event["outcome"], event.get("reason")) for event in here.notebook.events}
        assert told == {
            "reopen": ("failed", "failed: ZeroDivisionError"),
            "usb-rebind": ("refused", "refused"),
            "usb-reset": ("timed-out", "timed-out"),
            "usb-authorize": ("cured", None),
        }


@on_virtual_time
async def test_after_giving_up_somebody_else_is_named_and_it_is_tried_again_for_ever_but_slowly() -> None:
    async with Clinic("scanner").open() as here:
        here.devices["scanner"].has(Fault("scanner", "dead", {"status": "io-error"}))
        await asyncio.sleep(600)
        (finding,) = here.watches["scanner"].judgement.findings
        assert (finding.fix_by, here.healer.escalated("scanner", finding)) == ("auto", True)
        rungs = [name for name, _ in here.outcomes()]
        assert rungs == ["try-again", "end-holders", "usb-reset", "usb-authorize", "usb-power"]
        assert [item.remedy for item in here.healer.tried("scanner", "io-error")] == rungs
        await asyncio.sleep(24 * HOUR_S)
        day = [name for name, _ in here.outcomes()][len(rungs) :]
        assert len(rungs) <= len(day) <= 6 * len(rungs)
        assert here.healer.escalated("scanner", finding)
        await asyncio.sleep(24 * HOUR_S)
        assert len(here.outcomes()) > len(rungs) + len(day)


@on_virtual_time
async def test_nothing_disturbs_a_citizen_and_healing_begins_within_a_minute_of_her_leaving() -> None:
    async with Clinic("document-printer", "receipt-printer").open() as here:
        here.citizen.there = True
        here.devices["document-printer"].has(STOPPED)
        here.devices["receipt-printer"].has(replace(MUTE, cured_by=frozenset({"reopen"})))
        await asyncio.sleep(12 * HOUR_S)
        assert here.root.asked == []
        assert here.outcomes() == []
        assert here.devices["receipt-printer"].done == []
        here.citizen.there = False
        await asyncio.sleep(60)
        assert {peripheral for _, peripheral in here.root.asked} == {"document-printer"}
        assert await here.until_well("document-printer", 60.0) is not None
        assert await here.until_well("receipt-printer", 60.0) is not None
        assert here.citizen.disturbed == 0


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({"broker": "connect:refused"}, id="broker"),
        pytest.param({"broker": "tls:expired"}, id="TLS"),
        pytest.param({"dns": "timeout"}, id="DNS"),
        pytest.param({"check": "portal"}, id="portal"),
        pytest.param({"check": "connect:timeout", "broker": "connect:timeout"}, id="the line behind the box"),
        pytest.param({"rtt_ms": 2000.0, "loss_pct": 30.0, "wifi_signal_dbm": -90.0}, id="a bad line"),
    ],
)
@on_virtual_time
async def test_a_day_of_a_distant_fault_moves_no_booth(facts: dict[str, Any]) -> None:
    async with Clinic().open() as here:
        here.devices["network"].has(Fault("network", "far", facts))
        await asyncio.sleep(24 * HOUR_S)
        assert here.codes("network")
        assert here.root.asked == []
        assert here.outcomes() == []


@on_virtual_time
async def test_the_network_climbs_slowly_to_one_reboot_which_is_stored_first_and_never_repeated() -> None:
    here = Clinic("network")
    async with here.open():
        here.devices["network"].has(NO_ADDRESS)
        await asyncio.sleep(1700)
        assert "reboot" not in here.devices["network"].done
        while "reboot" not in here.devices["network"].done:
            await asyncio.sleep(1)
        assert here.devices["network"].done == [
            "renew-address", "bounce-link", "restart-network", "radio-cycle", "reload-driver", "reboot",
        ]  # fmt: skip
        here.power_cut()  # as the reboot is one

    again = Clinic("network", notebook=here.notebook, began_s=2000.0)
    async with again.open():
        again.devices["network"].has(NO_ADDRESS)
        assert again.outcomes()[-1] == ("reboot", "rebooted")
        await asyncio.sleep(72 * HOUR_S)
        assert "reboot" not in again.devices["network"].done
        assert len(again.devices["network"].done) >= 5  # the rest goes on, slowly


@on_virtual_time
async def test_without_a_memory_nothing_is_rebooted() -> None:
    async with Clinic("network").open() as here:
        here.notebook.works = False
        here.devices["network"].has(NO_ADDRESS)
        await asyncio.sleep(3 * HOUR_S)
        assert "reboot" not in here.devices["network"].done
        assert ("reboot", "refused") in here.outcomes()
        assert "bounce-link" in here.devices["network"].done


@on_virtual_time
async def test_a_power_cut_in_the_middle_of_any_rung_is_an_attempt_and_the_next_start_goes_on_from_there() -> None:
    ladder = [remedy.name for remedy in declared()["receipt-printer"].ladder if "not-responding" in remedy.cures]
    for rung in ladder[1:]:
        here = Clinic("receipt-printer")
        async with here.open():
            here.root.never.add(rung)
            here.devices["receipt-printer"].has(MUTE)
            while (rung, "receipt-printer") not in here.root.asked:
                await asyncio.sleep(1)
            here.power_cut()
        again = Clinic("receipt-printer", notebook=here.notebook, began_s=300.0)
        async with again.open():
            assert again.outcomes()[-1] == (rung, "interrupted")
            again.devices["receipt-printer"].has(MUTE)
            await asyncio.sleep(600)
            assert again.devices["receipt-printer"].done == ladder[ladder.index(rung) + 1 :]


@on_virtual_time
async def test_f78_under_voltage_stops_a_ladder_where_it_is_and_its_end_lets_it_go_on() -> None:
    async with Clinic("board", "receipt-printer").open() as here:
        here.devices["receipt-printer"].has(replace(MUTE, cured_by=frozenset({"usb-reset"})))
        while not here.devices["receipt-printer"].done:
            await asyncio.sleep(1)
        here.devices["board"].has(Fault("board", "weak", {"under_voltage": True}))
        await asyncio.sleep(HOUR_S)
        assert len(here.devices["receipt-printer"].done) == 1
        here.devices["board"].has(None)
        assert await here.until_well("receipt-printer", 600.0) is not None


@on_virtual_time
async def test_f78_under_voltage_stops_a_ladder_that_somebody_asked_for() -> None:
    async with Clinic("board", "receipt-printer").open() as here:
        here.devices["receipt-printer"].has(MUTE)
        await asyncio.sleep(10)

        def heard(_remedy: str, _pct: int | None) -> None:
            here.devices["board"].has(Fault("board", "weak", {"under_voltage": True}))

        tended = await here.healer.tend(here.watches["receipt-printer"], None, heard)
        assert ([name for name, _ in tended.tried], tended.stopped) == (["reopen"], "under-voltage")
        assert here.devices["receipt-printer"].done == ["reopen"]


@on_virtual_time
async def test_nothing_is_healed_when_every_device_is_gone_at_once() -> None:
    gone = [Fault(kind, "gone", unreadable="no-device") for kind in ("receipt-printer", "scanner", "camera")]
    async with Clinic("receipt-printer", "scanner", "camera", "board").open() as here:
        for fault in gone:
            here.devices[fault.kind].has(fault)
        await asyncio.sleep(12 * HOUR_S)
        assert here.root.asked == []
        here.devices["camera"].has(None)
        await asyncio.sleep(HOUR_S)
        assert ("usb-power", "scanner") in here.root.asked  # two of three: not the power strip


@on_virtual_time
async def test_f63_a_device_that_flaps_fifty_times_uses_up_its_budget_and_is_left_alone() -> None:
    async with Clinic("scanner").open() as here:
        for _ in range(50):
            here.devices["scanner"].has(Fault("scanner", "flaps", {"status": "io-error"}, cured_by=frozenset({"usb-reset"})))
            await asyncio.sleep(60)
            here.devices["scanner"].has(None)
            await asyncio.sleep(60)
        assert 0 < len(here.outcomes()) <= 24
        assert here.devices["scanner"].done.count("usb-reset") <= 10


@on_virtual_time
async def test_one_remedy_at_a_time_in_the_whole_booth() -> None:
    async with Clinic("receipt-printer", "scanner", "document-printer").open() as here:
        running, most = 0, 0
        act = here.root.act

        async def counted(name: str, slot: str) -> str:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(3)
            try:
                return await act(name, slot)
            finally:
                running -= 1

        here.root.act = counted  # type: ignore[method-assign]
        here.devices["receipt-printer"].has(MUTE)
        here.devices["scanner"].has(Fault("scanner", "dead", {"status": "io-error"}))
        here.devices["document-printer"].has(STOPPED)
        await asyncio.sleep(HOUR_S)
        assert most == 1
        assert {slot for _, slot in here.root.asked} == {"receipt-printer", "scanner", "document-printer"}


@on_virtual_time
async def test_an_episode_is_over_once_it_was_well_for_ten_minutes() -> None:
    async with Clinic("document-printer").open() as here:
        for _ in range(3):
            here.devices["document-printer"].has(STOPPED)
            assert await here.until_well("document-printer", 120.0) is not None
            await asyncio.sleep(WELL_S + 60)
        assert here.outcomes() == [("enable-queue", "cured")] * 3
        assert here.healer.tried("document-printer", "queue-stopped") == []
        assert here.notebook.kept["healing"]["cases"]["document-printer"]["episode"] == 3


PURGE = frozenset({"purge-spool"})
LEFT = Fault("document-printer", "left", {"queued_jobs": 1}, cured_by=PURGE, chores=PURGE)


@on_virtual_time
async def test_a_document_that_nobody_waits_for_is_purged_and_nobody_is_told() -> None:
    async with Clinic("document-printer", heal=HealTable(enabled=False)).open() as here:
        here.citizen.there = True
        here.devices["document-printer"].has(LEFT)
        await asyncio.sleep(HOUR_S)
        assert here.root.asked == []
        here.citizen.there = False
        await asyncio.sleep(30)
        assert here.root.asked == [("purge-spool", "document-printer")]
        assert here.notebook.events == []
        assert here.worked == []


@on_virtual_time
async def test_documents_go_first_and_a_purge_that_is_refused_is_told_and_tried_again() -> None:
    async with Clinic("receipt-printer", "document-printer").open() as here:
        here.root.refuses.add("purge-spool")
        here.citizen.there = True
        here.devices["receipt-printer"].has(replace(MUTE, cured_by=frozenset({"usb-rebind"})))
        here.devices["document-printer"].has(LEFT)
        await asyncio.sleep(120)
        here.citizen.there = False
        assert await here.until_well("receipt-printer", 120.0) is not None
        assert here.root.asked[0] == ("purge-spool", "document-printer")
        assert here.codes("document-printer") == ["access-denied"]
        here.root.refuses.clear()
        assert await here.until_well("document-printer", 180.0) is not None


@on_virtual_time
async def test_a_citizen_who_comes_during_a_ladder_waits_for_one_rung_and_is_left_alone() -> None:
    async with Clinic().open() as here:
        for kind in ("receipt-printer", "scanner", "camera"):
            here.devices[kind].has(Fault(kind, "dead", unreadable="not-responding"))
        here.devices["document-printer"].has(STOPPED)
        while len(here.root.asked) < 2:
            await asyncio.sleep(0.5)
        await here.citizen.wants()
        assert here.citizen.waited_s is not None
        assert here.citizen.waited_s < 60
        before = len(here.root.asked)
        await asyncio.sleep(HOUR_S)
        assert len(here.root.asked) == before
        assert here.citizen.disturbed == 0


@on_virtual_time
async def test_what_ended_well_while_the_device_was_waited_for_is_not_healed() -> None:
    async with Clinic("scanner").open() as here:
        scanner, probe = here.devices["scanner"], here.devices["scanner"].probe

        async def slow(*, active: bool) -> Reading | None:
            await asyncio.sleep(15)
            return await probe(active=active)

        scanner.has(Fault("scanner", "for a moment", {"status": "io-error"}))
        while here.codes("scanner") == []:
            await asyncio.sleep(0.5)
        scanner.probe = slow  # type: ignore[method-assign]
        await asyncio.sleep(12)
        scanner.has(None)
        await asyncio.sleep(120)
        assert here.outcomes() == []


@on_virtual_time
async def test_a_device_that_cannot_be_looked_at_now_is_not_healed_now() -> None:
    async with Clinic("camera").open() as here:
        camera = here.devices["camera"]
        camera.has(Fault("camera", "dead", unreadable="not-responding"))
        while here.codes("camera") == []:
            await asyncio.sleep(0.5)
        camera.leaves_alone = True
        here.watches["camera"].wake(active=True)
        await asyncio.sleep(12 * HOUR_S)
        assert here.outcomes() == []
        camera.leaves_alone = False
        await asyncio.sleep(60)
        assert here.outcomes() != []


@on_virtual_time
async def test_a_remedy_that_makes_it_worse_did_not_cure() -> None:
    async with Clinic("network").open() as here:
        network = here.devices["network"]

        async def worse(name: str, slot: str) -> str:
            assert slot == "network"
            network.done.append(name)
            network.fault = Fault("network", "worse", {"carrier": False, "address": None, "gateway": None})
            return "done"

        here.root.act = worse  # type: ignore[method-assign]
        network.has(NO_ADDRESS)
        await asyncio.sleep(80)
        assert here.outcomes() == [("renew-address", "failed")]


@on_virtual_time
async def test_a_clock_that_was_once_ahead_ends_no_healing() -> None:
    here = Clinic("receipt-printer", began_s=3.2e8)
    async with here.open():
        here.devices["receipt-printer"].has(MUTE)
        await asyncio.sleep(600)
    again = Clinic("receipt-printer", notebook=here.notebook)
    async with again.open():
        again.devices["receipt-printer"].has(MUTE)
        await asyncio.sleep(6 * HOUR_S)
        assert again.devices["receipt-printer"].done != []


@on_virtual_time
async def test_a_reboot_that_root_refused_may_be_had_later() -> None:
    async with Clinic("network").open() as here:
        here.root.refuses.add("reboot")
        here.devices["network"].has(NO_ADDRESS)
        await asyncio.sleep(HOUR_S)
        assert ("reboot", "refused") in here.outcomes()
        here.root.refuses.clear()
        await asyncio.sleep(12 * HOUR_S)
        assert here.devices["network"].done.count("reboot") == 1


@on_virtual_time
async def test_200_healthy_but_noisy_runs_see_no_remedy() -> None:
    """Faults that pass within the patience of the first rung, on every device."""
    noise = [
        Fault("receipt-printer", "blip", unreadable="not-responding", lasts_s=9.0),
        Fault("scanner", "blip", {"status": "io-error"}, lasts_s=9.0),
        Fault("document-printer", "blip", {"scheduler": False}, lasts_s=9.0),
        Fault("camera", "blip", unreadable="not-responding", lasts_s=9.0),
        Fault("kiosk", "blip", {"running": False}, lasts_s=9.0),
        Fault("network", "blip", {"carrier": False, "address": None}, lasts_s=40.0),
    ]
    for seed in range(200):
        chance = seeded(seed)
        async with Clinic().open() as here:
            for _ in range(8):
                fault = chance.choice(noise)
                here.devices[fault.kind].has(replace(fault, lasts_s=chance.uniform(0.1, fault.lasts_s or 1.0)))
                await asyncio.sleep(chance.uniform(0.0, 45.0))
            await asyncio.sleep(120)
            assert here.root.asked == [], seed
            assert here.outcomes() == [], seed


@on_virtual_time
async def test_a_booth_that_may_not_heal_does_not() -> None:
    async with Clinic("document-printer", heal=HealTable(enabled=False)).open() as here:
        here.devices["document-printer"].has(STOPPED)
        await asyncio.sleep(HOUR_S)
        assert here.root.asked == []


# --- every ladder ---


LADDERS = [(kind, remedy) for kind in declared().values() for remedy in kind.ladder]


@pytest.mark.parametrize(("kind", "remedy"), LADDERS, ids=[f"{kind.kind}-{remedy.name}" for kind, remedy in LADDERS])
def test_every_rung_keeps_the_order_of_deadlines_and_the_citizens_minute(kind: Any, remedy: Any) -> None:
    assert remedy.cures <= set(kind.finding_kinds), "a rung for what is never found"
    assert STORED_WITHIN_S + remedy.deadline_s + remedy.settle_s + kind.deadline_s < 60, "a citizen waits a minute at most"
    assert remedy.cooldown_s >= remedy.deadline_s
    assert inspect.iscoroutinefunction(remedy.run)
    first = {code: next(item.name for item in kind.ladder if code in item.cures) for code in remedy.cures}
    assert remedy.patience_s >= 20.0, first


def test_no_rung_cures_what_is_distant_and_a_reboot_is_last() -> None:
    distant = {"dns-failure", "captive-portal", "tls-failure", "broker-unreachable", "high-latency", "high-loss", "weak-signal"}
    for kind in declared().values():
        for remedy in kind.ladder:
            assert not remedy.cures & distant, remedy.name
        reboots = [remedy.reboots for remedy in kind.ladder]
        assert not any(reboots[:-1])
    far = Finding("gateway-unreachable", "fault", "shopkeeper", "", {"reason": "nothing-beyond"})
    assert not any(remedy.when(far) for remedy in declared()["network"].ladder)
    assert REBOOT_EVERY_S == 6 * HOUR_S
    assert set(WELL) == {kind for kind, item in declared().items() if item.ladder}


def test_what_heals_by_itself_has_a_rung_and_what_no_rung_cures_names_somebody() -> None:
    """Codes with `fix_by` auto that no rung cures go away without anybody: they are listed here, each with its reason."""
    by_themselves = {
        ("receipt-printer", "auto-recoverable-error"),  # the head cools down
        ("document-printer", "fuser-over-temp"), ("document-printer", "fuser-under-temp"),
        ("board", "memory-low"),  # whoever used it is ended by the kernel, and started again
        ("board", "clock-unsynced"),  # a time source comes back
        ("audio", "not-responding"),  # amixer was late; it is asked again
    }  # fmt: skip
    for kind in declared().values():
        cured = set().union(*(remedy.cures for remedy in kind.ladder)) if kind.ladder else set()
        for finding in kind.finding_kinds.values():
            if finding.fix_by == "auto" and finding.code not in cured:
                assert (kind.kind, finding.code) in by_themselves, "auto, and nothing is done"
