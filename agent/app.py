"""Start here: the one page that wires the booth agent, and the only place that chooses real or simulated.

kernel, devices ──> peripherals ──> Watch (judges) ──> Reporter ──> Publisher ──> Mqtt ──> broker
                                                          │            ↑
                                                          └─> Store ───┘
"""

import asyncio
import logging
import math
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import VERSION
from agent.accepted_devices import AcceptedDevices
from agent.contract.button import SOCKET_NAME
from agent.contract.messages import Incoming
from agent.contract.state import Capabilities
from agent.contract.topics import Address, Topic
from agent.contract.words import RESERVED_PERIPHERAL, LightWord
from agent.controls import BoothControls, Extras
from agent.devices import usb
from agent.devices.workers import Workers
from agent.engine.authority import Authority, TicketCode
from agent.engine.button import Button
from agent.engine.checks import ActiveChecks
from agent.engine.command import Commander, Moment
from agent.engine.configure import Configurer
from agent.engine.echo import Echo
from agent.engine.heal import Healer
from agent.engine.light import LightKeeper
from agent.engine.memory import Remembered
from agent.engine.modes import Mode
from agent.engine.publish import Publisher
from agent.engine.report import Booth, Reporter
from agent.engine.sessions import LongSession
from agent.engine.strangers import Strangers
from agent.engine.takeover import Takeovers
from agent.engine.ward import Ward
from agent.engine.watch import Watch
from agent.housekeeping import Recorder, ShownLight, feed_watchdog, keep_clock_floor
from agent.live_settings import LiveSettings, Parts, limits_of
from agent.machine import Machine, board_of, lamp_of, pluggable_only, resolve, zone_of
from agent.peripherals import declared
from agent.peripherals.surroundings import AgentView, BrokerView, ClockView, Surroundings
from agent.rules.checks import people_expected
from agent.rules.health import Change, Now
from agent.rules.hours import is_open
from agent.rules.light import SHOWN
from agent.settings import PeripheralSettings, Settings
from agent.system import process, service_manager
from agent.system.broker import BrokerError
from agent.system.button import ButtonSocket
from agent.system.chance import between, random_bytes
from agent.system.clock import Clock, rfc3339
from agent.system.mqtt import Handlers, Mqtt
from agent.system.outbox_rows import Limits, Stamp
from agent.system.own_certificate import OwnCertificate
from agent.system.session import SessionLock
from agent.system.store import Store
from agent.system.verifying import Verifier, command_keys
from agent.ticketing.printing import Ticketing
from agent.ticketing.situation import Situations
from agent.verbs import declared as declared_verbs
from agent.verbs.declaration import Heard, Result

if TYPE_CHECKING:
    from agent.engine.bundle import Bundles
    from agent.engine.updates import Updates

log = logging.getLogger(__name__)

_LONGEST_MAINTENANCE_S = 14_400.0
_SETTLED_S = (3.0, 30.0)  # after the start: connected, first probes done; and the first active checks


