"""One reading of each peripheral, without a broker session: what an installer looks at first."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.contract.typed import plain
from agent.contract.words import is_loopback
from agent.devices.ipp import QueueAddress
from agent.devices.workers import Workers
from agent.engine.payloads import health_of
from agent.engine.watch import Watch
from agent.machine import Machine, resolve
from agent.peripherals.surroundings import AgentView, BrokerView, ClockView, Surroundings
from agent.rules.health import Now
from agent.settings import PeripheralSettings, Settings
from agent.system.broker import BrokerError, Dialer, tcp_figures
from agent.system.clock import Clock
from agent.system.session import SessionLock
from agent.system.threads import in_thread


async def readings(settings: Settings, state_dir: Path, runtime_dir: Path, only: str | None = None) -> list[dict[str, Any]]:
    """Probe all at once; each result is a `B/health` payload as it would be without debounce, and `took_ms`."""
    machine = Machine()
    clock = Clock(state_dir / "clock-floor", machine.times)
    dialer = Dialer(settings.broker)
    workers = Workers()
    surroundings = Surroundings(
        files=machine.files,
        links=machine.links,
        on_usb=lambda _: lambda: None,
        resolve=resolve,
        broker=lambda: _dialled(dialer),
        clock=lambda: ClockView(clock.synced(), clock.below_floor(), clock.today()),
        agent=lambda: AgentView("ok", (), None),
        people_expected=lambda: True,
        workers=workers,
        session=SessionLock(runtime_dir),
        state_dir=state_dir,
        runtime_dir=runtime_dir,
    )
    chosen = [item for item in settings.peripherals if only in (None, item.name)]
    try:
        return list(await asyncio.gather(*(_reading(item, surroundings, clock) for item in chosen)))
    finally:
        workers.close()
        machine.links.close()


def table(results: list[dict[str, Any]]) -> str:
    """The same for a person."""
    lines = []
    for result in results:
        lines.append(f"{result['peripheral']}  {result['status']}  ({result['took_ms']:.0f} ms)")
        lines += [f"    ! {finding['severity']} {finding['code']}{_detail(finding['detail'])}" for finding in result["findings"]]
        lines += [f"    {name} = {'–' if value is None else value}" for name, value in result["facts"].items()]
    return "\n".join(lines)


def slots(settings: Settings, results: list[dict[str, Any]]) -> str:
    """`slots.toml` as this booth is plugged together now: what root may do something about, and where."""
    tables: dict[str, dict[str, object]] = {name: {} for name in ("usb", "queues", "interfaces", "units", "boards")}
    options = {item.name: item.options for item in settings.peripherals}
    for result in results:
        name, slot = result["peripheral"], result["slot"] or ""
        if slot.startswith("usb-"):
            tables["usb"][name] = slot
        match result["kind"]:
            case "document-printer":
                queue = QueueAddress.parse(options[name].device)
                if is_loopback(queue.host):
                    tables["queues"][name] = queue.path.rpartition("/")[2]
            case "network" if slot:
                tables["interfaces"][name] = slot
            case "kiosk" if options[name].unit:
                tables["units"][name] = options[name].unit
            case "board":
                tables["boards"][name] = []
    return "\n".join(
        line
        for table, entries in tables.items()
        for line in (f"[{table}]", *(f"{name} = {json.dumps(entry)}" for name, entry in entries.items()))
    )


def _detail(detail: dict[str, Any]) -> str:
    return "".join(f" {key}={value}" for key, value in detail.items())


async def _reading(item: PeripheralSettings, surroundings: Surroundings, clock: Clock) -> dict[str, Any]:
    undelayed = {code: replace(kind, raise_after_s=0.0) for code, kind in item.peripheral.finding_kinds.items()}
    peripheral = replace(item.peripheral, findings=tuple(undelayed.values()))
    watch = Watch(item.name, peripheral, item.options, lambda: Now(clock.mono_s(), clock.wall()), lambda *_: None)
    started_s = clock.mono_s()
    running = asyncio.ensure_future(watch.run(lambda signals: item.peripheral.open(item.options, surroundings, signals)))
    await watch.settled.wait()
    took_ms = (clock.mono_s() - started_s) * 1000
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    payload: dict[str, Any] = plain(health_of(watch))
    return payload | {"took_ms": round(took_ms, 1)}


async def _dialled(dialer: Dialer) -> BrokerView:
    """The broker, reached once: TCP and TLS, no MQTT."""
    host = dialer.address.host
    try:
        connection = await in_thread(dialer.dial, "dial-broker")
    except BrokerError as error:
        return BrokerView(f"{error.stage}:{error.reason}", host)
    try:
        figures = tcp_figures(connection)
        local = str(connection.getsockname()[0])
        return BrokerView("connected", host, local, None if figures is None else round(figures.rtt_ms, 1))
    finally:
        connection.close()
