"""What a peripheral may ask of the machine. `app` fills it in, with the real ones or with simulated ones."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol

from agent.devices.netlink import Links
from agent.devices.sysfs import KernelFiles
from agent.devices.workers import Workers


@dataclass(frozen=True)
class BrokerView:
    """The connection to the broker as the agent itself lives it.

    `result` is `connected`, or `<stage>:<reason>` with the stage `dns`, `connect`, `tls` or `mqtt`; None before
    the first attempt has ended.
    `rtt_ms`, `segments_out` and `retransmitted` are the kernel's (TCP_INFO), None without a connection.
    """

    result: str | None
    host: str
    local_address: str | None = None
    rtt_ms: float | None = None
    segments_out: int | None = None
    retransmitted: int | None = None


@dataclass(frozen=True)
class ClockView:
    """`today`: the day in UTC; None while the clock is certainly wrong."""

    synced: bool
    below_floor: bool
    today: date | None = None


@dataclass(frozen=True)
class AgentView:
    """The agent's own troubles, for the reserved peripheral `booth`."""

    store: str
    denied_topics: tuple[str, ...]
    echo_heard: bool | None
    session_endless: bool = False
    session_lock: bool = True
    drifted: tuple[str, ...] = ()
    taken_over: bool = False
    update_failed: str | None = None
    certificate_days: int | None = None


class Session(Protocol):
    """The lock that the kiosk application holds while a citizen uses the booth. Contract §12."""

    openable: bool
    """Whether it could be opened at the last attempt; one that cannot counts as a citizen's."""

    @property
    def ours(self) -> bool:
        """Whether something of our own holds it now."""

    def held(self) -> bool:
        """Whether a citizen uses the booth now."""

    def taken(self) -> AbstractContextManager[bool]:
        """Hold the lock ourselves for the context, so that no session begins meanwhile; False: a citizen has it. Whoever holds it
        already may take it again, inside."""


@dataclass(frozen=True)
class Surroundings:
    """`on_usb` subscribes to events of the kernel about USB, tty, video and sound devices: the handler gets action
    and device path, and what is returned ends that. `people_expected`: the booth is open, or an appointment is near; out of hours the lights are off, and
    nobody mends anything. `runtime_dir` is for files that need not outlive a reboot, and is memory on a booth."""

    files: KernelFiles
    links: Links
    on_usb: Callable[[Callable[[str, str], None]], Callable[[], None]]
    resolve: Callable[[str], Awaitable[list[str]]]
    broker: Callable[[], Awaitable[BrokerView]]
    clock: Callable[[], ClockView]
    agent: Callable[[], AgentView]
    people_expected: Callable[[], bool]
    workers: Workers
    session: Session
    state_dir: Path
    runtime_dir: Path
