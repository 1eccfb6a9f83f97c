"""The forms cache: the administration's forms that a citizen prints here even when the Internet is gone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Final

from agent.contract.alarm import Text
from agent.contract.health import FactValue
from agent.contract.typed import Pattern, Range
from agent.contract.words import printable
from agent.devices import forms_cache
from agent.devices.workers import WorkerFailed
from agent.peripherals.declaration import LOCAL, Peripheral, Signals
from agent.peripherals.surroundings import Surroundings
from agent.rules.declaration import Fact, FindingKind, Observed, Reading, Unreadable

_LOOK_S: Final = 30.0  # in a worker: some megabytes from a slow memory card
_ABSENT_S: Final = 10.0
_FAILED_S: Final = 60.0


@dataclass(frozen=True)
class Options:
    """`device`: the folder with `catalogue.json`, or a link to it."""

    device: Annotated[str, Pattern("/.+", "a whole path, such as /var/lib/booth-forms/current")] = field(
        default="/var/lib/booth-forms/current", metadata=LOCAL
    )
    interval_s: Annotated[float, Range(10, 3600)] = 300.0


def find(facts: Mapping[str, FactValue], _options: Options) -> Iterable[Observed]:
    """One form less is a pity; with none at all nothing can be done here."""
    none_left = facts["printable"] == 0
    if facts["missing"]:
        detail = {"forms": facts["missing_forms"], "flaws": facts["flaws"]}
        yield Observed("form-missing", detail, severity=None if none_left else "warning")
    if facts["expired"]:
        yield Observed("form-expired", {"forms": facts["expired_forms"]})
    if facts["withdrawn"]:
        # An alarm about each would only repeat what the operator himself has published.
        nothing_else = none_left and not facts["missing"]
        yield Observed("form-withdrawn", {"forms": facts["withdrawn_forms"]}, severity="fault" if nothing_else else None)


class FormsSource:
    """Reads the files when something was announced or has another time stamp, and at active checks. Nobody is disturbed by it."""

    def __init__(self, options: Options, surroundings: Surroundings, signals: Signals) -> None:
        self._options = options
        self._folder = Path(options.device)
        self._surroundings = surroundings
        self._signals = signals
        self._changes = forms_cache.Changes(self._folder, self._announced)
        self._changed = False
        self._stamp: forms_cache.Stamp | None = None
        self._seen: dict[str, Any] | None = None
        self._interval_s = options.interval_s

    async def probe(self, *, active: bool) -> Reading:
        self._changes.follow()
        stamp = forms_cache.stamp(self._folder)
        if stamp is None:
            self._seen = None
            return self._unreadable("no-device", {"reason": f"there is no folder {self._folder}"}, _ABSENT_S)
        if active or self._changed or self._seen is None or stamp != self._stamp:
            self._changed = False
            try:
                self._seen = await self._surroundings.workers.call(
                    self._options.device,
                    "agent.devices.forms_cache:look",
                    {"folder": str(self._folder)},
                    _LOOK_S,
                    freed=self._signals.wake,
                )
            except WorkerFailed as error:
                self._seen = None
                return self._unreadable(error.code, error.detail, _FAILED_S)
            self._stamp = stamp  # of before: what has changed meanwhile is looked at again
        if self._seen["trouble"] is not None:
            return self._unreadable("no-device", {"reason": printable(self._seen["trouble"])}, _ABSENT_S)
        self._interval_s = self._options.interval_s
        return Reading(_facts(self._seen["version"], self._seen["forms"], self._surroundings.clock().today))

    def interval_s(self) -> float:
        return self._interval_s

    async def close(self) -> None:
        self._changes.close()

    def _announced(self) -> None:
        self._changed = True
        self._signals.wake()

    def _unreadable(self, code: Any, detail: Mapping[str, Any], again_s: float) -> Reading:
        self._interval_s = min(again_s, self._options.interval_s)
        return Reading(unreadable=Unreadable(code, detail))


def _facts(version: str, forms: list[dict[str, Any]], today: date | None) -> dict[str, FactValue]:
    """Without a clock that can be right nothing expires: in 1970 it would be everything, or nothing for ever."""
    offered = [form for form in forms if not form["withdrawn"]]
    whole = [form for form in offered if form["flaw"] is None]
    missing = [form for form in offered if form["flaw"] is not None]
    limited = [form for form in offered if form["not_after"] is not None]
    expired = [form for form in limited if today is not None and date.fromisoformat(form["not_after"]) < today]
    withdrawn = [form for form in forms if form["withdrawn"]]
    return {
        "catalogue": version,
        "total": len(offered),
        "printable": len(whole),
        "missing": len(missing),
        "missing_forms": _numbers(missing),
        "flaws": " ".join(sorted({form["flaw"] for form in missing})),
        "expired": None if today is None else len(expired),
        "expired_forms": None if today is None else _numbers(expired),
        "withdrawn": len(withdrawn),
        "withdrawn_forms": _numbers(withdrawn),
        "verified_on": min((form["verified_on"] for form in offered), default=None),
        "next_not_after": min((form["not_after"] for form in limited if form not in expired), default=None),
    }


def _numbers(forms: Iterable[Mapping[str, Any]]) -> str:
    return " ".join(sorted(form["cerfa"] for form in forms))


PERIPHERAL = Peripheral(
    kind="forms",
    noun=Text("la réserve de formulaires", "the forms cache"),
    options=Options,
    facts=(
        Fact("catalogue", "string", "the version of the catalogue, as the operator wrote it"),
        Fact("total", "integer", "forms that the catalogue offers: all but the withdrawn ones"),
        Fact("printable", "integer", "those whose file is whole, expired ones too", telemetry=True),
        Fact("missing", "integer", "those whose file is missing or damaged"),
        Fact("missing_forms", "string", "their cerfa numbers"),
        Fact("flaws", "string", "what is wrong with their files: absent, no-file, wrong-size, wrong-content, no-pdf, unreadable"),
        Fact("expired", "integer", "forms whose last day has passed; null while the clock is certainly wrong"),
        Fact("expired_forms", "string", "their cerfa numbers"),
        Fact("withdrawn", "integer", "forms that the catalogue names as withdrawn"),
        Fact("withdrawn_forms", "string", "their cerfa numbers"),
        Fact("verified_on", "string", "the oldest day on which somebody compared a form with its source"),
        Fact("next_not_after", "string", "the next last day of a form; null where none has one"),
    ),
    findings=(
        FindingKind(
            "no-device", "fault", "remote",
            Text("Les formulaires ne sont pas installés sur la borne.", "There is no catalogue of forms on this booth."),
        ),
        FindingKind(
            "not-responding", "fault", "technician",
            Text("La carte mémoire met trop de temps à lire les formulaires.", "The memory card takes too long to read the forms."),
        ),
        FindingKind(
            "form-missing", "fault", "remote",
            Text("Un formulaire manque ou est abîmé dans la borne.", "A form's file is missing or damaged."),
        ),
        FindingKind(
            "form-expired", "warning", "remote",
            Text("Un formulaire de la borne n'est plus à jour.", "A form is past its last day of validity."),
        ),
        FindingKind(
            "form-withdrawn", "info", "remote",
            Text("Un formulaire a été retiré par l'administration.", "The administration has withdrawn a form."),
        ),
    ),
    find=find,
    open=FormsSource,
    deadline_s=35.0,
)  # fmt: skip
