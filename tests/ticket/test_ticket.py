"""What the ticket says, and what it never says."""

import re
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from agent.rules.light import SHOP_NETWORK_CODES
from agent.ticket.phone_codes import LETTERS, numbered, phone_code
from agent.ticket.steps import steps
from agent.ticket.ticket import OF_A_SESSION, Situation, ticket
from agent.ticket.words import OUTCOMES, REMEDIES, SERVICES, french_date
from tests.ticket.golden_files import FOLDER
from tests.ticket.situations import BROKEN, HER_TURN, KINDS, LOST_CLOCK, WELL, trouble

FINDINGS = [(kind, code) for kind, peripheral in KINDS.items() for code in peripheral.finding_kinds]


def text(situation: Situation) -> str:
    return "\n".join(paragraph.text.replace("\u00a0", " ") for paragraph in ticket(situation))


# --- codes to say on the phone ---


def test_every_finding_has_a_code_to_say_and_no_two_have_the_same() -> None:
    codes = [phone_code(kind, code) for kind, code in FINDINGS]
    assert None not in codes, "a new finding takes the next number of its kind in agent/ticket/phone_codes.py"
    assert len(set(codes)) == len(codes)
    assert set(LETTERS) == set(KINDS)
    assert len({letter for letter, _ in LETTERS.values()}) == len(LETTERS)
    assert all(numbered(kind) == set(KINDS[kind].finding_kinds) & numbered(kind) for kind in KINDS), "of a finding that is gone"


def test_a_code_never_changes_its_meaning() -> None:
    file = FOLDER / "phone-codes.txt"
    now = {f"{phone_code(kind, code)} {kind}/{code}" for kind, code in FINDINGS}
    known = set(file.read_text().splitlines())
    assert known <= now, "tickets with these codes are in shops: give the number back"
    assert now == known, f"write the new ones into {file}: {sorted(now - known)}"


def test_a_finding_of_a_kind_that_nobody_numbered_is_named_by_its_code() -> None:
    toy = replace(trouble("scanner", "jammed"), kind="toy", code="asleep")
    assert "[asleep]" in text(replace(WELL, troubles=(toy,)))


# --- words for all that is declared ---


@pytest.mark.parametrize(("kind", "code"), FINDINGS)
def test_what_the_shopkeeper_fixes_has_steps(kind: str, code: str) -> None:
    finding = KINDS[kind].finding_kinds[code]
    hers = finding.fix_by == "shopkeeper" or code in SHOP_NETWORK_CODES
    if hers and (kind, code) not in OF_A_SESSION:
        assert steps(kind, code, KINDS[kind].noun.fr)


def test_every_remedy_service_and_outcome_has_french_words() -> None:
    from typing import get_args  # noqa: PLC0415

    from agent.contract.words import SERVICES as OFFERED  # noqa: PLC0415
    from agent.rules.ladder import Outcome  # noqa: PLC0415

    assert {remedy.name for kind in KINDS.values() for remedy in kind.ladder} == set(REMEDIES)
    assert set(OFFERED) == set(SERVICES)
    assert set(get_args(Outcome)) == set(OUTCOMES)


def test_dates_are_written_as_the_shop_writes_them() -> None:
    moment = datetime.fromisoformat("2026-10-06T12:32:00.000Z").astimezone(ZoneInfo("Europe/Paris"))
    assert french_date(moment).replace("\u00a0", " ") == "mar. 06/10/2026 14:32"


# --- what it says ---


def test_a_well_booth_says_so_and_asks_for_nothing() -> None:
    said = text(WELL)
    assert "Aucune panne connue." in said
    assert "POUVEZ FAIRE" not in said


def test_her_turn_is_said_in_numbered_steps_with_since_when() -> None:
    said = text(HER_TURN)
    assert "Il n'y a plus de papier dans l'imprimante de documents. [P12]" in said
    assert "Depuis : mar. 06/10/2026 14:02" in said
    assert "1. Ouvrez le bac de l'imprimante de documents.\n2. Mettez du papier A4" in said
    assert "Téléphone : 02 33 00 00 00" in said
    assert "P comme papier" in said


def test_what_nobody_looked_at_yet_is_not_said_to_be_broken() -> None:
    said = text(replace(WELL, services={"web": "ok", "print": "unknown"}, not_checked=("le scanner",)))
    assert "NE MARCHE PAS" not in said
    assert "ÉTAT PAS ENCORE CONNU\n- Impression\n- Le scanner\n" in said
    assert "ÉTAT PAS ENCORE CONNU" not in text(HER_TURN)


def test_services_of_any_number_are_said_not_to_work() -> None:
    said = text(HER_TURN)
    assert "- Formulaires à imprimer : hors service\n- Impression : seulement en partie" in said


def test_the_device_whose_cables_are_meant_is_named() -> None:
    for kind, words in (("scanner", "du scanner"), ("receipt-printer", "de l'imprimante à tickets"), ("camera", "de la caméra")):
        assert re.search(f"rebranchez les? câbles? {words}", " ".join(steps(kind, "no-device", KINDS[kind].noun.fr) or ()))


def test_what_the_booth_tried_by_itself_stands_there() -> None:
    assert "mar. 06/10/2026 14:20, redémarrage de l'application : sans effet" in text(BROKEN)
    assert "redémarrage de l'application : réussi, mais la panne est revenue" in text(BROKEN)


def test_only_what_the_broker_has_is_said_to_be_told() -> None:
    broken = trouble("scanner", "hardware-error", told=True)
    assert "C'est signalé à l'assistance : rien à faire." in text(replace(WELL, troubles=(broken,)))
    unheard = text(replace(WELL, troubles=(replace(broken, told=False),)))
    assert "signalé" not in unheard
    assert "Si cela dure, appelez." in unheard


def test_a_clock_that_is_not_verified_is_said_and_one_that_is_wrong_dates_nothing() -> None:
    assert "Heure NON vérifiée" in text(replace(HER_TURN, clock_synced=False))
    lost = text(LOST_CLOCK)
    assert "Date inconnue" in lost
    assert "2026" not in lost


def test_without_a_code_nothing_is_said_to_a_technician() -> None:
    assert "technicien" not in text(replace(HER_TURN, code=None))
    assert "ACDE-FGHJ" in text(HER_TURN)


def test_a_session_that_does_not_end_is_nobodys_business() -> None:
    said = text(replace(WELL, troubles=(trouble("booth", "not-responding"),)))
    assert "session" not in said.lower()
    assert "Aucune panne connue." in said
