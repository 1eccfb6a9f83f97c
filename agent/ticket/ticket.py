"""The status ticket: what the booth believes of itself, in the shopkeeper's French. Nothing of a citizen or a session."""

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agent.contract.words import FixBy, ServiceWord, Severity
from agent.rules.light import SHOP_NETWORK_CODES
from agent.ticket.paragraphs import EMPTY, RULE, Paragraph, strangers
from agent.ticket.phone_codes import phone_code, spelled
from agent.ticket.steps import steps
from agent.ticket.words import OUTCOMES, REMEDIES, SERVICE_WORDS, SERVICES, french_date

# A session that does not end: that there was one, and since when, is nobody's business.
OF_A_SESSION: Final = frozenset({("booth", "not-responding")})
_TROUBLES_SHOWN: Final = 5
_ATTEMPTS_SHOWN: Final = 3  # of each
_INDENT: Final = 3


@dataclass(frozen=True)
class Attempt:
    """What the booth did by itself, and when."""

    remedy: str
    outcome: str
    at: datetime.datetime


@dataclass(frozen=True)
class Trouble:
    """A finding. `noun` and `text` are the declaration's; `device` is what the device says of itself. `told`: the broker has the
    alarm, so somebody else can know of it. Times are the booth's own."""

    kind: str
    noun: str
    code: str
    severity: Severity
    fix_by: FixBy
    text: str
    since: datetime.datetime
    device: str | None = None
    told: bool = False
    attempts: tuple[Attempt, ...] = ()

    @property
    def hers(self) -> bool:
        """Whether the shopkeeper can do something about it."""
        return self.fix_by == "shopkeeper" or self.code in SHOP_NETWORK_CODES


@dataclass(frozen=True)
class Situation:
    """`now` is None while the clock is certainly wrong, `clock_synced` whether it is verified. `code` is the technician's, if
    this ticket has one. `not_checked` are the nouns of peripherals that nothing is known of yet."""

    booth: str
    now: datetime.datetime | None
    clock_synced: bool
    services: Mapping[str, ServiceWord]
    troubles: Sequence[Trouble]
    not_checked: tuple[str, ...] = ()
    phone: str | None = None
    code: str | None = None


def ticket(situation: Situation) -> list[Paragraph]:
    """The whole ticket."""
    troubles = sorted((item for item in situation.troubles if (item.kind, item.code) not in OF_A_SESSION), key=_rank)
    shown = troubles[:_TROUBLES_SHOWN]
    parts: list[Iterable[Paragraph]] = [
        _head(situation),
        _services(situation, good=True),
        _services(situation, good=False),
        _not_known(situation),
        _what_is_wrong(situation, shown, len(troubles) - len(shown)),
        _what_to_do(shown, troubles),
        _attempts(situation, shown),
        _call(situation, shown),
        _technician(situation.code),
    ]
    whole: list[Paragraph] = []
    for part in parts:
        lines = list(part)
        whole += ([EMPTY] if whole and lines else []) + lines
    return whole


def _rank(trouble: Trouble) -> tuple[bool, bool, str, str]:
    """What stops something first, and of that what she can mend."""
    return trouble.severity != "fault", not trouble.hers, trouble.kind, trouble.code


def _french(text: str) -> str:
    """No line begins with a colon."""
    for mark in ":;?!":
        text = text.replace(f" {mark}", f"\u00a0{mark}")
    return text


def _head(situation: Situation) -> Iterator[Paragraph]:
    yield Paragraph("Borne", "strong")
    yield Paragraph(strangers(situation.booth), "large")
    yield Paragraph("Date inconnue" if situation.now is None else french_date(situation.now))
    if situation.now is None or not situation.clock_synced:
        yield Paragraph("Heure NON vérifiée\u00a0: les dates de ce ticket peuvent être fausses.")
    else:
        yield Paragraph("Heure vérifiée.")
    yield RULE


def _services(situation: Situation, *, good: bool) -> Iterator[Paragraph]:
    known = [(name, word) for name, word in situation.services.items() if word != "unknown" and (word == "ok") == good]
    if known:
        yield Paragraph("CE QUI MARCHE" if good else "CE QUI NE MARCHE PAS BIEN", "strong")
    for name, word in known:
        yield Paragraph(f"-\u00a0{_service(name)}" + ("" if good else f"\u00a0: {SERVICE_WORDS[word]}"), hang=2)


