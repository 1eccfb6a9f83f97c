"""From judgements to messages: health, services, alarms, the light, events, telemetry. Contract §2 to §6, §9, §10."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal, Protocol

from agent import VERSION
from agent.contract import alarm as contract_alarm
from agent.contract.decode import encode
from agent.contract.event import EventClass
from agent.contract.messages import PUBLISHED, Message
from agent.contract.state import Board, Capabilities, Hours, Meta, State
from agent.contract.topics import Address
from agent.contract.typed import plain
from agent.contract.words import ClockWord, LightWord, ServiceWord
from agent.engine.alarms import Alarms
from agent.engine.memory import Remembered
from agent.engine.payloads import Care, NoCare, health_of, meta_of, status_of
from agent.engine.publish import Publisher
from agent.engine.watch import Watch
from agent.rules.alarms import Alarm
from agent.rules.declaration import Identity
from agent.rules.health import Change, Finding, Judgement, Now
from agent.rules.light import light
from agent.rules.services import PeripheralState, ServiceRule, services, touched_by

log = logging.getLogger(__name__)

Priority = Literal[0, 1, 2]
STARTING_S: Final = 25.0  # a device that has not answered its first question by then holds the booth up no longer

_PRIORITIES: Final[Mapping[str, Priority]] = {"info": 0, "warning": 2, "fault": 2}


class Recorder(Protocol):
    """Where events and memory go: the store, as the engine needs it."""

    def event(self, class_: EventClass, code: str, peripheral: str | None, data: dict[str, Any], priority: Priority) -> None: ...
    def save(self, key: str, value: Any) -> None: ...


@dataclass(frozen=True)
class Booth:
    """What does not change while the agent runs."""

    address: Address
    boot_id: str
    board: Board
    hours: Hours
    services: Mapping[str, ServiceRule]
    heartbeat_s: float
    telemetry_s: float
    alarm_after_s: float
    checks_every_s: float
    capabilities: Capabilities


class Reporter:
    """Holds what the booth says of itself. `watches` must be complete before `start`."""

    def __init__(
        self,
        booth: Booth,
        publisher: Publisher,
        recorder: Recorder,
        now: Callable[[], Now],
        clock_word: Callable[[], ClockWord],
        own_figures: Callable[[], Mapping[str, float | int]],
        show_light: Callable[[LightWord], None] = lambda _: None,
        in_use: Callable[[], bool] = lambda: True,
    ) -> None:
        """`in_use` says whether the booth is open: what was last checked yesterday evening is not too old before. `care` may be
        set before the start."""
        self.care: Care = NoCare()
        self.maintained: Callable[[], bool] = lambda: False
        self.located: Callable[[], bool] = lambda: False
        self.restarting: Callable[[], bool] = lambda: False
        self.updating: Callable[[], bool] = lambda: False
        self.booth = booth
        self._publisher = publisher
        self._recorder = recorder
        self._now = now
        self._clock_word = clock_word
        self._own_figures = own_figures
        self._show_light = show_light
        self._in_use = in_use
        self._watches: dict[str, Watch] = {}
        self._said: dict[str, Judgement] = {}
        self._alarms = Alarms(publisher, recorder, booth.address.alarm, self._alarm_payload, self._say_light, self._refresh)
        self._state: Literal["starting", "online", "asleep"] = "starting"
        self._state_since = now().wall
        self._session = ""
        self._identities: dict[str, Identity] = {}
        self._said_clock: ClockWord | None = None
        self._rhythm_changed = asyncio.Event()

    # --- life ---

    def remember(self, remembered: Remembered, watches: Mapping[str, Watch]) -> None:
        """Take over the watches, and what was believed before the restart."""
        self._watches = dict(watches)
        for name, watch in watches.items():
            watch.judgement = remembered.judgements.get(name, watch.judgement)
            port = remembered.ports.get(name)  # devices are replaced while the power is off
            watch.port = port if port is not None and port.device == watch.device else None
        self._alarms.remember(remembered, self._now().mono_s, self._is_configured)
        self._say_meta()
        self._refresh()

    async def run(self) -> None:
        """Go online once everything was judged, then keep saying what would expire."""
        self._recorder.event("lifecycle", "started", None, {"agent": VERSION}, 1)
        first = [asyncio.ensure_future(watch.settled.wait()) for watch in self._watches.values()]
        try:
            await asyncio.wait(first, timeout=STARTING_S)
        finally:
            for waiting in first:
                waiting.cancel()
        for watch in self._watches.values():
            if watch.name not in self._said:  # left alone because of a session: unknown is said, too
                self._say_health(watch)
        self._set_state("online")
        async with asyncio.TaskGroup() as group:
            group.create_task(self._heartbeats())
            group.create_task(self._telemetry())

    def adopt(self, booth: Booth) -> None:
        """Another configuration: what it changes is said at once."""
        gone = set(self._services())
        self.booth = booth
        for service in gone - set(self._services()):
            self._publisher.retain("service", booth.address.service(service), b"")
        self._rhythm_changed.set()
        self._say_meta()
        self._refresh()

    def modes_changed(self) -> None:
        """`maintained`, `located`, `restarting` or `updating` answers differently."""
        self._refresh()

    def show_light_again(self) -> None:
        """The light is another one."""
        self._show_light(self._word_of_light())

    def goodbye(self) -> Message:
        """What a broker is told that is left for another one."""
        return self._state_message("asleep", self._session)

    def connected(self, session: str) -> None:
        """A new connection: the birth message first, then everything retained again."""
        self._session = session
        self._say_state()
        self._publisher.connected(first=(self.booth.address.state, self.booth.address.meta))

    def last_will(self, session: str) -> Message:
        """What the broker says in our stead when it loses us."""
        return self._state_message("lost", session)

    def farewell(self) -> Message:
        """The last message of a clean shutdown; also records it."""
        self._set_state("asleep", say=False)
        self._recorder.event("lifecycle", "stopping", None, {}, 1)
        return self._state_message("asleep", self._session)

    def close(self) -> None:
        """Stop the timer."""
        self._alarms.close()

    # --- what comes in ---

    def judged(self, watch: Watch, changes: tuple[Change, ...]) -> None:
        """A peripheral was judged. Says what changed, and nothing if nothing did."""
        for change in changes:
            self._record(watch, change)
        said = self._said.get(watch.name)
        news = said is None or not watch.judgement.same_for_readers(said)
        if news:
            self._say_health(watch)
            self._recorder.save("judgements", Remembered.of_judgements({w.name: w.judgement for w in self._watches.values()}))
        if watch.identity != self._identities.get(watch.name):
            self._recorder.save("ports", {name: plain(other.port) for name, other in self._watches.items() if other.port})
            self._say_meta()
        if news or changes or self._clock_word() != self._said_clock:
            self._refresh()

    def looked_at(self, name: str) -> None:
        """Somebody had it looked at: when that was is news, whatever it showed."""
        self._say_health(self._watches[name])

    def tended(self, name: str) -> None:
        """A remedy for this peripheral began or ended."""
        self._say_health(self._watches[name])
        if self.care.healing(name) is None:
            self._alarms.say_again(name)
        self._refresh()

    def _is_configured(self, alarm: Alarm) -> bool:
        watch = self._watches.get(alarm.peripheral)
        return watch is not None and alarm.code in watch.peripheral.finding_kinds

    def _record(self, watch: Watch, change: Change) -> None:
        finding = change.finding
        data: dict[str, Any] = {"change": change.what, "severity": finding.severity}
        if finding.detail and change.what == "raised":
            data["detail"] = dict(finding.detail)  # capped when it was believed
        self._recorder.event("health", finding.code, watch.name, data, _PRIORITIES[finding.severity])
        log.info("%s %s", finding.code, change.what, extra={"peripheral": watch.name, "code": finding.code})

    # --- what goes out ---

    def _refresh(self) -> None:
        """Alarms, services and light follow from the judgements; each is said when it changes."""
        unknown = {name for name, watch in self._watches.items() if status_of(watch) == "unknown"}
        standing = {
            (name, finding.code): self._whose(name, finding)
            for name, watch in self._watches.items()
            if name not in unknown
            for finding in watch.judgement.findings
            # Whoever works there causes faults: what alarmed before goes on to, until it is mended.
            if not self.maintained() or self._alarms.is_raised((name, finding.code))
        }
        self._alarms.follow(standing, unknown, self.booth.alarm_after_s, self._now())
        self._say_services()
        self._say_state()
        self._say_light()

    def _whose(self, name: str, finding: Finding) -> Finding:
        """A finding that should have healed by itself and did not is a technician's."""
        if finding.fix_by == "auto" and self.care.escalated(name, finding):
            return replace(finding, fix_by="technician")
        return finding

    # --- what others may ask ---

    def services_now(self) -> dict[str, ServiceWord]:
        """Each service that is offered, with its word."""
        return self._services()

    def is_told(self, name: str, code: str) -> bool:
        """Whether the broker has this alarm, so that a technician can know of it."""
        return self._alarms.is_told((name, code))

    def whose(self, name: str, finding: Finding) -> Finding:
        """The finding with the fixer that it has by now."""
        return self._whose(name, finding)

    def _say_health(self, watch: Watch) -> None:
        self._said[watch.name] = replace(watch.judgement, status=status_of(watch))
        health = health_of(watch, self.care.healing(watch.name), partial(self._whose, watch.name))
        self._publisher.retain("health", self.booth.address.health(watch.name), encode(plain(health)))

    def _alarm_payload(self, alarm: Alarm) -> contract_alarm.Alarm:
        watch = self._watches[alarm.peripheral]
        kind = watch.peripheral.finding_kinds[alarm.code]
        offered = self._services()
        return contract_alarm.Alarm(
            code=alarm.code,
            peripheral=alarm.peripheral,
            severity=alarm.severity,
            fix_by=alarm.fix_by,
            services=touched_by(self.booth.services, offered, watch.peripheral.kind, alarm.code, alarm.severity),
            since=alarm.since,
            clock=self._clock_word(),
            tried=self.care.tried(alarm.peripheral, alarm.code),
            part=kind.part,
            runbook=f"{watch.peripheral.kind}/{alarm.code}",
            text=kind.text,
        )

    def _services(self) -> dict[str, ServiceWord]:
        states = [
            PeripheralState(name, watch.peripheral.kind, status_of(watch), watch.judgement.findings)
            for name, watch in self._watches.items()
        ]
        return services(self.booth.services, states, maintenance=self.maintained())

    def _say_services(self, *, urgent: bool = False) -> None:
        for service, word in self._services().items():
            self._retain_if_changed("service", self.booth.address.service(service), word.encode(), urgent=urgent)

    def _say_light(self) -> None:
        word = self._word_of_light()
        self._retain_if_changed("led", self.booth.address.led, word.encode())
        self._show_light(word)

    def _word_of_light(self) -> LightWord:
        working = self.care.working or self.maintained() or self.restarting() or self.updating()
        return light(self._alarms.all, starting=self._state == "starting", locate=self.located(), working=working)

    def _say_state(self, *, urgent: bool = False) -> None:
        self._said_clock = self._clock_word()
        if self._session:
            payload = self._state_message(self._state, self._session).payload
            self._retain_if_changed("state", self.booth.address.state, payload, urgent=urgent)

    def _say_meta(self) -> None:
        self._identities = {name: watch.identity for name, watch in self._watches.items()}
        meta = Meta(
            agent=VERSION,
            contract=1,
            board=self.booth.board,
            hours=self.booth.hours,
            peripherals={name: meta_of(watch) for name, watch in self._watches.items()},
            capabilities=self.booth.capabilities,
        )
        self._retain_if_changed("meta", self.booth.address.meta, encode(plain(meta)))

    def _retain_if_changed(self, kind: str, topic: str, payload: bytes, *, urgent: bool = False) -> None:
        if self._publisher.current(topic) != payload:
            self._publisher.retain(kind, topic, payload, urgent=urgent)

    def _set_state(self, state: Literal["starting", "online", "asleep"], *, say: bool = True) -> None:
        self._state = state
        self._state_since = self._now().wall
        if say:
            self._say_services(urgent=True)
            self._say_state(urgent=True)
            self._refresh()

    def _state_message(self, state: Literal["starting", "online", "asleep", "lost"], session: str) -> Message:
        offered = self._services()
        known: dict[str, ServiceWord] = offered if state in ("starting", "online") else dict.fromkeys(offered, "unknown")
        payload = State(
            state=state,
            session=session,
            boot_id=self.booth.boot_id,
            agent=VERSION,
            since=self._state_since if state == self._state else self._now().wall,
            clock=self._clock_word(),
            services=known,
        )
        kind = PUBLISHED["state"]
        return Message(self.booth.address.state, encode(plain(payload)), kind.qos, kind.retained)

    # --- what time brings ---

    async def _pause(self, seconds: Callable[[], float]) -> None:
        """So long, from its beginning, also where another rhythm is adopted meanwhile."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        while (left_s := began_s + seconds() - loop.time()) > 0:
            self._rhythm_changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._rhythm_changed.wait()

    async def _heartbeats(self) -> None:
        while True:
            await self._pause(lambda: self.booth.heartbeat_s)
            for watch in self._watches.values():
                if self._in_use():
                    heartbeat_s, checks_every_s = self.booth.heartbeat_s, self.booth.checks_every_s
                    watch.age(2 * heartbeat_s, 2 * max(heartbeat_s, checks_every_s))
                self._say_health(watch)
            self._publisher.refresh_expiring()

    async def _telemetry(self) -> None:
        while True:
            await self._pause(lambda: self.booth.telemetry_s)
            self._publisher.send_once("tele", self.booth.address.telemetry("agent"), encode(dict(self._own_figures())))
            for name, watch in self._watches.items():
                facts = watch.peripheral.all_facts(watch.reading)
                numbers = {fact.name: facts[fact.name] for fact in watch.peripheral.facts if fact.telemetry}
                if any(value is not None for value in numbers.values()):
                    self._publisher.send_once("tele", self.booth.address.telemetry(name), encode(numbers))
