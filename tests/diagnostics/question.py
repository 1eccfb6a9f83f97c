"""What a daemon knows, as it tells the process that makes the bundle: something of everything."""

import json
from typing import Any

AT = "2026-10-06T12:32:00.000Z"


def health(kind: str, **over: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "peripheral": kind, "kind": kind, "slot": None, "status": "fault", "findings": [], "facts": {},
        "device": {"vendor": "Acme", "product": "Thing", "serial": "1"}, "since": AT, "checked_at": AT, "healing": None,
    }  # fmt: skip
    return whole | over


def finding(code: str, **detail: Any) -> dict[str, Any]:
    return {"code": code, "severity": "fault", "fix_by": "shopkeeper", "since": AT, "detail": detail}


HEALTHS = {
    "receipt-printer": health("receipt-printer", slot="usb-1.2", facts={"paper": "empty", "online": False, "error": None}),
    "document-printer": health(
        "document-printer",
        findings=[
            finding("other", reason="com.acme.strange-error"),
            finding("queue-stopped", reasons="media-jam", accepting=False),
        ],
        facts={"reasons": "media-empty-report,com.acme.strange-error", "toner_lowest": "Black CF230A", "queued_jobs": 3},
        healing={"remedy": "enable-queue", "rung": 1, "attempt": 2, "since": AT},
    ),
    "network": health(
        "network", slot="enx001122334455", findings=[finding("gateway-unreachable", gateway="192.168.1.1")],
        facts={"interface": "enx001122334455", "address": "92.184.105.3", "gateway": "192.168.1.1", "broker": "connect:refused"},
    ),
    "scanner": health("scanner", findings=[finding("probe-failed", reason="crashed", how="SIGSEGV", text="Jean", pid=4711)]),
    "board": health("board", facts={"failed_units": "media-JEANNE.mount", "temperature_c": 51.5}),
    "camera": health("camera", findings=[finding("device-changed", found="046d:0825 Jeanne's iPhone")]),
    "booth": health("booth", facts={"store": "ok", "denied_topics": "cmd health/x", "drifted_rules": "usb web"}),
    "audio": health("audio", facts={"microphone": "ok", "microphone_card": "Jeanne's headset"}),
}  # fmt: skip


def status(verb: str, id_: str, **over: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "id": id_, "verb": verb, "state": "failed", "step": None, "pct": None, "reason": "busy", "result": {"message": "x y"},
        "by": "tech-7", "at": AT,
    }  # fmt: skip
    return whole | over


def question() -> dict[str, Any]:
    """A new one each time: with it, a test may do what it likes."""
    image: dict[str, Any] = {f"health/{name}": value for name, value in HEALTHS.items()}
    image |= {
        "state": {"state": "online", "session": "0a", "since": AT, "services": {}},
        "led": "your-turn",
        "service/print": "down",
        "alarm/document-printer/other": {
            "peripheral": "document-printer", "code": "other", "severity": "fault", "fix_by": "technician", "since": AT,
            "tried": [{"remedy": "enable-queue", "at": AT, "outcome": "failed"}], "part": "x", "text": {"fr": "f", "en": "e"},
        },
        "cmd/probe/c-1/status": status("probe", "c-1"),
        "cmd/jeanne-dupont/c-2/status": status("jeanne-dupont", "c-2", state="refused", reason="unknown-verb"),
        "config/reported": {
            "status": "applied", "layers": {"fleet": {"seen_rev": 7, "applied_rev": 7}, "area": None, "booth": None},
            "effective_sha256": "0" * 64, "sections": {"hours": {"value": "x"}}, "at": AT,
            "errors": [{"layer": "booth", "code": "invalid", "path": "doc.x", "message": "m"}],
        },
        "policy/reported": {"status": "drifted", "rules": {"usb": {"measured": "violated", "at": AT, "detail": "stick"}}},
    }  # fmt: skip
    return {
        "max_bytes": 256 * 1024,
        "area": "61",
        "booth": "61-0007",
        "at": AT,
        "clock": "synced",
        "boot_id": "01234567-89ab-cdef-0123-456789abcdef",
        "board": {"model": "Raspberry Pi 4 Model B Rev 1.4", "os": "Debian", "kernel": "6.1", "architecture": "aarch64"},
        "image": {topic: value if isinstance(value, str) else json.dumps(value) for topic, value in image.items()},
        "peripherals": {name: {"kind": name, "options": {"device": "usb://04b8:0202", "poll_s": 15.0}} for name in HEALTHS}
        | {"kiosk": {"kind": "kiosk", "options": {"unit": "kiosk.service", "heartbeat_s": 30}}},
        "settings": {
            "reporting": {"heartbeat_s": 3600, "telemetry_s": 900, "alarm_after_s": 30},
            "hours": {"tz": "Europe/Paris", "week": {"mon": ["07:00-12:30", "soon"]}},
            "broker": {"tls": True, "port": 8883, "keepalive_s": 30, "certificate": True},
            "services": {"print": {}, "web": {}},
        },
        "healing": {
            "rebooted_s": 1_790_000_000.0,
            "cases": {"document-printer": {"episode": 3, "attempts": [{
                "remedy": "enable-queue", "code": "queue-stopped", "at_s": 1_790_000_000.0, "episode": 3, "round": 0,
                "outcome": "failed",
            }]}},
        },
        "link": {"connected": False, "stage": "connect", "reason": "refused", "store": "ok", "denied_topics": 0, "rtt_ms": 12.5},
        "figures": {"rss_bytes": 20_000_000, "cpu_s": 1.5},
    }  # fmt: skip
