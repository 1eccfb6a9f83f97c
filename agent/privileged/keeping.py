"""Root's part of the policy, in one run: take a document, apply, measure, correct, and say what was seen."""

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from agent.contract.decode import BadJson, decode_object, encode
from agent.contract.documents import DocumentError, LayerName, Refusal, ReportedStatus
from agent.contract.typed import Invalid, Range, build, plain
from agent.documents import disk, files
from agent.documents.judge import Judged
from agent.documents.report import errors_of
from agent.documents.shelf import Shelf
from agent.documents.trust import next_trust
from agent.lockdown import rules
from agent.lockdown.rule import Rule
from agent.privileged import expected, place
from agent.privileged.machine import Machine
from agent.privileged.policy import Applied, Policy, read_floor
from agent.privileged.verdict import Ended

RUN: Final = "run/booth-lockdown"
REPORT: Final = "reported.json"
_FLOOR: Final = "usr/lib/booth-agent/floor.json"
_STATE: Final = "var/lib/booth-lockdown"
_NEWS: Final = "run/booth-agent/lockdown-news.sock"
_LOOK_EVERY_S: Final = 1.0
_CONNECT_S: Final = 3.0
_ANSWER_S: Final = 10.0
_CORRECTORS: Final = (
    "booth-lockdown-check.path",
    "booth-lockdown-check.timer",
    "booth-lockdown-next.timer",
    "booth-lockdown-serve.socket",
)
_ROUNDS: Final = 4  # of one check
_SHOWN_S: Final = 2.0  # that there was drift, before it is said that all is well: the daemon reads one file


@dataclass(frozen=True)
class Request:
    kind: Literal["policy", "trust"]
    layer: LayerName
    bytes: Annotated[int, Range(1, 2**31)]  # of which one more than an envelope may have is read


