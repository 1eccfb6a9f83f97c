"""What the daemon knows, by allow-list: health, alarms, what was tried and asked, the documents in force, settings, figures."""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, get_args

from agent.contract.documents import LayerName, ReportedStatus
from agent.diagnostics.allowed import (
    CODES,
    COMMAND_REASONS,
    COMMAND_STATES,
    DIGEST,
    KINDS,
    OUTCOMES,
    REMEDIES,
    RULES,
    SLOT,
    TIME,
    VERBS,
    WORDS,
    Check,
    detail,
    fact,
    form,
    interface,
    literals,
    number,
    reason,
    text,
    word,
)

_SERVICES: Final = frozenset({"web", "forms", "print", "scan", "visio"})
_HEALTH: Final = word(WORDS)
_STATES: Final = word(("starting", "online", "asleep", "lost"))
_SPANS: Final = re.compile("([01][0-9]|2[0-4]):[0-5][0-9]-([01][0-9]|2[0-4]):[0-5][0-9]")
_FIGURE: Final = form("[a-z]{1,20}(_[a-z]{1,20}){0,3}")


class Known:
    """The daemon's question: `image` is what it publishes as retained, by topics below the booth's own; `peripherals` the
    configured ones, with kind and options; `settings`, `healing` and `figures` as it has them."""

    def __init__(self, question: Mapping[str, Any]) -> None:
        self._image = _table(question.get("image"))
        self.peripherals = {str(name): _table(value) for name, value in _table(question.get("peripherals")).items()}
        self._question = question

    def units(self) -> Iterator[str]:
        """Those that `agent.toml` names: the kiosk's."""
        for item in self.peripherals.values():
            if isinstance(unit := _table(item.get("options")).get("unit"), str):
                yield unit

    def sections(self) -> dict[str, Any]:
        return {
            "state": self._state(),
            "services": {name: text(self._image.get(f"service/{name}"), _HEALTH) for name in sorted(_SERVICES)},
            "light": text(self._image.get("led"), _HEALTH),
            "peripherals": {name: self._peripheral(name) for name in sorted(self.peripherals)},
            "alarms": list(self._alarms()),
            "healing": self._healing(),
            "commands": sorted(self._commands(), key=lambda item: item["at"] or ""),
            "documents": {kind: self._document(kind) for kind in ("config", "policy", "update")},
            "link": self._link(),
            "figures": figures(self._question.get("figures")),
            "settings": self._settings(),
        }

    def _of(self, topic: str) -> dict[str, Any]:
        try:
            return _table(json.loads(self._image.get(topic, "")))
        except (TypeError, ValueError):
            return {}

    def _state(self) -> dict[str, Any]:
        state = self._of("state")
        return {"state": text(state.get("state"), _STATES), "since": text(state.get("since"), TIME)}

    def _peripheral(self, name: str) -> dict[str, Any]:
        """Without what the device says of itself: whoever plugs one in says what he likes."""
        health, kind = self._of(f"health/{name}"), str(self.peripherals[name].get("kind"))
        declared = KINDS.get(kind)
        if declared is None:
            return {"kind": None}
        facts = _table(health.get("facts"))
        healing = _table(health.get("healing"))
        return {
            "kind": kind,
            "slot": text(health.get("slot"), lambda slot: interface(slot) if kind == "network" else SLOT(slot)),
            "status": text(health.get("status"), _HEALTH),
            "since": text(health.get("since"), TIME),
            "checked_at": text(health.get("checked_at"), TIME),
            "findings": [
                _finding(item) | {"since": text(item.get("since"), TIME), "detail": detail(item.get("detail"))}
                for item in map(_table, health.get("findings") or ())
            ],
            "facts": {item.name: fact(kind, item.name, facts.get(item.name)) for item in declared.facts if item.name in facts},
            "healing": _attempt(healing) if healing else None,
        }

    def _alarms(self) -> Iterator[dict[str, Any]]:
        for topic in sorted(self._image):
            alarm = self._of(topic) if topic.startswith("alarm/") else {}
            if alarm and alarm.get("peripheral") in self.peripherals:
                tried = [_attempt(item) for item in map(_table, alarm.get("tried") or ())]
                since = text(alarm.get("since"), TIME)
                yield {"peripheral": alarm["peripheral"], **_finding(alarm), "since": since, "tried": tried}

    def _healing(self) -> dict[str, Any]:
        saved = _table(self._question.get("healing"))
        cases = {}
        for name, case in _table(saved.get("cases")).items():
            if name in self.peripherals:
                attempts = [_attempt(item) for item in map(_table, _table(case).get("attempts") or ())]
                cases[name] = {"episode": number(_table(case).get("episode")), "attempts": attempts}
        return {"rebooted_at": _moment(saved.get("rebooted_s")), "cases": cases}

    def _commands(self) -> Iterator[dict[str, Any]]:
        """Without who asked, the id that he gave, his arguments, and the result: it may name them."""
        for topic in self._image:
            if topic.startswith("cmd/"):
                status = self._of(topic)
                verb = status.get("verb")
                yield {
                    "verb": verb if verb in VERBS else "(unknown)",
                    "state": text(status.get("state"), word(COMMAND_STATES)),
                    "reason": text(status.get("reason"), word(COMMAND_REASONS)),
                    "at": text(status.get("at"), TIME),
                }

    def _document(self, kind: str) -> dict[str, Any]:
        """Which revisions are in force. What is in them is the operator's, who has them."""
        reported = self._of(f"{kind}/reported")
        layers = _table(reported.get("layers"))
        found: dict[str, Any] = {
            "status": text(reported.get("status"), word(literals(ReportedStatus))),
            "layers": {layer: _numbers(layers.get(layer), ("seen_rev", "applied_rev")) for layer in get_args(LayerName)},
            "effective_sha256": text(reported.get("effective_sha256"), DIGEST),
            "errors": [text(item.get("code"), word(COMMAND_REASONS)) for item in map(_table, reported.get("errors") or ())],
            "at": text(reported.get("at"), TIME),
        }
        rules = _table(reported.get("rules"))
        measured = word(("compliant", "violated", "not-applicable"))
        if rules:
            found["rules"] = {
                name: text(_table(rules.get(name)).get("measured"), measured) for name in sorted(RULES) if name in rules
            }
        return found

    def _link(self) -> dict[str, Any]:
        link = _table(self._question.get("link"))
        return {
            "connected": link.get("connected") is True,
            "last_error": {
                "stage": text(link.get("stage"), word(("dns", "connect", "tls", "mqtt"))),
                "reason": text(link.get("reason"), reason),
            },
            **_numbers(link, ("rtt_ms", "segments_out", "retransmitted", "denied_topics")),
            "store": text(link.get("store"), word(("ok", "full", "damaged", "failed", "hangs"))),
        }

    def _settings(self) -> dict[str, Any]:
        """Those that are numbers, switches or words of ours. Names of devices, files and brokers stay in `agent.toml`."""
        given = _table(self._question.get("settings"))
        hours = _table(given.get("hours"))
        week = _table(hours.get("week"))
        days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
        return {
            "reporting": _numbers(given.get("reporting"), ("heartbeat_s", "telemetry_s", "alarm_after_s")),
            "checks": _numbers(given.get("checks"), ("every_s",)),
            "heal": _numbers(given.get("heal"), ("enabled", "per_day", "retry_s", "longest_session_s")),
            "light": _numbers(given.get("light"), ("gpio", "dim_pct")),
            "broker": _numbers(given.get("broker"), ("tls", "port", "keepalive_s", "certificate")),
            "hours": {day: [span for span in week.get(day) or () if _SPANS.fullmatch(str(span))] for day in days if day in week},
            "services": sorted(_SERVICES & set(_table(given.get("services")))),
            "peripherals": {name: self._options(item) for name, item in sorted(self.peripherals.items())},
        }

    def _options(self, item: Mapping[str, Any]) -> dict[str, Any]:
        kind = KINDS.get(str(item.get("kind")))
        names = set() if kind is None else {field.name for field in dataclasses.fields(kind.options)}
        options = {key: value for key, value in _table(item.get("options")).items() if key in names}
        return {key: value for key, value in sorted(options.items()) if isinstance(value, bool | int | float)}