class Agent:
    """One booth's agent. Create it on the running loop; many can live in one process."""

    def __init__(
        self,
        settings: Settings,
        state_dir: Path,
        machine: Machine | None = None,
        limits: Limits | None = None,
        runtime_dir: Path | None = None,
    ) -> None:
        """`runtime_dir` holds the session lock; the state directory, if none is given."""
        self._live = LiveSettings(settings, state_dir)
        self._runtime_dir = runtime_dir or state_dir
        self._machine = machine or Machine()
        self._boot_id = Machine().files.text("proc/sys/kernel/random/boot_id") or "unknown"
        self._address = Address(settings.booth.area, settings.booth.id)
        self._clock = Clock(state_dir / "clock-floor", self._machine.times)
        self._routed = True
        self._store = Store(state_dir / "store.db", self._stamp, limits)
        recorder = Recorder(self._store, self._stamp)
        self._mqtt = Mqtt(
            self._live.dialer(),
            settings.booth.id,
            Handlers(self._connected, self._lost, self._received, self._room),
            self._address.subscriptions(),
            lambda: self._reporter.last_will(self._mqtt.session),
        )
        self._publisher = Publisher(
            self._address, self._mqtt, self._store, settings.reporting.heartbeat_s, self._own_state_changed
        )
        self._reporter = Reporter(
            self._booth(), self._publisher, recorder, self._now, self._clock.word, self._figures,
            self._show_light, lambda: self._checks.in_hours,
        )  # fmt: skip
        self._light = ShownLight(self._keeper_of_light, self._reporter.show_light_again)
        self._checks = ActiveChecks(
            lambda: self._watches.values(), settings.hours, settings.appointments, settings.checks.every_s,  # noqa: PLW0108 - made later
            self._local_time, self._clock.mono_s,
        )  # fmt: skip
        self._echo = Echo(lambda word: self._publisher.send_once("echo", self._address.echo, word), self._own_state_changed)
        self._lockdown = self._machine.lockdown
        places = {"config": str(settings.file.absolute()), "state_dir": str(state_dir.absolute())}
        self._configurer = Configurer(
            self._publisher, self._address.reported, self._clock.wall, recorder.of_booth, Verifier(), self._lockdown, self._live,
            places, self._own_state_changed,
            self._clock.not_before,
        )  # fmt: skip
        self._certificate = OwnCertificate(
            lambda: self._live.current.broker.certificate, self._own_state_changed,
            lambda read: self._store.save("certificate", read),
        )  # fmt: skip
        self._workers = Workers()
        self._takeovers = Takeovers(recorder.of_booth, self._own_state_changed)
        self._strangers = Strangers(self._storage_at, recorder.of_booth, self._clock.mono_s)
        self._machine.uevents.subscribe(lambda event: self._strangers.plugged(event.action, event.subsystem, event.devpath))
        session = SessionLock(runtime_dir or state_dir)
        self._long_session = LongSession(session, settings.heal.longest_session_s, self._clock.mono_s, self._own_state_changed)
        self._ward = ward = Ward(
            self._now, self._clock.wall_s, rfc3339, limits_of(settings), lambda cases: self._store.save("healing", cases),
            heals=settings.heal.enabled,
        )  # fmt: skip
        self._healer = Healer(ward, session, self._machine.acts, recorder, self._now, self._reporter.tended)
        self._reporter.care = self._healer
        self._maintenance = Mode(self._clock.wall_s, self._mode_changed, lambda until_s: self._store.save("maintenance", until_s))
        self._locating = Mode(self._clock.wall_s, self._mode_changed)
        self._reporter.maintained = ward.maintained = lambda: self._maintenance.on
        self._reporter.located = lambda: self._locating.on
        self._surroundings = Surroundings(
            files=self._machine.files,
            links=self._machine.links,
            on_usb=lambda handler: self._machine.uevents.subscribe(pluggable_only(handler)),
            resolve=resolve,
            broker=self._broker_view,
            clock=lambda: ClockView(self._clock.synced(), self._clock.below_floor(), self._clock.today()),
            agent=self._agent_view,
            people_expected=self._people_expected,
            workers=self._workers,
            session=session,
            state_dir=state_dir,
            runtime_dir=runtime_dir or state_dir,
        )
        own = PeripheralSettings(RESERVED_PERIPHERAL, declared()[RESERVED_PERIPHERAL], None)
        self._configured = {item.name: item for item in (*settings.peripherals, own)}
        self._watches = {
            item.name: Watch(item.name, item.peripheral, item.options, self._now, self._judged, self._device_in)
            for item in self._configured.values()
        }
        self._stop, self._witnessed = asyncio.Event(), asyncio.Event()
        self._bundles: Bundles | None = None
        self._accepted = AcceptedDevices(self._watches, self._live, self._machine.files, recorder)
        self.ticket_code = TicketCode(self._clock.mono_s, random_bytes)
        self.ticketing = Ticketing(
            self._watches, lambda: self._live.current,
            Situations(self._watches, lambda: self._live.current, self._reporter, self._healer.tried, self._clock),
            session, self.ticket_code, self._clock, self._open_now, lambda printed: self._store.save("ticket", printed),
        )  # fmt: skip
        self._controls = BoothControls(
            self._watches, self._healer, self._machine.acts, self._maintenance, self._locating, self._stop.set,
            self._reporter.looked_at,
            Extras(self.ticketing.command, diagnostics=self._send_bundle, accept_device=self._accepted.accept),
        )  # fmt: skip
        offered = replace(self._reporter.booth.capabilities, commands=self._offered_commands())
        self._reporter.booth = replace(self._reporter.booth, capabilities=offered)
        self._commander = Commander(
            self._address, self._publisher, declared_verbs(), self._controls, session, recorder,
            Authority(Verifier(), places, settings.booth.id, self._clock.wall, lambda: command_keys(settings.file.parent)),
            self.ticket_code,
            Moment(self._clock.wall, self._clock.wall_s, self._clock.synced), self._boot_id, recorder.of_booth,
        )  # fmt: skip
        self._updates = self._updates_of(session, recorder, state_dir) if self._machine.updates.installed else None
        self._button = self._button_of(session, recorder)
        self._button_socket = ButtonSocket(self._runtime_dir / SOCKET_NAME)
        self._live.govern(
            Parts(
                self._mqtt, self._echo, self._publisher, self._reporter, self._checks, ward, self._long_session, self._watches,
                self._configured, self._light.configured_anew,
            )
        )  # fmt: skip

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; then say goodbye, within 5 s."""
        self._start_kernel_events()
        self._store.on_stored = self._publisher.events_stored
        self._store.on_condition = self._own_state_changed
        state = await self._store.open()
        self._accepted.remember(state)
        self._certificate.remember(state)
        self._live.begin()
        self._healer.remember(state, self._watches)
        if isinstance(until_s := state.get("maintenance"), int | float):
            self._maintenance.resume(until_s, _LONGEST_MAINTENANCE_S)
        self.ticketing.remember(state)
        self._reporter.remember(Remembered.load(state), self._watches)
        self._commander.remember(state)
        if self._updates is not None:
            self._updates.reporter.remember(state)
        async with asyncio.TaskGroup() as group:
            work = [group.create_task(self._reporter.run()), group.create_task(keep_clock_floor(self._clock, self._witnessed))]
            work += [group.create_task(task) for task in (self._checks.run(), self._healer.run(), self._long_session.run())]
            work += [group.create_task(task) for task in (self._configurer.run(), self._light.run(), self.ticketing.run())]
            work += [group.create_task(watch.run(self._source_of(name))) for name, watch in self._watches.items()]
            work += [group.create_task(self._certificate.run())]
            work += [] if self._updates is None else [group.create_task(self._updates.run())]
            connection = group.create_task(self._mqtt.run())
            watchdog = group.create_task(feed_watchdog(self._watches))
            service_manager.notify("READY=1")
            await self._until_stopped(stop)  # a task that fails cancels this: the group ends the process with its error
            service_manager.notify("STOPPING=1")
            for task in work:
                task.cancel()
            await self._light.close()
            await self._say_goodbye()
            connection.cancel()
            watchdog.cancel()
        await self._close()

    async def _until_stopped(self, stop: asyncio.Event) -> None:
        """By whoever runs us, or by a command."""
        waiting = [asyncio.ensure_future(event.wait()) for event in (stop, self._stop)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()

    def check_now(self) -> None:
        """Use every device for real, as soon as no citizen does."""
        for watch in self._watches.values():
            watch.wake(active=True)

    # --- shutdown ---

    async def _say_goodbye(self) -> None:
        farewell = self._reporter.farewell()
        await self._store.flushed(1.0)
        await self._mqtt.close(farewell)

    async def _close(self) -> None:
        self._echo.stop()
        self._commander.close()
        self._button_socket.close()
        self._button.close()
        self._maintenance.close()
        self._locating.close()
        self._configurer.close()
        if self._updates is not None:
            self._updates.close()
        self._takeovers.close()
        self._lockdown.close()
        self._reporter.close()
        self._workers.close()
        self._machine.links.close()
        self._machine.uevents.close()
        await self._publisher.close()
        await self._store.close()

    # --- what happens ---

    def _connected(self) -> None:
        log.info("connected to the broker")
        if self._live.current.broker.tls:
            self._clock.witnessed()
            self._witnessed.set()
        self._certificate.look()
        service_manager.notify("STATUS=connected")
        self._takeovers.connected()
        self._commander.connected()
        self._reporter.connected(self._mqtt.session)
        self._echo.connected()
        self._own_state_changed()
        self._wake("network")

    def _lost(self, error: BrokerError) -> None:
        log.warning("no connection to the broker: %s", error, extra={"reason": error.reason})
        service_manager.notify(f"STATUS=not connected: {error}")
        self._takeovers.lost(error.reason)
        self._echo.stop()
        self._wake("network")

    def _received(self, message: Incoming) -> None:
        topic = Topic.parse(message.topic)
        if topic is None:
            return
        if topic.kind == "echo":
            self._echo.received(message.payload)
        elif topic.kind == "desired" and topic.names[0] == "update" and self._updates is not None:
            self._updates.desired(topic, message)
        elif topic.kind == "desired":
            self._configurer.desired(topic, message)
        elif topic.kind == "cmd-req":
            self._commander.request(topic, message)

    def _room(self) -> None:
        self._publisher.pump()

    def _judged(self, watch: Watch, changes: tuple[Change, ...]) -> None:
        self._reporter.judged(watch, changes)
        self._healer.judged(watch)

    def _mode_changed(self) -> None:
        self._reporter.modes_changed()
        self._healer.wake()

    def _own_state_changed(self) -> None:
        self._live.connection_changed()
        self._watches[RESERVED_PERIPHERAL].wake()

    def _wake(self, kind: str) -> None:
        for watch in self._watches.values():
            if watch.peripheral.kind == kind:
                watch.wake()

    # --- what the parts ask for ---

    def _now(self) -> Now:
        return Now(self._clock.mono_s(), self._clock.wall())

    def _device_in(self, slot: str) -> str | None:
        device = usb.in_slot(self._machine.files, slot)
        return None if device is None else usb.shown(device)

    def _storage_at(self, devpath: str) -> dict[str, str | None] | None:
        return usb.storage_at(self._machine.files, devpath)

    def _local_time(self) -> datetime | None:
        """The booth's, without its zone; None while the clock is certainly wrong."""
        if self._clock.below_floor():
            return None
        return datetime.fromtimestamp(self._clock.wall_s(), zone_of(self._live.current)).replace(tzinfo=None)

    def _people_expected(self) -> bool:
        return people_expected(self._local_time(), self._live.current.hours, self._live.current.appointments)

    def _open_now(self) -> bool:
        now = self._local_time()
        return now is None or is_open(self._live.current.hours, now)

    def _show_light(self, word: LightWord) -> None:
        self.ticketing.light(word)
        self._light.show(word)

    def _stamp(self) -> Stamp:
        return Stamp(self._clock.wall(), int(self._clock.mono_s() * 1000), self._clock.word(), self._boot_id)

    def _figures(self) -> Mapping[str, float | int]:
        return process.figures() | {"queue_depth": self._store.depth}

    def _agent_view(self) -> AgentView:
        denied = sorted(topic.removeprefix(self._address.root + "/") for topic in self._publisher.denied)
        return AgentView(
            self._store.condition, tuple(denied[:5]), self._echo.heard, self._long_session.endless, self._long_session.openable,
            self._configurer.drifted, self._takeovers.recent, None if self._updates is None else self._updates.reporter.failed,
            self._certificate_days(),
        )  # fmt: skip

    def _certificate_days(self) -> int | None:
        not_after_s = self._certificate.not_after_s
        if not_after_s is None or self._clock.below_floor():
            return None
        return math.floor((not_after_s - self._clock.wall_s()) / 86_400)

    async def _broker_view(self) -> BrokerView:
        host = self._live.current.broker.host
        if not self._mqtt.connected:
            error = self._mqtt.last_error
            return BrokerView(None if error is None else f"{error.stage}:{error.reason}", host)
        figures = self._mqtt.figures
        if figures is None:
            return BrokerView("connected", host, self._mqtt.local_host)
        return BrokerView(
            "connected", host, self._mqtt.local_host, round(figures.rtt_ms, 1), figures.segments_out, figures.retransmitted
        )

    async def _send_bundle(self, id_: str, max_bytes: int, heard: Heard) -> Result:
        """What it takes is loaded with the first bundle that is asked for."""
        if self._bundles is None:
            from agent.engine.bundle import Bundles  # noqa: PLC0415
            from agent.self_description import SelfDescription  # noqa: PLC0415
            from agent.system.collecting import collected  # noqa: PLC0415

            described = SelfDescription(
                self._address, self._boot_id, lambda: self._reporter.booth.board,
                lambda: (self._clock.wall(), self._clock.word()), lambda: self._live.current, self._configured,
                self._publisher, self._ward, self._mqtt, self._store, self._figures,
            )  # fmt: skip
            self._bundles = Bundles(
                self._address, self._publisher, lambda size: collected(described(size)), lambda: self._live.current.broker.url
            )
        return await self._bundles.send(id_, max_bytes, heard)

    def _source_of(self, name: str) -> Callable[[Any], Any]:
        def opened(signals: Any) -> Any:
            configured = self._configured[name]  # as it is now: it may be opened anew with other options
            return configured.peripheral.open(configured.options, self._surroundings, signals)

        return opened

    def _booth(self) -> Booth:
        settings = self._live.current
        rules = sorted((self._machine.lockdown.report() or {}).get("sections", {}))
        return Booth(
            address=self._address,
            boot_id=self._boot_id,
            board=board_of(self._machine.files),
            hours=settings.hours,
            services=settings.services,
            heartbeat_s=settings.reporting.heartbeat_s,
            telemetry_s=settings.reporting.telemetry_s,
            alarm_after_s=settings.reporting.alarm_after_s,
            checks_every_s=settings.checks.every_s,
            capabilities=Capabilities(commands={}, policy_rules=rules, light=list(SHOWN)),
        )

    def _offered_commands(self) -> dict[str, dict[str, Any]]:
        """The verbs that this booth has something for."""
        return {
            name: verb.schema()
            for name, verb in declared_verbs().items()
            if verb.ability is None or self._controls.able(verb.ability)
        }

    def _keeper_of_light(self) -> LightKeeper | None:
        settings = self._live.current.light
        lamp = lamp_of(settings, self._machine.files, self._runtime_dir)
        return None if lamp is None else LightKeeper(lamp, settings.dim_pct, lambda: not self._open_now())

    def _button_of(self, session: SessionLock, recorder: Recorder) -> Button:
        restarting = Mode(self._clock.wall_s, self._mode_changed)
        self._reporter.restarting = lambda: restarting.on
        return Button(
            self.ticketing.pressed, self._controls.reboot, restarting, session, recorder.of_booth, self._store.flushed,
            self._clock.mono_s,
        )  # fmt: skip

    def _updates_of(self, session: SessionLock, recorder: Recorder, state_dir: Path) -> "Updates":
        # Imported where root's part is installed.
        from agent.engine.update_parts import Quiet, Self  # noqa: PLC0415
        from agent.engine.update_reporter import UpdateReporter  # noqa: PLC0415
        from agent.engine.updates import Updates  # noqa: PLC0415
        from agent.system.downloads import Downloads  # noqa: PLC0415

        own = Self(
            self._address.booth, VERSION, self._boot_id, lambda: all(watch.settled.is_set() for watch in self._watches.values()),
            lambda: self._store.condition in ("ok", "full"), lambda: self._echo.heard is True, self._stop.set,
        )  # fmt: skip
        quiet = Quiet(session, self._open_now, self._clock.mono_s, lambda: self._live.current.updates.spread_s)
        reporter = UpdateReporter(
            self._publisher, self._address.reported("update"), self._clock.wall, recorder.of_booth,
            lambda told: self._store.save("update", told), self._update_changed,
        )  # fmt: skip
        updates = Updates(
            reporter, recorder.of_booth, self._machine.updates,
            Downloads(state_dir / "downloads", lambda: self._live.current.updates.rate_kib_s * 1024.0),
            own, quiet, self._update_changed,
        )  # fmt: skip
        updates.ask_again = self._mqtt.subscribe_again
        self._reporter.updating = lambda: updates.working
        return updates

    def _update_changed(self) -> None:
        self._reporter.modes_changed()
        self._own_state_changed()

    def _start_kernel_events(self) -> None:
        try:
            self._machine.uevents.start()
        except OSError as error:
            log.warning("no kernel events about devices (%s): absent devices are tried at their interval", error.strerror)
        try:
            self._lockdown.listen(self._runtime_dir / "lockdown-news.sock", self._configurer.root_reported)
        except OSError as error:
            log.warning("root cannot tell when it measured something (%s)", error.strerror)
        try:
            if self._live.current.button is not None:
                self._button_socket.listen(self._button.heard)
        except OSError as error:
            log.warning("the button cannot be heard (%s)", error.strerror)
        try:
            self._machine.links.watch(self._links_changed)
        except OSError as error:
            log.warning("no kernel events about the network (%s): it is looked at at its interval", error.strerror)

    def _links_changed(self) -> None:
        """A way out came back: do not wait for the backoff's end, but not all booths of a street at once either."""
        try:
            routed = bool(self._machine.links.snapshot().default_routes)
        except OSError:
            return
        if not routed:
            self._takeovers.link_lost()
        if routed and not self._routed and not self._mqtt.connected:
            asyncio.get_running_loop().call_later(between(0.2, 2.0), self._mqtt.retry_now)
        self._routed = routed


async def serve(settings: Settings, state_dir: Path, runtime_dir: Path) -> None:
    """Run the agent until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for settled_s in _SETTLED_S:
        loop.call_later(settled_s, process.return_free_memory)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Agent(settings, state_dir, runtime_dir=runtime_dir).run(stop)
