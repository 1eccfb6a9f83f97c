"""What a shopkeeper says on the phone about a finding: "P12", P as in papier. Stable across versions.

Whoever answers looks it up in docs/runbook/README.md. A new finding takes the next free number of its kind, and a number is
never given to another finding, even when its own is gone.
"""

from collections.abc import Mapping
from typing import Final

# The letter of each kind of peripheral, and the word that it is spelled with.
LETTERS: Final[Mapping[str, tuple[str, str]]] = {
    "audio": ("A", "audio"),
    "board": ("C", "carte"),
    "booth": ("L", "logiciel"),
    "camera": ("V", "vidéo"),
    "document-printer": ("P", "papier"),
    "forms": ("F", "formulaire"),
    "kiosk": ("E", "écran"),
    "network": ("R", "réseau"),
    "receipt-printer": ("T", "ticket"),
    "scanner": ("S", "scanner"),
}

# What any kind may have.
_COMMON: Final[Mapping[str, int]] = {"no-device": 1, "not-responding": 2, "wedged": 3, "probe-failed": 4, "device-changed": 5}

_OWN: Final[Mapping[str, Mapping[str, int]]] = {
    "audio": {"no-microphone": 11, "no-speaker": 12},
    "board": {
        "under-voltage": 11, "throttled": 12, "over-temperature": 13, "storage-low": 14, "storage-read-only": 15,
        "storage-worn": 16, "storage-errors": 17, "memory-low": 18, "clock-unsynced": 19, "unit-failed": 20,
    },
    "booth": {
        "publish-denied": 11, "subscribe-denied": 12, "policy-drift": 13, "store-damaged": 14, "store-full": 15,
        "takeover": 16, "update-failed": 17, "certificate-expiring": 18,
    },
    "camera": {"busy": 11, "no-frames": 12, "black": 13, "frozen": 14},
    "document-printer": {
        "media-jam": 11, "media-empty": 12, "media-needed": 13, "media-low": 14, "cover-open": 15, "door-open": 16,
        "input-tray-missing": 17, "output-tray-missing": 18, "output-area-full": 19, "output-area-almost-full": 20,
        "toner-low": 21, "toner-empty": 22, "marker-supply-low": 23, "marker-supply-empty": 24, "marker-supply-missing":
        25, "marker-waste-almost-full": 26, "marker-waste-full": 27, "developer-low": 28, "developer-empty": 29,
        "fuser-over-temp": 30, "fuser-under-temp": 31, "opc-near-eol": 32, "opc-life-over": 33, "spool-area-full": 34,
        "interpreter-resource-unavailable": 35, "timed-out": 36, "offline": 37, "other": 38, "queue-stopped": 39,
        "job-stuck": 40, "queue-missing": 41, "access-denied": 42, "scheduler-down": 43,
    },
    "forms": {"form-missing": 11, "form-expired": 12, "form-withdrawn": 13},
    "kiosk": {"app-not-running": 11, "app-frozen": 12},
    "network": {
        "no-carrier": 11, "no-address": 12, "gateway-unreachable": 13, "dns-failure": 14, "captive-portal": 15,
        "tls-failure": 16, "broker-unreachable": 17, "high-latency": 18, "high-loss": 19, "weak-signal": 20,
    },
    "receipt-printer": {
        "media-empty": 11, "media-low": 12, "cover-open": 13, "cutter-error": 14, "recoverable-error": 15,
        "auto-recoverable-error": 16, "unrecoverable-error": 17, "offline": 18,
    },
    "scanner": {
        "jammed": 11, "cover-open": 12, "io-error": 13, "access-denied": 14, "lamp-error": 15, "hardware-error": 16,
        "no-docs": 17, "busy": 18,
    },
}  # fmt: skip


def phone_code(kind: str, code: str) -> str | None:
    """Such as "P12"; None for a finding without one."""
    number = _COMMON.get(code) or _OWN.get(kind, {}).get(code)
    return None if number is None or kind not in LETTERS else f"{LETTERS[kind][0]}{number}"


def numbered(kind: str) -> frozenset[str]:
    """The codes of the findings of a kind that have a number of their own."""
    return frozenset(_OWN.get(kind, ()))


def spelled(kind: str) -> str:
    """How its letter is said, so that P is not taken for T."""
    letter, word = LETTERS[kind]
    return f"{letter} comme {word}"
