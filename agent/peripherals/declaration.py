"""What a peripheral declares, and what the engine asks of it."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol

from agent.contract.alarm import Text
from agent.contract.command import Reason
from agent.contract.health import FactValue
from agent.contract.words import capped
from agent.devices.sysfs import KernelFiles
from agent.devices.usb import UsbDevice
from agent.peripherals.surroundings import Surroundings
from agent.rules.declaration import Fact, FindingKind, Observed, Reading
from agent.rules.ladder import Remedy

# For an option that only `agent.toml` may set, since it names a device, a program or a file: `field(..., metadata=LOCAL)`.
LOCAL: Final = {"local": True}


class Signals(Protocol):
    """What a source may tell the engine between two probes."""

    def report(self, reading: Reading) -> None:
        """The device said something by itself."""

    def wake(self, *, active: bool = False) -> None:
        """Something happened that makes a probe worthwhile now; `active`: one that uses the device."""


class Source(Protocol):
    """The measuring side of one configured peripheral."""

    async def probe(self, *, active: bool) -> Reading | None:
        """Measure. What the device does is in the reading; an exception is a bug, and becomes `probe-failed`.

        `active`: really use the device (a scan, a few frames) where looking at it tells less. None: it has to
        be left alone now, or nothing new can be known without using it; the last judgement stands.
        """

    def interval_s(self) -> float:
        """Seconds until the next probe if nothing tells earlier."""

    async def close(self) -> None:
        """Let go of the device."""


class ActRefused(Exception):
    """Root did not do it. `code` says why: `unknown-slot`, `refused`, `not-supported`, `rate-limited`, `not-installed` …"""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Hands(Protocol):
    """What a remedy may ask of root, for its own peripheral only."""

    async def act(self, name: str) -> None:
        """One of the acts that `agent.privileged` declares. Raises ActRefused."""


Run = Callable[[Any, Hands], Awaitable[None]]


def act(name: str) -> Run:
    """A remedy that root does."""

    async def run(_source: Any, hands: Hands) -> None:
        await hands.act(name)

    return run


@dataclass(frozen=True)
class Chore:
    """What is put in order when no citizen is there, and told to nobody: it would tell of a session.

    It is due when a reading says so (`Reading.chores`); `run` is a remedy's. `again_s`: after it was not done.
    """

    name: str
    run: Run
    deadline_s: float = 10.0
    again_s: float = 60.0


class TestFailed(Exception):
    """A test of a device did not succeed; the message says what to do, `seen` what was measured. `reason`: where that is no
    fault of the device."""

    __test__ = False  # no test of ours

    def __init__(self, message: str, *, reason: Reason | None = None, **seen: Any) -> None:
        super().__init__(message)
        self.reason: Reason | None = reason
        self.seen = seen


@dataclass(frozen=True)
class Test:
    """The device is used as a citizen would, by a command of the same name. `run(source, look)` measures and raises `TestFailed`;
    `look()` is a fresh reading, judged. `deadline_s` bounds the whole of it."""

    __test__ = False  # no test of ours

    name: str
    run: "Callable[[Any, Callable[[], Awaitable[Reading]]], Awaitable[dict[str, Any]]]"
    deadline_s: float = 40.0


class NotAcceptable(Exception):
    """Another device cannot become the expected one; the message says what to do."""


@dataclass(frozen=True)
class Acceptance:
    """How another device, plugged in at the place of the expected one, becomes the expected one.

    `option` of `agent.toml` names the device. `takes` a value in whose way another device can be named too; `otherwise` is what
    to do about all other values. `name(value, device, files)` is that name, or raises `NotAcceptable`. `then`: what a person
    still has to see to.
    """

    option: str
    name: Callable[[str, UsbDevice, KernelFiles], str]
    otherwise: str
    takes: Callable[[str], bool] = bool
    then: str | None = None


@dataclass(frozen=True)
class Peripheral:
    """A kind of peripheral.

    `options` is the dataclass of `[peripherals.NAME]` without `kind`; `find` computes findings from
    facts, purely; `deadline_s` bounds one probe. `noun` names it in a sentence. `ladder`: what is tried about
    its findings before a person is called, the gentlest first. `tests`: what commands may do with it.
    """

    kind: str
    noun: Text
    options: type
    facts: tuple[Fact, ...]
    findings: tuple[FindingKind, ...]
    find: Callable[[Mapping[str, FactValue], Any], Iterable[Observed]]
    open: Callable[[Any, Surroundings, Signals], Source]
    deadline_s: float
    ladder: tuple[Remedy, ...] = ()
    chores: tuple[Chore, ...] = ()
    tests: tuple[Test, ...] = ()
    accept: Acceptance | None = None

    @property
    def pluggable(self) -> bool:
        """Whether it may be on USB: somebody can carry it away, or put another one in its place."""
        return any(remedy.needs_usb for remedy in self.ladder)

    @cached_property
    def finding_kinds(self) -> Mapping[str, FindingKind]:
        """Every finding by its code: the common ones, and this kind's own, which win."""
        return {kind.code: kind for kind in (*_common(self.noun, pluggable=self.pluggable), *self.findings)}

    def findings_of(self, reading: Reading, options: Any) -> list[Observed]:
        """What one reading shows: a function of the reading."""
        if reading.unreadable is not None:
            return [Observed(reading.unreadable.code, reading.unreadable.detail)]
        return list(self.find(self.all_facts(reading), options))

    def all_facts(self, reading: Reading) -> dict[str, FactValue]:
        """Exactly the declared facts, None where this reading has none."""
        return {fact.name: capped(reading.facts.get(fact.name)) for fact in self.facts}


def _common(noun: Text, *, pluggable: bool) -> tuple[FindingKind, ...]:
    french = noun.fr[0].upper() + noun.fr[1:]
    english = noun.en[0].upper() + noun.en[1:]
    changed = FindingKind(
        "device-changed",
        "fault",
        "technician",
        Text(f"{french} : un autre appareil est branché à sa place.", f"{english}: another device is plugged in in its place."),
        raise_after_s=3.0,  # a device that comes back has no node yet
    )
    return (
        *((changed,) if pluggable else ()),
        FindingKind(
            "no-device",
            "fault",
            "shopkeeper",
            Text(
                f"La borne ne voit plus {noun.fr} : vérifiez la prise et le câble.",
                f"{english} is not there: check plug and cable.",
            ),
        ),
        FindingKind(
            "not-responding",
            "fault",
            "shopkeeper",
            Text(f"{french} ne répond pas : éteignez puis rallumez.", f"{english} does not answer: switch off and on again."),
        ),
        FindingKind(
            "wedged",
            "fault",
            "technician",
            Text(f"La borne n'arrive plus à utiliser {noun.fr}.", f"{english} is stuck inside the kernel."),
        ),
        FindingKind(
            "probe-failed",
            "fault",
            "remote",
            Text(f"{french} : le contrôle lui-même a échoué.", f"{english}: the check itself failed."),
            raise_after_s=2.0,
        ),
    )