def figures(values: Any) -> dict[str, Any]:
    """Numbers under names of ours."""
    return {key: value for key, value in _table(values).items() if _FIGURE(key) == key and number(value) is not None}


def _finding(item: Mapping[str, Any]) -> dict[str, Any]:
    return {key: text(item.get(key), check) for key, check in (("code", word(CODES)), ("severity", _HEALTH), ("fix_by", _HEALTH))}


def _attempt(item: Mapping[str, Any]) -> dict[str, Any]:
    """One remedy: one that runs, one in an alarm, or one that is stored."""
    checks: tuple[tuple[str, Check], ...] = (
        ("remedy", word(REMEDIES)), ("code", word(CODES)), ("outcome", word(OUTCOMES)), ("at", TIME), ("since", TIME),
    )  # fmt: skip
    found: dict[str, Any] = {key: text(item.get(key), check) for key, check in checks if key in item}
    if "at_s" in item:
        found["at"] = _moment(item["at_s"])
    return found | _numbers(item, tuple(key for key in ("rung", "attempt", "episode", "round") if key in item))


def _numbers(values: Any, names: tuple[str, ...]) -> dict[str, Any]:
    table = _table(values)
    return {name: table.get(name) if isinstance(table.get(name), bool | int | float) else None for name in names}


def _moment(at_s: Any) -> str | None:
    if number(at_s) is None:
        return None
    try:
        return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return None


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
