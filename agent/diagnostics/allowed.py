"""The allow-list of texts: each is one of our own words in a known place, or it is left out.

A pattern is no allow-list: a social-security number is a word of letters and digits, too. So a text passes only where the agent's
own source, the kernel or a library of ours chooses among known words, or where its form can hold nothing of a person (an
address of a private network, a version). Numbers and booleans pass: they are measured.
"""

import errno
import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, get_args

from agent.contract.command import CommandState, Reason
from agent.contract.documents import LayerName, RefusalCode
from agent.contract.forms import Flaw
from agent.contract.health import FactValue
from agent.contract.topics import DOCUMENT_KINDS, EVENT_CLASSES
from agent.contract.words import FixBy, LightWord, ServiceWord, Severity, Status
from agent.peripherals import declared as declared_kinds
from agent.peripherals.printer_reasons import KNOWN, SUFFIXES
from agent.rules.ladder import Outcome
from agent.verbs import declared as declared_verbs

LEFT_OUT: Final = "(left out)"
Check = Callable[[str], str]  # the text as it may go in, or LEFT_OUT


def literals(*types: Any) -> frozenset[str]:
    """The words of `Literal` types, those of unions of them as well."""
    words: set[str] = set()
    for one in types:
        for word in get_args(one):
            words |= {word} if isinstance(word, str) else literals(word)
    return frozenset(words)


KINDS: Final = declared_kinds()
VERBS: Final = frozenset(declared_verbs())
CODES: Final = frozenset(code for kind in KINDS.values() for code in kind.finding_kinds)
REMEDIES: Final = frozenset(
    [rung.name for kind in KINDS.values() for rung in kind.ladder]
    + [chore.name for kind in KINDS.values() for chore in kind.chores]
)
OUTCOMES: Final = literals(Outcome)
COMMAND_STATES: Final = literals(CommandState)
COMMAND_REASONS: Final = literals(Reason, RefusalCode)
RULES: Final = frozenset({"web", "usb", "firewall", "consoles", "camera", "session", "printing", "hours"})
WORDS: Final = literals(Status, Severity, FixBy, ServiceWord, LightWord)

_PRINTER_REASONS: Final = frozenset(word + suffix for word in KNOWN for suffix in ("", *SUFFIXES))
# What findings give as a reason: ours, word for word, and the libraries' fixed ones.
_REASONS: Final = frozenset({
    "not plugged in", "the backend does not find it", "out of memory", "ends again and again", "crashed", "absent", "muted",
    "taken", "below-floor", "no-time-source", "session-without-end", "no-route", "nothing-beyond", "unknown-name", "no-answer",
    "timeout", "refused", "unreachable", "certificate-not-yet-valid", "certificate-expired", "unknown-ca", "certificate-revoked",
    "wrong-name", "certificate-refused", "certificate-file-unreadable", "handshake-failed", "no-connack", "no-puback",
    "connection-lost", "session-taken-over", "closed", "quota-exceeded", "packet-too-large",
    "no cameras available", "selected camera is not available",
    "the session lock cannot be opened: nothing is scanned, filmed or mended",
    "the kernel has no control groups of version 2 at /sys/fs/cgroup",
    "rate-limited", "busy", "not-installed", "not-supported", "unknown-slot", "timed-out", "not-stored", "no-reboot",
    "not-probed",
})  # fmt: skip
_STRERRORS: Final = frozenset(os.strerror(number) for number in errno.errorcode)
_SANE: Final = (
    "ok", "busy", "invalid", "end-of-file", "jammed", "no-docs", "cover-open", "io-error", "no-memory", "access-denied",
    "warming-up", "locked",
)  # fmt: skip


def word(known: Iterable[str]) -> Check:
    """One of some words."""
    words = frozenset(known)
    return lambda text: text if text in words else LEFT_OUT


def every(check: Check, separator: str) -> Check:
    """Some of them, with a separator between."""
    return lambda text: separator.join(check(part) for part in text.split(separator)) if text else ""


