"""Good documents to begin with, and the words that occur in them."""

import dataclasses
import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from agent.contract.command import Request, SignedRequest
from agent.contract.documents import CONFIG_SECTIONS, Document
from agent.contract.forms import Catalogue
from agent.contract.typed import schema
from agent.documents.trust import Trust
from agent.settings_tables import Document as Tables
from agent.updates.agent_release import BASE, Manifest, this_architecture
from agent.updates.environment import this_python
from tests.fuzz import mutate_archive
from tests.fuzz.targets import KINDS, OPERATOR, RULES, VERBS
from tests.fuzz.targets_updates import NO_WHEEL, UPDATES, WHEEL

PROFILES = Path(__file__).parents[2] / "provisioning/profiles"

CONFIG: dict[str, Any] = {
    "reporting": {"heartbeat_s": 600, "telemetry_s": 60, "alarm_after_s": 5},
    "hours": {"tz": "Europe/Paris", "week": {"mon": ["07:00-12:30", "14:00-19:30"]}, "exceptions": {"2026-12-25": []}},
    "checks": {"every_s": 3600},
    "heal": {"enabled": True, "per_day": 5, "retry_s": 600, "longest_session_s": 3600},
    "light": {"red": "r", "green": "g", "blue": "b", "dim_pct": 10},
    "services": {"print": {"either": ["document-printer"]}, "scan": {"offered": False}},
    "broker": {"url": "mqtts://broker.example:8883", "keepalive_s": 60},
    "appointments": {"at": ["2026-12-01T09:30"]},
    "home_assistant": {"enabled": False},
    "peripherals": {"board": {"over_temperature_c": 70.5}, "network": {"check_url": "http://check.example/204"}, "other": {}},
}
POLICY: dict[str, Any] = {
    "web": {
        "groups": {"state": ["caf.fr", "https://ants.gouv.fr:8443"], "visio": ["visio.example.org"]}, "allow": ["state", "visio"],
        "downloads": True, "uploads": True, "printing": True, "camera_origins": ["https://visio.example.org"],
    },
    "usb": {"classes": ["hid"], "slots": {"scanner": ["scanner", "vendor"]}},
    "firewall": {
        "services": ["http", "https", "webrtc"], "domains": ["service-public.fr"], "ssh_from": ["198.51.100.0/24"],
        "custom": {"meeting": {"protocol": "udp", "ports": [443, "10000-20000"], "to": ["192.0.2.0/24", "2001:db8::/32"]}},
    },
    "consoles": {"getty": False, "ssh": [{"from": "2026-12-07T09:00:00.000Z", "until": "2026-12-07T11:00:00.000Z"}]},
    "camera": {"use": "visio-sessions", "microphone": True},
    "session": {"idle_warn_s": 120, "idle_wipe_s": 180, "longest_s": 3600, "keep": ["scans"]},
    "printing": {"pages_per_session": 20, "pages_per_day": 200, "held_job_s": 60, "history": True},
    "hours": {"tz": "Europe/Paris", "week": {"mon": ["09:00-12:00"]}, "exceptions": {"2026-12-25": []}, "outside": "kiosk-off"},
}  # fmt: skip

COMMAND: dict[str, Any] = {
    "booth": "61-0007", "verb": "maintenance", "id": "c-1", "wait_s": 60, "by": "tech-7",
    "issued_at": "2026-11-25T12:00:00.000Z", "expires_at": "2026-11-25T12:05:00.000Z",
}  # fmt: skip
ARGUMENTS: list[dict[str, Any]] = [
    {"on": True, "duration_s": 600}, {"peripheral": "scanner", "remedy": "usb-reset"}, {"peripherals": ["board", "camera"]},
    {"what": "cups"}, {"id": "c-2"}, {"max_bytes": 65536}, {},
]  # fmt: skip

