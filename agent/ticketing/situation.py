"""What the booth believes now, as the ticket says it."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Protocol

from agent.contract.alarm import Tried
from agent.contract.words import ServiceWord
from agent.engine.payloads import status_of
from agent.engine.watch import Watch
from agent.rules.health import Finding
from agent.settings import Settings

if TYPE_CHECKING:
    from agent.ticket.ticket import Situation, Trouble


class Clock(Protocol):
    """The booth's clocks. `wall_s` is never below the floor."""

    def wall_s(self) -> float: ...
    def mono_s(self) -> float: ...
    def synced(self) -> bool: ...
    def below_floor(self) -> bool: ...


class Beliefs(Protocol):
    """What the booth says of itself."""

    def services_now(self) -> Mapping[str, ServiceWord]: ...
    def is_told(self, name: str, code: str) -> bool:
        """Whether the broker has the alarm."""

    def whose(self, name: str, finding: Finding) -> Finding:
        """With the fixer that it has by now."""


class Situations:
    """`tried` is the healer's."""

    def __init__(
        self,
        watches: Mapping[str, Watch],
        current: Callable[[], Settings],
        beliefs: Beliefs,
        tried: Callable[[str, str], list[Tried]],
        clock: Clock,
    ) -> None:
        self._watches = watches
        self._current = current
        self._beliefs = beliefs
        self._tried = tried
        self._clock = clock

    def now(self, code: str | None) -> "Situation":
        """`code`: the technician's, for this ticket."""
        from agent.ticket.ticket import Situation  # noqa: PLC0415 - 0.1 MiB, for a ticket

        settings, zone = self._current(), self.zone()
        known = {name: watch for name, watch in self._watches.items() if status_of(watch) != "unknown"}
        return Situation(
            booth=settings.booth.id,
            now=None if self._clock.below_floor() else datetime.fromtimestamp(self._clock.wall_s(), zone),
            clock_synced=self._clock.synced(),
            services=self._beliefs.services_now(),
            troubles=[
                self._trouble(watch, self._beliefs.whose(name, finding), zone)
                for name, watch in known.items()
                for finding in watch.judgement.findings
                if finding.severity != "info"
            ],
            not_checked=tuple(watch.peripheral.noun.fr for name, watch in self._watches.items() if name not in known),
            phone=settings.ticket.phone,
            code=code,
        )

    def zone(self) -> tzinfo:
        """The booth's."""
        from zoneinfo import ZoneInfo  # noqa: PLC0415 - 0.4 MiB that a booth without a receipt printer does without

        return ZoneInfo(self._current().hours.tz)

    def _trouble(self, watch: Watch, finding: Finding, zone: tzinfo) -> "Trouble":
        from agent.ticket.ticket import Attempt, Trouble  # noqa: PLC0415 - as above

        kind, identity = watch.peripheral, watch.identity
        return Trouble(
            kind=kind.kind,
            noun=kind.noun.fr,
            code=finding.code,
            severity=finding.severity,
            fix_by=finding.fix_by,
            text=kind.finding_kinds[finding.code].text.fr,
            since=_local(finding.since, zone),
            device=" ".join(filter(None, (identity.vendor, identity.product))) or None,
            told=self._beliefs.is_told(watch.name, finding.code),
            attempts=tuple(
                Attempt(item.remedy, item.outcome, _local(item.at, zone)) for item in self._tried(watch.name, finding.code)
            ),
        )


def _local(moment: str, zone: tzinfo) -> datetime:
    return (datetime.fromisoformat(moment) if moment else datetime.fromtimestamp(0, UTC)).astimezone(zone)
