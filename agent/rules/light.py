"""The shopkeeper's light: ranked by what she can do, not by severity. Contract §9."""

from collections.abc import Iterable
from typing import Final, get_args

from agent.contract.words import LightWord
from agent.rules.alarms import Alarm

# From the cable to the portal: it may be her box. What lies behind it (TLS, the broker) is not hers.
SHOP_NETWORK_CODES: Final = frozenset({"no-carrier", "no-address", "gateway-unreachable", "dns-failure", "captive-portal"})
SHOWN: Final = get_args(LightWord)
DISTANT_CODES: Final = frozenset({"tls-failure", "broker-unreachable"})


def light(alarms: Iterable[Alarm], *, starting: bool = False, locate: bool = False, working: bool = False) -> LightWord:
    """The word that the light shows now.

    `broken` promises that a technician was told, so an alarm of that rank counts only once the
    broker acknowledged it.
    """
    if starting:
        return "starting"
    if locate:
        return "locate"
    if working:
        return "working"
    words = {word for alarm in alarms if (word := _word(alarm)) is not None}
    ranked: tuple[LightWord, ...] = ("your-turn", "no-internet", "broken")
    return next((word for word in ranked if word in words), "ok")


def _word(alarm: Alarm) -> LightWord | None:
    if not alarm.raised or alarm.severity != "fault" or alarm.code in DISTANT_CODES:
        return None
    if alarm.code in SHOP_NETWORK_CODES:
        return "no-internet"
    if alarm.fix_by == "shopkeeper":
        return "your-turn"
    return "broken" if alarm.acknowledged else None
