"""The largest and the most laborious documents: refused or applied in about a second, whoever judges them."""

import datetime
import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.contract.decode import MAX_BYTES, encode
from agent.contract.documents import Refusal
from agent.contract.envelope import MAX_ENVELOPE_BYTES
from agent.documents.files import trust_in
from agent.documents.judge import payload_type
from agent.documents.shelf import Shelf
from agent.documents.signatures import seal
from agent.lockdown import rules
from agent.lockdown.rule import Place
from agent.privileged.machine import Machine
from agent.privileged.policy import Floor, Policy
from tests.documents.operator import Operator

OPERATOR = Operator()
NOW = "2026-11-25T12:00:00.000Z"
MOST = 250_000
LIMIT_S = 3.0  # of a processor, on a slow machine too; what `make bench` measures is well under one
CONFIG = '[booth]\nid = "61-0007"\narea = "61"\n[broker]\nurl = "mqtt://127.0.0.1"\n[peripherals.board]\nkind = "board"\n'


def sealed(inside: bytes, signatures: int = 1) -> bytes:
    return seal(payload_type("config"), inside, [OPERATOR.first] * signatures)


def config(doc: Any) -> bytes:
    envelope = sealed(encode(OPERATOR.statement(doc)))
    assert len(encode(OPERATOR.statement(doc))) > 0.6 * MAX_BYTES, "it is one of the largest"
    return envelope


def days(count: int) -> list[str]:
    return [(datetime.date(1900, 1, 1) + datetime.timedelta(days=number)).isoformat() for number in range(count)]


