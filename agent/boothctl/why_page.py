"""Why a booth is not well, in words for whoever is on the phone with its shopkeeper."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from agent.boothctl.pages import columns
from agent.contract.words import printable

_WHO: Final = {
    "auto": "nobody yet: the booth tries by itself",
    "shopkeeper": "the shopkeeper, with the French line on the phone",
    "remote": "somebody at a desk, with boothctl",
    "technician": "a technician, at the booth",
    "third-party": "somebody else: the provider of what fails",
    "nobody": "nobody: it is told for information",
}
_LINE: Final = 400


def page(said: Mapping[str, Any], now: datetime) -> str:
    """`said`: an `Answer`, as JSON. `now`: UTC, without a zone."""
    blocks = ["\n".join(_head(said, now))]
    blocks += ["\n".join(_trouble(number, one, now)) for number, one in enumerate(said["wrong"], 1)]
    if said["commands"]:
        shown, known = len(said["commands"]), said["commands_known"]
        title = "last commands" if shown == known else f"last {shown} of {known} commands"
        blocks.append(title + "\n" + columns(list(_commands(said["commands"]))))
    return "\n\n".join(blocks)


def _head(said: Mapping[str, Any], now: datetime) -> Iterator[str]:
    yield from _presence(said, now)
    services = [f"{name} {word}" for name, word in sorted(said["services"].items())]
    if services:
        yield printable(f"services: {', '.join(services)}", _LINE)
    if said["maintenance"]:
        until = f", until {said['maintenance_until']}" if said["maintenance_until"] else ""
        yield printable(f"Somebody works at it{until}: nothing is healed and nothing alarms meanwhile.", _LINE)
    count = len(said["wrong"])
    if count:
        yield f"{count} thing{'s are' if count > 1 else ' is'} wrong{'' if said['current'] else ', as far as it said before'}:"
    elif said["state"] == "unknown" or not said["checked"]:
        yield "Nothing is known of its devices."
    else:
        yield "Nothing is wrong." if said["current"] else "Nothing was wrong when it spoke last."
        yield printable(f"Last report: {', '.join(_checked(said['checked'], now))}", 2000)
    if said["unknown"]:
        yield printable(f"Not known: {', '.join(said['unknown'])} (not asked yet, or the answer is too old)", _LINE)
    if said["clock"] == "unsynced" and said["current"]:
        yield "Its clock is not synchronised: times that it says may be wrong, and it takes no signed command."


def _presence(said: Mapping[str, Any], now: datetime) -> Iterator[str]:
    who = f"{said['booth']} ({said['area']})"
    since = said["since"]
    match said["state"]:
        case "online":
            light = f", its light shows {said['light']}" if said["light"] else ""
            yield printable(f"{who} is online since {since}{light}.", _LINE)
        case "starting":
            yield printable(f"{who} is starting since {since}: its first look at its devices is not done.", _LINE)
        case "asleep":
            yield printable(f"{who} is asleep: it was shut down in order at {since}{_ago(since, now)}.", _LINE)
        case "lost":
            yield printable(f"{who} is lost: it was there from {since} on, and went without a word.", _LINE)
        case _:
            yield f"{who} has not said whether it is there."
    if said["state"] in ("asleep", "lost"):
        if said["open"]:
            yield "It should be open now: ask whether it has power, then whether the shop has its network."
        else:
            yield "It is closed now: the shop may have switched it off."


def _trouble(number: int, one: Mapping[str, Any], now: datetime) -> Iterator[str]:
    since = f"since {one['since']}{_ago(one['since'], now)}"
    yield printable(f"{number}. {one['peripheral']}/{one['code']}, a {one['severity']}, {since}", _LINE)
    text = one["text"]
    rows = [
        ("what", text["en"] if text else None),
        ("phone", " ".join(filter(None, (one["phone_code"], f"« {text['fr']} »" if text else None)))),
        ("who", _WHO.get(one["fix_by"], one["fix_by"])),
        ("detail", ", ".join(f"{key} {value}" for key, value in one["detail"].items())),
        ("services", None if one["services"] is None else ", ".join(one["services"]) or "none is affected"),
        ("tried", _tried(one["tried"])),
        ("now", _healing(one["healing"])),
        ("bring", None if not one["alarm"] else one["part"] or "nothing is known to be needed"),
        ("runbook", f"docs/runbook/{one['runbook']}.md"),
        ("alarm", _alarm(one)),
    ]
    for name, value in rows:
        if value:
            yield f"   {name:<9} {printable(value, _LINE)}"


def _tried(tried: list[Mapping[str, Any]] | None) -> str | None:
    if tried is None:
        return None
    return "; ".join(f"{item['remedy']} {item['outcome']} at {item['at']}" for item in tried) or "nothing yet"


def _healing(healing: Mapping[str, Any] | None) -> str | None:
    return f"{healing['remedy']}, attempt {healing['attempt']}, since {healing['since']}" if healing else None


def _alarm(one: Mapping[str, Any]) -> str | None:
    """Where health and alarms do not say the same, why."""
    if not one["alarm"]:
        return "none stands: it has not lasted long enough, or somebody works there"
    return None if one["seen"] else "still stands, and the booth no longer sees it: it goes by itself"


def _checked(checked: Mapping[str, str | None], now: datetime) -> Iterator[str]:
    for name, at in sorted(checked.items(), key=lambda item: item[1] or "", reverse=True):
        yield f"{name} at {at}{_ago(at, now)}" if at else f"{name} never"


def _commands(commands: list[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    yield ("AT", "VERB", "STATE", "REASON", "BY", "ID")
    for one in commands:
        yield tuple(printable(str(one[key] or "–")) for key in ("at", "verb", "state", "reason", "by", "id"))


def _ago(moment: str | None, now: datetime) -> str:
    """How long ago, in brackets; nothing of a time that is ahead, or that is none."""
    try:
        seconds = int((now - datetime.fromisoformat(str(moment)).replace(tzinfo=None)).total_seconds())
    except ValueError:
        return ""
    for size, unit, part, smaller in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            rest = seconds % size // part
            return f" ({seconds // size} {unit}{f' {rest} {smaller}' if rest else ''} ago)"
    return f" ({seconds} s ago)" if seconds >= 0 else ""