_FILE: dict[str, Any] = {"url": "https://updates.example/a/1.4.0.tar?k=1", "size_bytes": 15_000_000, "sha256": "0" * 64}
UPDATE: dict[str, Any] = {
    "agent": {
        "version": "1.4.0",
        "artifacts": {"amd64": _FILE, "arm64": _FILE | {"url": "http://[::1]:8080/x"}},
        "window": "idle",
    },
    "forms": {"catalogue": _FILE, "window": "power-on"},
}
VERSIONS = ["1.4", "1.4.0.dev3", "1.4.0a1", "1.4.0b2.dev1", "1.4.0rc10", "1.10.0", "0.0.1"]  # in no section, and ordered
FORM: dict[str, Any] = {
    "cerfa": "15776*02", "title": "Demande d'aide au logement", "file": "15776-02.pdf", "version": "02", "sha256": "1" * 64,
    "size_bytes": 250_000, "verified_on": "2026-11-01", "not_after": "2027-12-31", "withdrawn": False, "copies": 2,
    "source": "https://www.service-public.fr/formulaires/15776", "warning": "Signez la page 2.",
}  # fmt: skip
CATALOGUE: dict[str, Any] = {
    "schema": 1, "version": "2026-11-01",
    "forms": [FORM, FORM | {"cerfa": "11271", "file": "a.pdf", "not_after": None, "warning": None, "withdrawn": True}],
}  # fmt: skip
MANIFEST: dict[str, Any] = {
    "schema": 1, "name": "booth-agent", "version": "1.4.0", "architecture": this_architecture(), "base": BASE,
    "python": [this_python(), "3.13"],
    "wheels": [{"file": WHEEL, "sha256": sha256(NO_WHEEL).hexdigest(), "python": this_python()}],
}  # fmt: skip
ARCHIVED: list[dict[str, bytes]] = [
    {"manifest.json": b"{}", "wheels/a-1.0-py3-none-any.whl": b"PK" * 300},
    {"catalogue.json": b"{}", "a.pdf": b"%PDF-"},
    {"a": b""},
]


def seeds(target: str) -> Iterator[bytes]:
    """Good ones for a target."""
    if target == "archive":
        yield from map(mutate_archive.small, ARCHIVED)
        return
    made: dict[str, list[Any]] = {
        "envelope": [json.loads(OPERATOR.sign("policy", {}, keys=OPERATOR.both)) | {"payloadType": "x"}],
        "document": [
            OPERATOR.statement(CONFIG), OPERATOR.statement(POLICY, 2, not_after="2027-01-01T00:00:00.000Z", confirm_s=60),
        ],
        "trust": [OPERATOR.trust(), OPERATOR.trust(version=2, epoch=2)],
        "policy": [POLICY, *({name: part} for name, part in POLICY.items())],
        "command": [COMMAND | {"args": args} for args in ARGUMENTS],
        "config": [CONFIG, *({name: part} for name, part in CONFIG.items())],
        "update": [UPDATE | {"versions": VERSIONS}, *({name: part} for name, part in UPDATE.items())],
        "catalogue": [CATALOGUE, CATALOGUE | {"forms": [FORM]}],
        "manifest": [MANIFEST, MANIFEST | {"python": ["3.99"]}],
    }  # fmt: skip
    for value in made[target]:
        yield json.dumps(value).encode()


def words() -> list[str]:
    """Every key and every word that a document may hold, from the types."""
    schemas = [schema(type_) for type_ in (Document, Trust, Tables, SignedRequest, Request, Catalogue, Manifest)]
    schemas += [schema(kind.section) for kind in UPDATES.values()]
    schemas += [schema(verb.args) for verb in VERBS.values()]
    schemas += [schema(rule.schema) for rule in RULES.values()]
    found = {*CONFIG_SECTIONS, *KINDS, *RULES, *UPDATES}
    for kind in KINDS.values():
        found |= {field.name for field in dataclasses.fields(kind.options)}
    found |= {
        word
        for value in (*schemas, CONFIG, POLICY, UPDATE, VERSIONS, CATALOGUE, MANIFEST)
        for word in _texts(value)
        if len(word) <= 60
    }
    return sorted(found)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from (key, *_texts(item))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
