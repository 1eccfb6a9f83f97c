"""What is said of one peripheral: its health and its entry in meta; and who is asked what is done about it."""

from collections.abc import Callable
from typing import Protocol

from agent.contract import alarm as contract_alarm
from agent.contract import health as contract_health
from agent.contract.state import FactDeclaration, PeripheralMeta
from agent.contract.words import Status
from agent.engine.watch import Watch
from agent.rules.health import Finding


class Care(Protocol):
    """What is done about findings: the healer, as the reporter needs it."""

    @property
    def working(self) -> bool:
        """A remedy runs that a person would notice."""

    def healing(self, name: str) -> contract_health.Healing | None: ...
    def tried(self, name: str, code: str) -> list[contract_alarm.Tried]: ...
    def escalated(self, name: str, finding: Finding) -> bool:
        """Whether a finding that heals by itself did not, and somebody has to come."""


class NoCare:
    """Nothing is done."""

    working = False

    def healing(self, _name: str) -> None:
        return None

    def tried(self, _name: str, _code: str) -> list[contract_alarm.Tried]:
        return []

    def escalated(self, _name: str, _finding: Finding) -> bool:
        return False


def status_of(watch: Watch) -> Status:
    """What is believed now: what was believed before a restart counts only once a reading confirmed it."""
    return watch.judgement.status if watch.judged_once.is_set() else "unknown"


def health_of(
    watch: Watch, healing: contract_health.Healing | None = None, whose: Callable[[Finding], Finding] = lambda finding: finding
) -> contract_health.Health:
    """What `B/health/{peripheral}` says of it. `whose` may name another fixer of a finding."""
    judgement, identity = watch.judgement, watch.identity
    return contract_health.Health(
        peripheral=watch.name,
        kind=watch.peripheral.kind,
        slot=identity.slot,
        status=status_of(watch),
        findings=[
            contract_health.Finding(finding.code, finding.severity, finding.fix_by, finding.since, dict(finding.detail))
            for finding in map(whose, judgement.findings)
        ],
        facts=watch.peripheral.all_facts(watch.reading),
        device=contract_health.Device(identity.vendor, identity.product, identity.serial),
        since=judgement.since,
        checked_at=judgement.checked.wall if judgement.checked else None,
        healing=healing,
    )


def meta_of(watch: Watch) -> PeripheralMeta:
    """What `B/meta` says of it."""
    identity = watch.identity
    return PeripheralMeta(
        kind=watch.peripheral.kind,
        slot=identity.slot,
        vendor=identity.vendor,
        product=identity.product,
        serial=identity.serial,
        firmware=identity.firmware,
        facts=[FactDeclaration(fact.name, fact.type, fact.unit, fact.meaning) for fact in watch.peripheral.facts],
    )