class Lockdown:
    """One run of the program. `reachable` asks whether the broker answers; a test has its own, and its own clock."""

    def __init__(
        self,
        machine: Machine,
        reachable: Callable[[str, int], bool] | None = None,
        mono_s: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
        known: Mapping[str, Rule] | None = None,
    ) -> None:
        self._machine = machine
        self._reachable = reachable or answers
        self._mono_s = mono_s
        self._pause = pause
        self._rules = rules() if known is None else known
        shelf = Shelf(machine.path(_STATE) / "policy")
        self._booth = place.look(machine, shelf.state.newest_issued_at)
        floor = read_floor(machine.path(_FLOOR), self._rules)
        self._policy = Policy(machine, self._rules, floor, shelf, self._booth.place, self._booth.now)
        self._policy.errors = self._load_errors()

    # --- the acts ---

    def apply(self) -> dict[str, Any]:
        """At boot: what was on trial when the power went is taken back, and the policy is applied."""
        self._policy.revert()
        self._settle(self._policy.apply())
        return self._say("applied")

    def check(self) -> dict[str, Any]:
        """Measure; correct what is not as the policy says, and tell of it. What had to wait for a citizen, or does something
        else from now on by itself, is no drift."""
        if self._policy.revert() is not None:  # whoever tried it is gone: this holds the lock
            self._settle(self._policy.apply())
            return self._say("applied")
        first, standing = None, set[str]()
        for _ in range(_ROUNDS):  # what is changed while this runs starts no other run (systemd.path(5))
            stamps = self._stamps()
            drift = self._correct()
            if drift and set(drift) <= standing:
                break  # it was said, and does not get better
            report = self._say("drifted" if drift else "applied", drift=drift)
            first = first or report
            standing = {name for name in drift if report["rules"][name]["measured"] == "violated"}
            if drift:
                self._pause(_SHOWN_S)
            elif self._stamps() == stamps:
                break
        assert first is not None
        return first

    def _stamps(self) -> list[tuple[int, int] | None]:
        """By which it is seen whether a watched file was changed."""
        found: list[tuple[int, int] | None] = []
        for name in sorted({name for rule in self._rules.values() for name in rule.watched}):
            try:
                status = self._machine.path(name).lstat()
                found.append((status.st_ino, status.st_mtime_ns))
            except OSError:
                found.append(None)
        return found

    def _correct(self) -> list[str]:
        self._look_again()
        foreseen = expected.load(self._machine.path(RUN))
        violated, applied = self._policy.correct()
        drift = [name for name in violated if name not in applied.later and not foreseen.covers(name, self._booth.place.now)]
        self._settle(applied)
        return drift

    def undo(self) -> dict[str, str]:
        """Until the booth starts next nothing measures any more: it would put all of it back at once."""
        if self._machine.has("systemctl"):
            with suppress(Ended):
                self._machine.ask("systemctl", "--no-ask-password", "stop", *_CORRECTORS, within_s=_ANSWER_S)
        return self._policy.undo()

    def take(self, request: Request, message: bytes) -> Iterator[dict[str, Any]]:
        """The reports about one document; the last is final."""
        if request.kind == "trust":
            yield self._take_trust(message)
            return
        if self._policy.revert() is not None:  # a trial whose process was killed: what it loosened was never confirmed
            self._settle(self._policy.apply())
        layer = request.layer
        try:
            trust = files.trust_in(self._machine.path(place.CONFIG))
            judged = self._policy.judge(layer, message, self._address(), trust)
            if self._policy.was_reverted(layer, judged):
                yield self._say("reverted")
                return
            if self._policy.is_in_force(layer, judged):
                self._note_errors(layer, [])
                yield self._say("applied")
                return
            broken_before = {name for name, seen in self._policy.measure().items() if seen.state == "violated"}
            self._keep(layer, judged, message)
        except Refusal as refusal:
            self._note_errors(layer, errors_of(layer, refusal))
            yield self._say("rejected", event=refusal.code)
            return
        self._note_errors(layer, [])
        yield from self._try(layer, judged.document.confirm_s, broken_before)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with root's own files."""
        return self._booth.problems

    def _address(self) -> tuple[str, str]:
        if self._booth.address is None:
            raise Refusal("wrong-audience", "", self._booth.problems[0])
        return self._booth.address

    def _keep(self, layer: LayerName, judged: Judged, message: bytes) -> None:
        try:
            self._policy.accept(layer, judged, message)
        except OSError as error:
            raise Refusal("unsupported", "", f"it cannot be kept here: {error.strerror}") from error

    def _try(self, layer: LayerName, confirm_s: float, broken_before: set[str]) -> Iterator[dict[str, Any]]:
        """Apply it; go back unless the broker can be reached with it. What could not be done before either does not count
        against it."""
        yield self._say("applying", measure=False)
        applied = self._policy.apply()
        failed = {name: why for name, why in applied.failed.items() if name not in broken_before}
        errors = [Refusal("unsupported", f"doc.{name}", f"it cannot be applied here: {why}") for name, why in failed.items()]
        if not failed:
            yield self._say("awaiting-confirmation", measure=False)
            if self._reached_within(confirm_s):
                self._policy.confirm()
                self._settle(applied)
                yield self._say("applied", event="applied")
                return
            errors = [Refusal("unsupported", "", f"the broker could not be reached with it within {confirm_s:g} s")]
        # A machine may be able to do tomorrow what it could not do today; a broker that was cut off is not cut off again.
        self._policy.revert(for_good=not failed)
        self._look_again()
        self._settle(self._policy.apply())
        self._note_errors(layer, [error for refusal in errors for error in errors_of(layer, refusal)])
        yield self._say("reverted", event="reverted")

    def _take_trust(self, message: bytes) -> dict[str, Any]:
        folder = self._machine.path(place.CONFIG)
        try:
            current = files.trust_to_replace(folder)
            trust, payload = next_trust(current, message)
        except Refusal as refusal:
            return {"outcome": "refused", "errors": [plain(error) for error in errors_of("fleet", refusal)]}
        if trust == current:
            return {"outcome": "known", "errors": []}
        disk.write(folder, "trust.json", payload, mode=0o644)
        return {"outcome": "accepted", "errors": []}

    def _reached_within(self, seconds: float) -> bool:
        """Whether the broker answers a connection of root's own: new ones are what a policy would cut off."""
        end_s = self._mono_s() + seconds
        while not self._reachable(self._booth.place.broker_host, self._booth.place.broker_port):
            if self._mono_s() >= end_s:
                return False
            self._pause(_LOOK_EVERY_S)
        return True

    # --- what is said ---

    def _say(
        self, status: ReportedStatus, *, drift: Sequence[str] = (), event: str | None = None, measure: bool = True
    ) -> dict[str, Any]:
        measured = self._policy.measure() if measure else {}
        violated = {name for name, seen in measured.items() if seen.state == "violated"}
        if status == "applied" and self._policy.reverted:
            status = "reverted"
        elif status == "applied" and violated:
            status = "pending" if violated <= set(expected.load(self._machine.path(RUN)).owed) else "drifted"
        report = plain(self._policy.report(status, measured))
        if drift:
            report["drift"] = list(drift)
        if event is not None:
            report["event"] = event
        self._publish(report)
        return dict(report)

    def _publish(self, report: dict[str, Any]) -> None:
        """Where the daemon reads it; and a word that there is news. Nobody may be listening."""
        kept = {key: value for key, value in report.items() if key != "event"}
        with suppress(OSError):
            disk.write(self._machine.path(RUN), REPORT, encode(kept), mode=0o644)
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as news:
            news.sendto(b"", str(self._machine.path(_NEWS)))

    def _note_errors(self, layer: LayerName, errors: list[Any]) -> None:
        """In memory of the boot only: a flood of bad documents must not wear the card."""
        if self._policy.errors.get(layer, []) == errors:
            return
        self._policy.errors[layer] = errors
        with suppress(OSError):
            disk.write(self._machine.path(RUN), "errors.json", encode(plain(self._policy.errors)))

    def _load_errors(self) -> dict[LayerName, list[Any]]:
        with suppress(OSError, BadJson, Invalid):
            kept = decode_object((self._machine.path(RUN) / "errors.json").read_bytes())
            return build(_Errors, {"layers": kept}).layers
        return {}

    # --- what will be done by itself ---

    def _look_again(self) -> None:
        """A citizen may have come, or gone, and time has passed."""
        self._booth = place.look(self._machine, self._policy.newest_issued_at)
        self._policy.place, self._policy.now = self._booth.place, self._booth.now

    def _settle(self, applied: Applied) -> None:
        """Remember what is still to be done, and have `check` run when the next rule does something else: a window opens, the
        booth closes."""
        self._look_again()
        changes = self._policy.changes()
        moment = min(changes.values(), default=None)
        due = sorted(name for name, when in changes.items() if when == moment)
        foreseen = expected.Expected(sorted(applied.later), None if moment is None else moment.isoformat(), due)
        expected.keep(self._machine.path(RUN), foreseen)
        self._schedule(moment)

    def _schedule(self, moment: datetime | None) -> None:
        if not self._machine.has("systemd-run"):
            return
        with suppress(Ended):
            self._machine.ask("systemctl", "--no-ask-password", "stop", "booth-lockdown-next.timer", within_s=_ANSWER_S)
            if moment is not None:
                timer = ("--unit=booth-lockdown-next", f"--on-calendar={moment:%Y-%m-%d %H:%M:%S} {self._booth.zone}")
                start = ("systemctl", "start", "--no-block", "booth-lockdown-check.service")
                # Not waited for: at boot it starts once the clock is set, which takes the network, which waits for this.
                options = ("--quiet", "--collect", "--no-block", "--timer-property=AccuracySec=1s")
                self._machine.do("systemd-run", *options, *timer, *start, within_s=_ANSWER_S)


@dataclass(frozen=True)
class _Errors:
    layers: dict[LayerName, list[DocumentError]]


def answers(host: str, port: int) -> bool:
    """Whether a TCP connection can be made."""
    try:
        socket.create_connection((host, port), _CONNECT_S).close()
    except OSError:
        return False
    return True
