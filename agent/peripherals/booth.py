"""The reserved peripheral `booth`: the agent's own state, judged like any other."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from agent.contract.alarm import Text
from agent.contract.health import FactValue
from agent.peripherals.declaration import Peripheral, Signals
from agent.peripherals.surroundings import Surroundings
from agent.rules.declaration import Fact, FindingKind, Observed, Reading

_RENEWED_BEFORE_DAYS: Final = 21


@dataclass(frozen=True)
class Options:
    """None: it is always there, and never configured."""


def find(facts: Mapping[str, FactValue], _options: Options) -> Iterable[Observed]:
    if facts["store"] == "full":
        yield Observed("store-full")
    elif facts["store"] != "ok":
        yield Observed("store-damaged", {"store": facts["store"]})
    if facts["denied_topics"]:
        yield Observed("publish-denied", {"topics": facts["denied_topics"]})
    if facts["echo_heard"] is False:
        yield Observed("subscribe-denied")
    if facts["taken_over"]:
        yield Observed("takeover")
    if facts["drifted_rules"]:
        yield Observed("policy-drift", {"rules": facts["drifted_rules"]})
    if facts["update_failed"]:
        yield Observed("update-failed", {"update": facts["update_failed"]})
    days = facts["certificate_days"]
    if isinstance(days, int | float) and days < _RENEWED_BEFORE_DAYS:
        yield Observed("certificate-expiring", {"days": days})
    if facts["session_lock"] is False:
        yield Observed("probe-failed", {"reason": "the session lock cannot be opened: nothing is scanned, filmed or mended"})
    if facts["session_endless"]:
        yield Observed("not-responding", {"reason": "session-without-end"})


class AgentSource:
    """Reads what the agent knows of itself; whoever learns something new wakes it."""

    def __init__(self, _options: Options, surroundings: Surroundings, _signals: Signals) -> None:
        self._agent = surroundings.agent

    async def probe(self, *, active: bool) -> Reading:
        del active
        view = self._agent()
        return Reading(
            {
                "store": view.store,
                "denied_topics": " ".join(view.denied_topics) or None,
                "echo_heard": view.echo_heard,
                "taken_over": view.taken_over,
                "session_endless": view.session_endless,
                "session_lock": view.session_lock,
                "drifted_rules": " ".join(view.drifted) or None,
                "update_failed": view.update_failed,
                "certificate_days": view.certificate_days,
            }
        )

    def interval_s(self) -> float:
        return 3600.0

    async def close(self) -> None:
        return


PERIPHERAL = Peripheral(
    kind="booth",
    noun=Text("la borne", "the booth"),
    options=Options,
    facts=(
        Fact("store", "string", "the store on disk: ok, full, damaged (set aside, begun afresh), failed or hangs"),
        Fact("denied_topics", "string", "topics below the booth's own that the broker refused and has not taken since; null if none"),
        Fact("taken_over", "boolean", "within the last half hour another client used this booth's name, by all that the broker did"),
        Fact("session_lock", "boolean", "the session lock can be opened; one that cannot counts as a citizen's"),
        Fact("session_endless", "boolean", "a session has lasted longer than heal.longest_session_s; nothing is healed meanwhile"),
        Fact("drifted_rules", "string", "rules of the policy that the booth was found to break within the last quarter of an hour; null if none"),
        Fact("update_failed", "string", "the update that did not become what the operator wants, and why; null if none"),
        Fact("certificate_days", "integer", "whole days for which the booth's own certificate is still good; null without one", "d"),
        Fact("echo_heard", "boolean", "whether the booth's word to itself came back on this connection; null while waiting"),
    ),
    findings=(
        FindingKind(
            "publish-denied", "fault", "remote",
            Text("Le serveur refuse les messages de la borne.", "The broker refuses messages of this booth: check its access rules."),
        ),
        FindingKind(
            "subscribe-denied", "fault", "remote",
            Text("Le serveur n'envoie plus rien à la borne.", "The broker delivers nothing to this booth: check its access rules."),
        ),
        FindingKind(
            "takeover", "warning", "remote",
            Text("Un autre appareil utilise le nom de cette borne.", "Another client uses this booth's name: see the runbook."),
        ),
        FindingKind(
            "not-responding", "warning", "shopkeeper",
            Text(
                "Une session ne se termine pas : fermez-la à l'écran de la borne.",
                "A session does not end: close it on the booth's screen.",
            ),
        ),
        FindingKind(
            "policy-drift", "warning", "remote",
            Text(
                "La borne n'était plus protégée comme prévu ; elle s'est corrigée.",
                "The booth was found not to be locked down as its policy says, and was corrected.",
            ),
        ),
        FindingKind(
            "update-failed", "warning", "remote",
            Text("Une mise à jour n'a pas réussi ; la borne fonctionne avec la précédente.", "An update failed; the one before is in use."),
        ),
        FindingKind(
            "certificate-expiring", "warning", "remote",
            Text(
                "Le certificat de la borne expire bientôt ; il doit être renouvelé.",
                "The booth's own certificate is about to expire: renew it.",
            ),
        ),
        FindingKind(
            "store-damaged", "warning", "technician",
            Text("La carte mémoire de la borne est abîmée.", "The booth's store was damaged or does not answer."), part="SD card",
        ),
        FindingKind(
            "store-full", "warning", "remote",
            Text("La carte mémoire de la borne est pleine.", "The booth's disk is full: events wait in memory."),
        ),
    ),
    find=find,
    open=AgentSource,
    deadline_s=1.0,
)  # fmt: skip