def _not_known(situation: Situation) -> Iterator[Paragraph]:
    names = [_service(name) for name, word in situation.services.items() if word == "unknown"]
    if names or situation.not_checked:
        yield Paragraph("ÉTAT PAS ENCORE CONNU", "strong")
    for name in (*names, *situation.not_checked):
        yield Paragraph(f"-\u00a0{name[0].upper()}{name[1:]}", hang=2)


def _service(name: str) -> str:
    return SERVICES.get(name, strangers(name))


def _what_is_wrong(situation: Situation, troubles: Sequence[Trouble], more: int) -> Iterator[Paragraph]:
    if not troubles:
        yield Paragraph("Aucune panne connue.", "strong")
        return
    yield Paragraph("CE QUE LA BORNE CONSTATE", "strong")
    for trouble in troubles:
        code = phone_code(trouble.kind, trouble.code)
        yield Paragraph(f"-\u00a0{_french(trouble.text)}" + (f" [{code}]" if code else f" [{strangers(trouble.code)}]"), hang=2)
        if situation.now is not None:
            yield Paragraph(f"\u00a0\u00a0Depuis\u00a0: {french_date(trouble.since)}", hang=2)
        if trouble.device:
            yield Paragraph(f"\u00a0\u00a0Appareil\u00a0: {strangers(trouble.device)}", hang=2)
    if more:
        yield Paragraph(f"… et {more}\u00a0autre{'s' if more > 1 else ''}.")


def _what_to_do(troubles: Sequence[Trouble], every: Sequence[Trouble]) -> Iterator[Paragraph]:
    if not troubles:
        return
    yield Paragraph("CE QUE VOUS POUVEZ FAIRE", "strong")
    actions: list[str] = []
    for trouble in troubles:
        if trouble.hers:
            actions += steps(trouble.kind, trouble.code, trouble.noun) or (_french(trouble.text),)
    actions = list(dict.fromkeys(actions))  # two troubles may ask for the same
    for number, action in enumerate(actions, 1):
        yield Paragraph(f"{number}.\u00a0{action}", hang=_INDENT)
    others = [trouble for trouble in every if not trouble.hers]
    if others and all(trouble.told for trouble in others):
        yield Paragraph(
            "Le reste est signalé à l'assistance." if actions else "C'est signalé à l'assistance\u00a0: rien à faire."
        )
    elif others and not actions:
        yield Paragraph("Rien pour l'instant. Si cela dure, appelez.")
    if actions:
        yield Paragraph("Le voyant ne redevient pas fixe\u00a0? Appelez.")


def _attempts(situation: Situation, troubles: Sequence[Trouble]) -> Iterator[Paragraph]:
    attempts = [attempt for trouble in troubles for attempt in trouble.attempts[-_ATTEMPTS_SHOWN:]]
    if not attempts:
        return
    yield Paragraph("CE QUE LA BORNE A ESSAYÉ", "strong")
    for attempt in sorted(attempts, key=lambda attempt: attempt.at):
        did = REMEDIES.get(attempt.remedy, strangers(attempt.remedy))
        became = OUTCOMES.get(attempt.outcome, strangers(attempt.outcome))
        when = "" if situation.now is None else f"{french_date(attempt.at)}, "
        yield Paragraph(f"-\u00a0{when}{did}\u00a0: {became}", hang=2)


def _call(situation: Situation, troubles: Sequence[Trouble]) -> Iterator[Paragraph]:
    codes: dict[str, str] = {}
    for trouble in troubles:
        if (code := phone_code(trouble.kind, trouble.code)) is not None:
            codes.setdefault(code, spelled(trouble.kind))
    if situation.phone is None and not codes:
        return
    yield Paragraph("POUR APPELER", "strong")
    if situation.phone is not None:
        yield Paragraph(f"Téléphone\u00a0: {strangers(situation.phone)}", "strong", hang=2)
    if codes:
        yield Paragraph("Code à dire\u00a0:" if len(codes) == 1 else "Codes à dire\u00a0:")
        yield Paragraph("  ".join(codes), "large")
        yield Paragraph(f"({', '.join(dict.fromkeys(codes.values()))})")


def _technician(code: str | None) -> Iterator[Paragraph]:
    if code is None:
        return
    yield RULE
    yield Paragraph("Pour le technicien seulement. Code valable une fois, pendant 10\u00a0minutes\u00a0:")
    half = len(code) // 2
    yield Paragraph(f"{code[:half]}-{code[half:]}", "large")