def form(pattern: str) -> Check:
    """A form that can hold nothing of a person."""
    compiled = re.compile(pattern, re.ASCII)
    return lambda text: text if compiled.fullmatch(text) else LEFT_OUT


def reason(text: str) -> str:
    """Why: a word of ours, or what the kernel calls an error, behind the step that met it."""
    if text in _REASONS or text in COMMAND_REASONS or text in CODES:
        return text
    if re.fullmatch(r"no (answer|result) in [0-9.]{1,6} s", text):
        return text
    error = text.rpartition(": ")[2]
    return error if error in _STRERRORS else LEFT_OUT


def address(text: str) -> str:
    """An address of the shop's own network; of any other only which kind it is."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return LEFT_OUT
    if found.is_private or found.is_link_local:
        return str(found) if found.version == 4 else "IPv6, private"
    return f"IPv{found.version}, public"


def interface(text: str) -> str:
    """The kernel's name of it; without the hardware address that udev writes into some."""
    if re.fullmatch("(enx|wlx|wwx)[0-9a-f]{12}", text):
        return text[:3] + "…"
    return form("(lo|eth|usb|wlan|wwan|end|eno|ens|enp|wlo|wls|wlp|wwp)[0-9]{0,3}([a-z][0-9]{1,3}){0,4}")(text)


# A library's reason behind a stage of ours: OpenSSL's and MQTT's words are constants of theirs.
_stage = form(r"connected|(dns|connect|tls|mqtt):[a-z][a-z-]{1,40}( \([A-Za-z]{1,30}\))?")
_printer_reasons = every(word(_PRINTER_REASONS), ",")
_TOPICS: Final = frozenset(
    {"state", "meta", "health", "service", "led", "alarm", "event", "tele", "cmd", "echo", *DOCUMENT_KINDS}
)
_PREFIX: Final = re.compile(r"booth/v1/[a-z0-9-]{1,32}/[a-z0-9-]{3,40}/")


def topic(text: str) -> str:
    """What a topic is about: what stands behind may be what somebody called his command."""
    first = _PREFIX.sub("", text, count=1).partition("/")[0]
    return first if first in _TOPICS else LEFT_OUT