def nested(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = {"a": value}
    return value


CONFIGURATIONS: dict[str, tuple[str, bytes]] = {
    "unknown keys": ("invalid", config({"reporting": {f"k{number}": 0 for number in range(20_000)}})),
    "unknown sections": ("invalid", config({f"k{number}": 0 for number in range(20_000)})),
    "one long text": ("invalid", config({"reporting": {"telemetry_s": "x" * MOST}})),
    "one long time zone": ("invalid", config({"hours": {"tz": "x/" * (MOST // 2)}})),
    "texts for nothing": ("invalid", config({"appointments": {"at": [1] * 80_000}})),
    "unknown needs": ("invalid", config({"services": {"print": {"needs": ["a"] * 50_000}}})),
    "known needs": ("invalid", config({"services": {"print": {"needs": ["scanner"] * 20_000}}})),
    "unknown services": ("invalid", config({"services": {f"s{number}": {} for number in range(15_000)}})),
    "another booth's peripherals": ("", config({"peripherals": {f"p{number}": {} for number in range(15_000)}})),
    "forbidden options": ("invalid", config({"peripherals": {f"p{number}": {"device": 1} for number in range(9_000)}})),
    "exceptions": ("", config({"hours": {"exceptions": {day: ["07:00-12:30"] * 35 for day in days(400)}}})),
    "spans": ("", config({"hours": {"week": {"mon": ["00:00-24:00"] * 15_000}}})),
    "appointments": ("", config({"appointments": {"at": ["2026-12-01T09:30"] * 12_000}})),
    "a long text, deep": ("invalid", config({"reporting": {"telemetry_s": nested("x" * MOST, 26)}})),
    "long keys": ("invalid", config({"reporting": {"k" * 8000 + str(number): 0 for number in range(30)}})),
    "long numbers": ("invalid", config({"x": [10**390] * 600})),
    "nothing but space": ("invalid", sealed(b" " * MOST + b"{}")),
    "nothing but quotation marks": ("invalid", sealed(b'{"schema":"' + b'\\"' * (MOST // 2) + b'"}')),
    "a key twice, at the end": ("bad-json", sealed(encode({str(n): 0 for n in range(24_000)})[:-1] + b',"0":1}')),
    "32 signatures": ("invalid", sealed(encode({"x": "y" * MOST}), 32)),
    "a long type": ("unsupported", seal("t" * MOST, b"{}", [OPERATOR.first] * 32)),
    "90,000 signatures": ("bad-envelope", b'{"payload":"","payloadType":"x","signatures":[' + b"{}," * 90_000 + b"{}]}"),
    "unknown keys outside": ("bad-envelope", encode({str(number): 0 for number in range(24_000)})),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_verifier_takes_about_a_second(tmp_path: Path, name: str) -> None:
    code, envelope = CONFIGURATIONS[name]
    assert len(envelope) <= MAX_ENVELOPE_BYTES, "else it would not be looked at"
    (tmp_path / "agent.toml").write_text(CONFIG)
    OPERATOR.install(tmp_path)
    question = {
        "act": "judge", "kind": "config", "layer": "booth", "now": NOW, "config": str(tmp_path / "agent.toml"),
        "state_dir": str(tmp_path),
    }  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    line = json.dumps(question).encode() + b"\n"
    command = [sys.executable, "-I", "-m", "agent.verifier"]
    answer = json.loads(subprocess.run(command, input=line + envelope, capture_output=True, check=True).stdout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < LIMIT_S
    assert {error["code"] for error in answer["errors"]} == ({code} if code else set())
    assert answer["outcome"] == ("refused" if code else "accepted")
    assert len(answer["errors"]) <= 51
    assert len(encode(answer["errors"])) < 50_000, "what is said of it is not as large as it"


# --- what root judges ---

HOSTS = [f"{number:05}.a-name-that-is-long.fr" for number in range(999)]
DEEP = [".".join(["a"] * 120) + f".x{number}.fr" for number in range(800)]
HOURLY = [f"{hour:02}:00-{hour:02}:59" for hour in range(24)]
POLICIES: dict[str, tuple[str, Mapping[str, Any]]] = {
    "as many sites as can be open": ("", {"web": {"groups": {"all": HOSTS}, "allow": ["all"]}}),
    "sites of 121 labels": ("", {"web": {"groups": {"all": DEEP}, "allow": ["all"]}}),
    "a site that is nearly one": ("invalid", {"web": {"groups": {"all": ["a-" * (MOST // 2) + "!"]}}}),
    "a site of too many labels": ("invalid", {"web": {"groups": {"all": ["a." * (MOST // 2) + "!"]}}}),
    "12,000 groups": ("invalid", {"web": {"groups": {f"g{number}": ["x"] for number in range(12_000)}}}),
    "400 days of 24 spans": ("", {"hours": {"exceptions": dict.fromkeys(days(400), HOURLY)}}),
    "400 days, 24 times as a whole": ("", {"hours": {"exceptions": dict.fromkeys(days(400), ["00:00-24:00"] * 24)}}),
    "the most networks and ports": ("", {"firewall": {"custom": {
        f"c{one}": {
            "ports": [f"{(one * 16 + port) * 100 + 1}-{(one * 16 + port) * 100 + 90}" for port in range(16)],
            "to": [f"2001:db8:{one:x}:{net:x}::/64" for net in range(32)],
        } for one in range(16)
    }}}),
    "the most domains": ("", {"firewall": {"services": ["http", "https"], "domains": DEEP[:500]}}),
    "a network that is a number": ("invalid", {"firewall": {"custom": {"a": {"to": ["1" * MOST]}}}}),
    "60,000 windows": ("invalid", {"consoles": {"ssh": [{}] * 60_000}}),
    "20,000 rules": ("invalid", {f"k{number}": 0 for number in range(20_000)}),
    "a slot that is nearly one": ("invalid", {"usb": {"slots": {"a-" * (MOST // 2): []}}}),
}  # fmt: skip


@pytest.mark.parametrize("name", POLICIES)
def test_root_takes_about_a_second(tmp_path: Path, name: str) -> None:
    """To judge it, to judge another one with it in force, and to say what is in force."""
    code, doc = POLICIES[name]
    OPERATOR.install(tmp_path)
    trust = trust_in(tmp_path)
    policy = Policy(Machine(tmp_path), rules(), Floor({}, {}), Shelf(tmp_path / "policy"), Place(), NOW)
    for rev, one in enumerate((doc, {**doc, "camera": {"use": "visio-sessions"}})):
        envelope = OPERATOR.sign("policy", one, rev, keys=OPERATOR.both)
        said = ""
        begin_s = time.process_time()
        try:
            judged = policy.judge("booth", envelope, ("61", "61-0007"), trust)
            policy.accept("booth", judged, envelope)
            policy.confirm()
            policy.report("applied", {})
            list(policy.changes())
        except Refusal as refusal:
            said = refusal.code
        assert time.process_time() - begin_s < LIMIT_S
        assert said == code
