"""Booths to print tickets of."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from agent.peripherals import declared
from agent.ticket.ticket import Attempt, Situation, Trouble

NOW: Final = datetime(2026, 10, 6, 14, 32, tzinfo=ZoneInfo("Europe/Paris"))
CODE: Final = "ACDEFGHJ"
KINDS: Final = declared()


def trouble(kind: str, code: str, *, minutes_ago: int = 30, **over: Any) -> Trouble:
    finding = KINDS[kind].finding_kinds[code]
    found = Trouble(
        kind, KINDS[kind].noun.fr, code, finding.severity, finding.fix_by, finding.text.fr, NOW - timedelta(minutes=minutes_ago)
    )
    return replace(found, **over)


def attempt(remedy: str, outcome: str, minutes_ago: int) -> Attempt:
    return Attempt(remedy, outcome, NOW - timedelta(minutes=minutes_ago))


WELL: Final = Situation("61-0007", NOW, True, {"web": "ok", "forms": "ok", "print": "ok"}, (), phone="02 33 00 00 00", code=CODE)
HER_TURN: Final = replace(
    WELL,
    services={"web": "ok", "forms": "down", "print": "degraded"},
    troubles=(
        trouble("document-printer", "media-empty", device="HP LaserJet Pro M404dn"),
        trouble("receipt-printer", "media-low", minutes_ago=26 * 60),
    ),
)
BROKEN: Final = replace(
    WELL,
    services={"web": "down", "scan": "down", "visio": "degraded", "print": "unknown"},
    troubles=(
        trouble("scanner", "hardware-error", told=True, device="Canon “LiDE” 120 – ｆｕｌｌ\x1b@\x07 œuvre 日本"),
        trouble("kiosk", "app-frozen", told=True, fix_by="technician", attempts=(
            attempt("restart-kiosk", "cured", 70), attempt("restart-kiosk", "relapsed", 40),
            attempt("restart-kiosk", "failed", 12),
        )),
        trouble("network", "gateway-unreachable", attempts=(attempt("bounce-link", "failed", 5),)),
        trouble("board", "under-voltage"),
        trouble("camera", "no-device"),
        trouble("audio", "no-speaker"),
    ),
    not_checked=("l'imprimante de documents",),
)  # fmt: skip
LOST_CLOCK: Final = replace(HER_TURN, now=None, clock_synced=False, phone=None, code=None)

SITUATIONS: Final = {"well": WELL, "her-turn": HER_TURN, "broken": BROKEN, "lost-clock": LOST_CLOCK}
