"""One peripheral under watch: probed at events and intervals, judged, never able to stop anything else."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from agent.contract.words import printable
from agent.peripherals.declaration import Peripheral, Signals, Source
from agent.rules.declaration import Identity, Observed, Reading, Unreadable
from agent.rules.health import Change, Judgement, Now, aged, judge

log = logging.getLogger(__name__)

_MIN_GAP_S: Final = 0.1  # between probes, however often a device wakes us
_PUSHES_A_SECOND: Final = 20  # judged at once; of what a device says beyond that, the newest
_SLACK_S: Final = 30.0
_OPEN_AGAIN_S: Final = 60.0  # a source that could not be opened
_OWED_AGAIN_S: Final = 15.0  # an active check that a citizen's session put off; nothing announces a session's end


@dataclass(frozen=True)
class Port:
    """A physical port, what was plugged in there, and what `agent.toml` called that."""

    slot: str
    held: str
    device: str


class Watch:
    """Runs one source. `on_judged` is called after every judgement, with what came and went.

    `judgement` and `reading` are what is believed and what was measured last. `settled` is set once the first
    probe is over, `judged_once` once there was a reading.
    """

    def __init__(
        self,
        name: str,
        peripheral: Peripheral,
        options: Any,
        now: Callable[[], Now],
        on_judged: "Callable[[Watch, tuple[Change, ...]], None]",
        in_slot: Callable[[str], str | None] = lambda _slot: None,
    ) -> None:
        """`in_slot` names the device that is plugged in at a physical port, if any."""
        self.name = name
        self.peripheral = peripheral
        self.judgement = Judgement(since=now().wall)
        self.reading = Reading()
        self.identity = Identity()
        self.port: Port | None = None  # where it was plugged in last, if on USB
        self.left_alone = False  # at its last active check: nothing can be known of it now
        self.settled = asyncio.Event()
        self.judged_once = asyncio.Event()
        self._options = options
        self._now = now
        self._on_judged = on_judged
        self._in_slot = in_slot
        self._observed: list[Observed] = []
        self._woken = asyncio.Event()
        self._active_owed = True  # the first look of the day is a real one
        self._needs_checks = False
        self._reports = 0
        self._pushes = 0
        self._pushed: Reading | None = None
        self._push_timer: asyncio.TimerHandle | None = None
        self._read_at: Now | None = None
        self._rejudge: asyncio.TimerHandle | None = None
        self._expected_by_s = now().mono_s + peripheral.deadline_s + _SLACK_S
        self._source: Source | None = None
        self._noted: tuple[Observed, ...] = ()
        self._turn = asyncio.Lock()  # of whoever uses the device: a probe, or a remedy
        self._held = False
        self._open_anew = False

    async def run(self, open_source: Callable[[Signals], Source]) -> None:
        """Until cancelled."""
        while True:
            while (source := self._open(open_source)) is None:
                await self._rest(_OPEN_AGAIN_S)
            self._open_anew = False
            await self._watch(source)

    def adopt(self, options: Any) -> None:
        """Go on with other options: the source is opened anew, what is believed stays."""
        self._options = options
        self._open_anew = True
        self.wake(active=True)

    async def _watch(self, source: Source) -> None:
        """Until it has to be opened anew."""
        self._source = source
        try:
            while True:
                async with self._turn:
                    if self._open_anew:
                        return
                    interval_s = await self._round(source)
                if not self._open_anew:
                    await self._rest(interval_s)
        finally:
            self._source = None
            for timer in (self._rejudge, self._push_timer):
                if timer is not None:
                    timer.cancel()
            await source.close()

    @property
    def source(self) -> Source | None:
        """What measures; None while it could not be opened."""
        return self._source

    @contextlib.asynccontextmanager
    async def held(self, for_s: float) -> AsyncIterator[None]:
        """Nobody else uses the device meanwhile, and what it says is not listened to: one that is being reset says a lot.
        `for_s` is the longest that this may take."""
        async with self._turn:
            self._held = True
            self._expected_by_s = self._now().mono_s + for_s + self.peripheral.deadline_s + _SLACK_S
            try:
                yield
            finally:
                self._held = False
                self._expected_by_s = self._now().mono_s + _SLACK_S
                self._woken.set()  # what was said meanwhile has to be asked for

    async def look(self) -> frozenset[str] | None:
        """Use the device, inside `held`, and judge what is seen. The codes that this one look shows; None where nothing could be
        told."""
        if self._source is None:
            return None
        reading, _ = await self._probe(self._source, active=True)
        if reading is None or reading.untried:
            return None
        before = {finding.code for finding in self.judgement.findings}
        self._judge(reading)
        return frozenset(item.code for item in self._observed if not item.holds_only or item.code in before)

    async def fresh(self, *, active: bool) -> bool:
        """Probe now, beside the interval, and judge; False where the device is left alone, or cannot be asked."""
        async with self._turn:
            if self._source is None:
                return False
            expected_by_s = self._expected_by_s
            try:
                reading, failed = await self._probe(self._source, active=active)
            finally:  # also where nobody waits for it any more: the interval goes on
                self._expected_by_s = max(expected_by_s, self._now().mono_s + _SLACK_S)
            if reading is None:
                return False
            self._active_owed &= not active or failed
            self._judge(reading)
            return not reading.untried

    def note(self, observed: Observed | None) -> None:
        """Something that no probe can see is wrong with it, until further notice; None takes it back."""
        self._noted = () if observed is None else (observed,)

    def report(self, reading: Reading) -> None:
        """What the device said by itself: judged at once, but for a device that does not stop talking."""
        if self._held:
            return
        self._reports += 1
        if self._push_timer is None:
            self._push_timer = asyncio.get_running_loop().call_later(1.0, self._push_again)
        self._pushes += 1
        if self._pushes > _PUSHES_A_SECOND:
            self._pushed = reading
            return
        self._judge(reading)
        if reading.unreadable is not None:
            self._woken.set()  # the interval now is another one

    def wake(self, *, active: bool = False) -> None:
        """Probe now. An `active` check stays owed until it gave a reading: a citizen's session only puts it off."""
        self._active_owed |= active
        self._woken.set()

    def on_time(self) -> bool:
        """Whether the scheduler does its work: a probe may hang up to its deadline, not longer."""
        return self._now().mono_s <= self._expected_by_s

    def age(self, max_age_s: float, max_unchecked_s: float) -> None:
        """Stop believing what is older than `max_age_s`; of what only an active check can tell, `max_unchecked_s`. A check
        that a session put off makes nothing unknown: the session would show."""
        if self._active_owed:
            return
        judgement = aged(self.judgement, max_unchecked_s if self._needs_checks else max_age_s, self._now())
        if judgement is not self.judgement:
            self.judgement = judgement
            self._on_judged(self, ())

    def _open(self, open_source: Callable[[Signals], Source]) -> Source | None:
        try:
            return open_source(self)
        except Exception as error:  # noqa: BLE001 - see _failed
            self._judge(self._failed(error))
            return None

    def _push_again(self) -> None:
        self._push_timer = None
        self._pushes = 0
        reading, self._pushed = self._pushed, None
        if reading is not None:
            self.report(reading)

    async def _round(self, source: Source) -> float:
        """One probe and what it leads to. Returns the seconds until the next one."""
        self._woken.clear()
        reports = self._reports
        active, self._active_owed = self._active_owed, False
        reading, failed = await self._probe(source, active=active)
        self.left_alone = active and reading is None
        self._active_owed |= active and failed
        if reading is None:
            self._active_owed |= active
            self._needs_checks |= not active
        elif reports == self._reports:
            self._judge(reading)
        else:  # the device said something newer while it was being asked: ask again
            self.wake(active=active)
        self.settled.set()
        interval_s = source.interval_s()
        return min(interval_s, _OWED_AGAIN_S) if self._active_owed else interval_s

    async def _probe(self, source: Source, *, active: bool) -> tuple[Reading | None, bool]:
        """The reading, and whether it was the probe that failed, not the device."""
        started_s = self._now().mono_s
        self._expected_by_s = started_s + self.peripheral.deadline_s + _SLACK_S
        try:
            async with asyncio.timeout(self.peripheral.deadline_s):
                return await source.probe(active=active), False
        except TimeoutError:
            reason = f"no result in {self.peripheral.deadline_s:g} s"
            return Reading(unreadable=Unreadable("not-responding", {"reason": reason})), True
        except Exception as error:  # noqa: BLE001 - see _failed
            return self._failed(error), True

    def _judge(self, reading: Reading) -> None:
        self.reading = reading
        if not reading.untried:
            self._read_at = self._now()
        if reading.identity != Identity():
            self.identity = reading.identity
            self._note_port(reading.identity.slot)
        try:
            self._observed = [*self._replaced(self.peripheral.findings_of(reading, self._options)), *self._noted]
        except Exception as error:  # noqa: BLE001 - see _failed
            self.reading = self._failed(error)
            self._observed = self.peripheral.findings_of(self.reading, self._options)
        self._believe()

    def _note_port(self, slot: str | None) -> None:
        if slot is not None and slot.startswith("usb-") and (held := self._in_slot(slot)) is not None:
            self.port = Port(slot, held, self.device)

    @property
    def device(self) -> str:
        """What `agent.toml` calls it."""
        return str(getattr(self._options, "device", ""))

    def _replaced(self, observed: list[Observed]) -> list[Observed]:
        """A device that is missing while another one is plugged in at its port was not unplugged, but replaced."""
        if not self.peripheral.pluggable or self.port is None or not any(item.code == "no-device" for item in observed):
            return observed
        found = self._in_slot(self.port.slot)
        if found in (None, self.port.held):
            return observed
        return [Observed("device-changed", {"found": found}) if item.code == "no-device" else item for item in observed]

    def _failed(self, error: Exception) -> Reading:
        """Whatever a peripheral raises ends here: a bug in one must not silence the others."""
        if not any(finding.code == "probe-failed" for finding in self.judgement.findings):
            log.error("probe failed", exc_info=error, extra={"peripheral": self.name})
        return Reading(unreadable=Unreadable("probe-failed", {"error": type(error).__name__, "text": printable(str(error))}))

    def _believe(self) -> None:
        now = self._now()
        before = self.judgement
        judgement, changes = judge(before, self._observed, self.peripheral.finding_kinds, now)
        judgement = replace(judgement, checked=self._read_at)  # a debounce that ends is no new reading
        if self.reading.untried and judgement.status == "ok":
            since = before.since if before.status == "unknown" else now.wall
            judgement = replace(judgement, status="unknown", since=since)
        self.judgement = judgement
        if self._rejudge is not None:
            self._rejudge.cancel()
            self._rejudge = None
        due_in_s = self.judgement.due_in_s(self.peripheral.finding_kinds, now)
        if due_in_s is not None:
            self._rejudge = asyncio.get_running_loop().call_later(due_in_s + 0.01, self._believe)
        self.judged_once.set()
        self.settled.set()
        self._on_judged(self, changes)

    async def _rest(self, interval_s: float) -> None:
        """Until the interval is over, or something wakes us; one wake-up of the processor where nothing does."""
        probed_s = self._now().mono_s
        self._expected_by_s = probed_s + interval_s + _SLACK_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(interval_s):
                await self._woken.wait()
        left_s = probed_s + _MIN_GAP_S - self._now().mono_s
        if left_s > 0:
            await asyncio.sleep(left_s)
