"""The kiosk: the browser application that the citizen sees. Does it run, and does it still move?"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Annotated, Final

from agent.contract.alarm import Text
from agent.contract.health import FactValue
from agent.contract.typed import Pattern, Range
from agent.devices import cgroup
from agent.peripherals.declaration import LOCAL, Peripheral, Signals, act
from agent.peripherals.surroundings import Surroundings
from agent.rules.declaration import Fact, FindingKind, Observed, Reading, Unreadable
from agent.rules.ladder import Remedy

HEARTBEAT_NAME: Final = "kiosk-heartbeat"

_GROUP: Final = r"/sys/fs/cgroup(?:/(?!\.\.?(?:/|$))[^/]+)+/?"
_DOWN_S: Final = 2.0  # between looks at an application that does not run: nothing announces its start
_SHORT_S: Final = 60.0  # a run that ends sooner is a crash; a longer one may be a citizen's session
_SHORT_RUNS: Final = 5  # so many within _SHORT_RUNS_WITHIN_S, and no citizen gets anything done between them
_SHORT_RUNS_WITHIN_S: Final = 600.0


@dataclass(frozen=True)
class Options:
    """`unit`: the system unit that runs the application; `cgroup` instead, for a user's unit or one in a slice of its own.

    `heartbeat`: the file that the application touches while it moves. Where it is named here, its absence counts as standing
    still; the default one in the runtime directory is always there, and counts once it was seen to be touched, since an
    application may know nothing of it.
    """

    unit: Annotated[str | None, Pattern(r"[A-Za-z0-9:_.\\@-]+\.service", "a unit's name, such as booth-kiosk.service")] = field(
        default=None, metadata=LOCAL
    )
    cgroup: Annotated[str | None, Pattern(_GROUP, "a whole path below /sys/fs/cgroup, without ..")] = field(
        default=None, metadata=LOCAL
    )
    heartbeat: Annotated[str | None, Pattern("/.+", "a whole path, such as /run/kiosk/heartbeat")] = field(
        default=None, metadata=LOCAL
    )
    frozen_after_s: Annotated[float, Range(5, 3600)] = 60.0
    interval_s: Annotated[float, Range(1, 300)] = 15.0


# Where lockdown/hours.py masks the unit while the booth is closed.
_MASKS: Final = "run/systemd/system.control"


def find(facts: Mapping[str, FactValue], options: Options) -> Iterable[Observed]:
    """One that does not run cannot freeze. One that ends again and again runs most of the time, and serves nobody."""
    if facts["running"] is False:
        if not facts["closed"]:
            yield Observed("app-not-running")
        return
    if facts["restarting"]:
        yield Observed("app-not-running", {"reason": "ends again and again"}, certain=True)
    age_s = facts["heartbeat_age_s"]
    if isinstance(age_s, int | float) and age_s >= options.frozen_after_s:
        yield Observed("app-frozen")


class KioskSource:
    """Looks and never touches, so it looks during a session too; nothing that it says tells of one."""

    def __init__(self, options: Options, surroundings: Surroundings, signals: Signals) -> None:
        self._options = options
        self._files = surroundings.files
        self._signals = signals
        self._has_unit = options.unit is not None or options.cgroup is not None
        self._heartbeat = _Heartbeat(
            Path(options.heartbeat or surroundings.runtime_dir / HEARTBEAT_NAME), promised=options.heartbeat is not None
        )
        self._running: bool | None = None
        self._announced = False
        self._identity: int | None = None
        self._started_s: float | None = None  # of the run that is on, or was last; None for one that was on before us
        self._short_ends: deque[float] = deque()
        self._unwatch: Callable[[], None] | None = None

    async def probe(self, *, active: bool) -> Reading | None:
        del active  # looking is all there is
        now_s = monotonic()
        if self._has_unit:
            group = self._group()
            if group is None:
                reason = "the kernel has no control groups of version 2 at /sys/fs/cgroup"
                return Reading(unreadable=Unreadable("probe-failed", {"reason": reason}))
            self._look(group, now_s)
        age_s = None if self._running is False else self._heartbeat.age_s(now_s)
        facts: dict[str, FactValue] = {
            "running": self._running,
            "closed": None if self._options.unit is None else self._files.path(f"{_MASKS}/{self._options.unit}").exists(),
            "restarting": len(self._short_ends) >= _SHORT_RUNS,
            "heartbeat_age_s": None if age_s is None else round(age_s, 1),
        }
        return Reading(facts)

    def interval_s(self) -> float:
        return min(_DOWN_S, self._options.interval_s) if self._running is False else self._options.interval_s

    async def close(self) -> None:
        self._end_watch()

    def _group(self) -> str | None:
        root = cgroup.root(self._files)
        if root is None or self._options.cgroup is not None:
            return root and (self._options.cgroup or "").lstrip("/")
        return f"{root}/{cgroup.of_unit(self._options.unit or '')}"

    def _look(self, group: str, now_s: float) -> None:
        identity = cgroup.identity(self._files, group)
        anew = self._announced or identity != self._identity
        self._announced, self._identity = False, identity
        if anew:
            self._end_watch()  # a unit that starts again may have another group of the same name
        if self._unwatch is None:
            try:
                # Before the look: what changes after it is announced.
                self._unwatch = self._files.watch(cgroup.events(group), self._changed)
            except OSError:
                self._unwatch = None  # it does not run: the interval sees when it does
        running = cgroup.populated(self._files, group)
        # Running before and after, and something happened: it was down in between.
        ended = self._running and (anew or not running)
        if ended and self._started_s is not None and now_s - self._started_s <= _SHORT_S:
            self._short_ends.append(now_s)
        if running and self._running is not None and (anew or not self._running):
            self._started_s = now_s
            self._heartbeat.wait_anew(now_s)
        while self._short_ends and now_s - self._short_ends[0] > _SHORT_RUNS_WITHIN_S:
            self._short_ends.popleft()
        self._running = running
        if not running:
            self._end_watch()

    def _changed(self) -> None:
        self._announced = True
        self._signals.wake()

    def _end_watch(self) -> None:
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None


class _Heartbeat:
    """How long ago a file was last seen to be touched, by a clock that never jumps.

    Its time stamp is compared with itself only: the wall clock may be years off when a booth starts. So what happened
    before the first look is not known. The first look at a `promised` one counts as a touch; another begins to count when
    its time stamp changes.
    """

    def __init__(self, file: Path, *, promised: bool) -> None:
        self._file = file
        self._promised = promised
        self._stamp_ns: int | None = None
        self._touched_s: float | None = None

    def age_s(self, now_s: float) -> float | None:
        """None: there is no heartbeat, and none has to be."""
        try:
            stamp_ns = self._file.stat().st_mtime_ns
        except OSError:
            stamp_ns = None
        if self._promised and self._touched_s is None:
            self._touched_s = now_s
        if stamp_ns is not None and stamp_ns != self._stamp_ns:
            if self._promised or self._stamp_ns is not None:
                self._touched_s = now_s
            self._stamp_ns = stamp_ns
        return None if self._touched_s is None else now_s - self._touched_s

    def wait_anew(self, now_s: float) -> None:
        """The application has just started: it has time until its first touch."""
        if self._touched_s is not None:
            self._touched_s = now_s


# Between sessions only: one that holds the session lock and is frozen is left alone, and says so.
_LADDER: Final = (
    Remedy(
        "restart-kiosk", frozenset({"app-not-running", "app-frozen"}), act("restart-kiosk"),
        deadline_s=20.0, settle_s=20.0, max_attempts=3, cooldown_s=120.0,
    ),
)  # fmt: skip

PERIPHERAL = Peripheral(
    kind="kiosk",
    noun=Text("l'application de la borne", "the booth's application"),
    options=Options,
    facts=(
        Fact("running", "boolean", "a process of the application lives; null where no unit is configured"),
        Fact("closed", "boolean", "the policy keeps the application stopped outside its hours; null where no unit is configured"),
        Fact("restarting", "boolean", "5 times or more within 10 minutes it ended less than a minute after its start"),
        Fact("heartbeat_age_s", "number", "since the application was last seen to move; null where it has no heartbeat", "s"),
    ),
    findings=(
        FindingKind(
            "app-not-running", "fault", "auto",
            Text("L'application de la borne ne fonctionne pas.", "The booth's application is not running."),
            raise_after_s=10.0,  # it is started anew at the end of a session, and by systemd after a crash
        ),
        FindingKind(
            "app-frozen", "fault", "auto",
            Text("L'application de la borne est bloquée.", "The booth's application is frozen."),
        ),
    ),
    find=find,
    open=KioskSource,
    deadline_s=2.0,
    ladder=_LADDER,
)  # fmt: skip