_topics = every(topic, " ")
_SOUND: Final = word(("ok", "absent", "muted", "taken"))
_CERFA: Final = every(form(r"[1-9][0-9]{4}(\*[0-9]{2})?"), " ")
_DAY: Final = form("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_FLAWS: Final = every(word(literals(Flaw)), " ")
_UPDATE: Final = form(r"[a-z-]{1,32} [0-9a-z.]{1,40}: [a-z0-9-]{1,64}")
_NEVER: Final[Check] = lambda _: LEFT_OUT  # noqa: E731 - one of a row of them

# Every fact that is a text, by its kind and name. A new one fails a test until somebody has decided here.
FACTS: Final[Mapping[tuple[str, str], Check]] = {
    ("audio", "microphone"): _SOUND,
    ("audio", "microphone_card"): _NEVER,  # in the device's words
    ("audio", "speaker"): _SOUND,
    ("audio", "speaker_card"): _NEVER,
    ("board", "failed_units"): _NEVER,  # the section `units` has them: a mount unit is named after a USB stick's label
    ("booth", "store"): word(("ok", "full", "damaged", "failed", "hangs")),
    ("booth", "denied_topics"): _topics,
    ("booth", "drifted_rules"): every(word(RULES), " "),
    ("booth", "update_failed"): _UPDATE,
    ("document-printer", "trouble"): reason,
    ("document-printer", "state"): word(("idle", "processing", "stopped")),
    ("document-printer", "reasons"): _printer_reasons,
    ("document-printer", "stale_reasons"): _printer_reasons,
    ("document-printer", "toner_lowest"): _NEVER,  # in the printer's words
    ("forms", "catalogue"): _DAY,
    ("forms", "missing_forms"): _CERFA,
    ("forms", "flaws"): _FLAWS,
    ("forms", "expired_forms"): _CERFA,
    ("forms", "withdrawn_forms"): _CERFA,
    ("forms", "verified_on"): _DAY,
    ("forms", "next_not_after"): _DAY,
    ("network", "interface"): interface,
    ("network", "address"): address,
    ("network", "gateway"): address,
    ("network", "dns"): word(("ok", "unknown-name", "no-answer", "timeout")),
    ("network", "check"): form(r"ok|portal|http-[1-5][0-9]{2}|(tls|connect):[a-z][a-z-]{1,40}"),
    ("network", "broker"): _stage,
    ("receipt-printer", "paper"): word(("adequate", "low", "empty")),
    ("receipt-printer", "error"): word(("cutter", "recoverable", "unrecoverable", "auto-recoverable")),
    ("scanner", "status"): word(_SANE),
}

# Texts in the detail of a finding, by their key. What a device or a dying library said (`text`, `found`) has no line here.
_DETAIL: Final[Mapping[str, Check]] = {
    "reason": reason,
    "at": word(("check-page", "broker")),
    "stage": word(("dns", "connect", "tls", "mqtt")),
    "interface": interface,
    "forms": _CERFA,
    "flaws": _FLAWS,
    "gateway": address,
    "topics": _topics,
    "rules": every(word(RULES), " "),
    "store": word(("full", "damaged", "failed", "hangs")),
    "update": _UPDATE,
    "act": word(REMEDIES),
    "how": form(r"exit-[0-9]{1,3}|SIG[A-Z0-9]{2,8}|signal-[0-9]{1,2}"),
    "connector": word(("csi",)),
    "reasons": _printer_reasons,
}

# Fields of our own journal lines, by the name that the log handler gives them.
JOURNAL_FIELDS: Final[Mapping[str, Check]] = {
    "peripheral": _NEVER,  # checked against those that are configured
    "code": word(CODES | COMMAND_REASONS),
    "reason": lambda text: text if re.fullmatch("[0-9]{1,3}", text) else reason(text),
    "topic": topic,
    "kind": word(DOCUMENT_KINDS),
    "layer": word(literals(LayerName)),
    "verb": word(VERBS),
    "class": word(EVENT_CLASSES),
    "attempt": form("[0-9]{1,4}"),
}

TIME: Final = form(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")
VERSION: Final = form(r"[0-9A-Za-z][0-9A-Za-z.+~:_-]{0,63}")
SLOT: Final = form(r"usb-[0-9]{1,2}(\.[0-9]{1,2}){0,6}|csi|[0-9]{1,2}-[0-9]{1,2}(\.[0-9]{1,2}){0,6}")
BOOT_ID: Final = form(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{32}")
DIGEST: Final = form("[0-9a-f]{64}")


def fact(kind: str, name: str, value: Any) -> FactValue:
    """A declared fact as it may go in."""
    if value is None or isinstance(value, bool | int | float):
        return value
    check = FACTS.get((kind, name), _NEVER)
    return check(value) if isinstance(value, str) else LEFT_OUT


def detail(values: Any) -> dict[str, Any]:
    """The detail of a finding: measured numbers, and texts that have a line above."""
    if not isinstance(values, Mapping):
        return {}
    found: dict[str, Any] = {}
    for key, value in values.items():
        if not re.fullmatch("[a-z]{1,20}(_[a-z]{1,20}){0,4}", str(key)):
            continue  # no name of ours
        if value is None or isinstance(value, bool | int | float):
            found[key] = value
        elif isinstance(value, str):
            found[key] = _DETAIL.get(key, _NEVER)(value)
    return found


def text(value: Any, check: Check) -> str | None:
    """A text as it may go in; None for what is none."""
    return check(value) if isinstance(value, str) else None


def number(value: Any) -> int | float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
