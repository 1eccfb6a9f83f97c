"""Root's part of the policy, in one run: take a document, apply, measure, correct, and say what was seen."""

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from agent.contract.decode import BadJson, decode_object, encode
from agent.contract.documents import DocumentError, LayerName, Refusal, ReportedStatus
from agent.contract.envelope import MAX_ENVELOPE_BYTES
from agent.contract.typed import Invalid, Range, build, plain
from agent.documents import disk, files
from agent.documents.judge import Judged
from agent.documents.report import errors_of
from agent.documents.shelf import Shelf
from agent.documents.trust import next_trust
from agent.lockdown import rules
from agent.lockdown.rule import Rule
from agent.privileged import place
from agent.privileged.machine import Machine
from agent.privileged.policy import Policy, read_floor
from agent.privileged.verdict import Ended

RUN: Final = "run/booth-lockdown"
REPORT: Final = "reported.json"
_FLOOR: Final = "usr/lib/booth-agent/floor.json"
_STATE: Final = "var/lib/booth-lockdown"
_NEWS: Final = "run/booth-agent/lockdown-news.sock"
_LOOK_EVERY_S: Final = 1.0
_CONNECT_S: Final = 3.0
_ANSWER_S: Final = 10.0
_SHOWN_S: Final = 2.0  # that there was drift, before it is said that all is well: the daemon reads one file


@dataclass(frozen=True)
class Request:
    kind: Literal["policy", "trust"]
    layer: LayerName
    bytes: Annotated[int, Range(1, MAX_ENVELOPE_BYTES)]


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
        reverted = self._policy.revert()
        self._policy.apply()
        self._schedule()
        return self._say("applied" if reverted is None else "reverted")

    def check(self) -> dict[str, Any]:
        """Measure; correct what is not as the policy says, and tell of it."""
        if self._policy.revert() is not None:  # whoever tried it is gone: this holds the lock
            self._policy.apply()
            return self._say("reverted")
        drift = self._policy.correct()
        self._schedule()
        report = self._say("drifted" if drift else "applied", drift=drift)
        if drift:
            self._pause(_SHOWN_S)
            # What was changed meanwhile starts no other run (systemd.path(5)).
            again = [name for name in self._policy.correct() if report["rules"][name]["measured"] != "violated"]
            self._say("drifted" if again else "applied", drift=again)
        return report

    def undo(self) -> dict[str, str]:
        return self._policy.undo()

    def take(self, request: Request, message: bytes) -> Iterator[dict[str, Any]]:
        """The reports about one document; the last is final."""
        if request.kind == "trust":
            yield self._take_trust(message)
            return
        layer = request.layer
        try:
            trust = files.trust_in(self._machine.path(place.CONFIG))
            judged = self._policy.judge(layer, message, self._address(), trust)
            if self._policy.is_in_force(layer, judged) or self._policy.was_reverted(layer, judged):
                self._note_errors(layer, [])
                yield self._say("applied" if judged.known else "reverted")
                return
            self._keep(layer, judged, message)
        except Refusal as refusal:
            self._note_errors(layer, errors_of(layer, refusal))
            yield self._say("rejected", event=refusal.code)
            return
        self._note_errors(layer, [])
        yield from self._try(layer, judged.document.confirm_s)

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
            self._policy.revert_in_memory()
            raise Refusal("unsupported", "", f"it cannot be kept here: {error.strerror}") from error

    def _try(self, layer: LayerName, confirm_s: float) -> Iterator[dict[str, Any]]:
        """Apply it; go back unless the broker can be reached with it, as it could be without."""
        yield self._say("applying", measure=False)
        failed = self._policy.apply()
        if not failed:
            yield self._say("awaiting-confirmation", measure=False)
            if self._reached_within(confirm_s):
                self._policy.confirm()
                self._schedule()
                yield self._say("applied", event="applied")
                return
        self._policy.revert()
        self._policy.apply()
        refusals = [Refusal("unsupported", f"doc.{name}", f"it cannot be applied here: {why}") for name, why in failed.items()]
        self._note_errors(layer, [error for refusal in refusals for error in errors_of(layer, refusal)])
        self._schedule()
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
        if status == "applied" and any(seen.state == "violated" for seen in measured.values()):
            status = "drifted"
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
        disk.write(self._machine.path(RUN), REPORT, encode(kept), mode=0o644)
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as news:
            news.sendto(b"", str(self._machine.path(_NEWS)))

    def _note_errors(self, layer: LayerName, errors: list[Any]) -> None:
        """In memory of the boot only: a flood of bad documents must not wear the card."""
        if self._policy.errors.get(layer, []) == errors:
            return
        self._policy.errors[layer] = errors
        disk.write(self._machine.path(RUN), "errors.json", encode(plain(self._policy.errors)))

    def _load_errors(self) -> dict[LayerName, list[Any]]:
        with suppress(OSError, BadJson, Invalid):
            kept = decode_object((self._machine.path(RUN) / "errors.json").read_bytes())
            return build(_Errors, {"layers": kept}).layers
        return {}

    def _schedule(self) -> None:
        """Have `check` run when the next rule does something else by itself: a window opens, the booth closes."""
        if not self._machine.has("systemd-run"):
            return
        moment = min(self._policy.changes(), default=None)
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
