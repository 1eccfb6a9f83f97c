"""Root's part of the policy: what it takes from whom, applies, measures, corrects, and takes back."""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import pytest

from agent.contract.typed import Range
from agent.documents import disk
from agent.documents.signatures import seal
from agent.documents.trust import PAYLOAD_TYPE
from agent.lockdown.rule import COMPLIANT, Ended, Later, Measured, Place, Rule
from agent.lockdown.rule import Machine as RuleMachine
from agent.privileged.keeping import Lockdown, Request
from agent.privileged.machine import Machine
from tests.documents.operator import Operator, key

FLEET = "booth/v1/_all/_all"
TOMORROW = datetime(2027, 3, 1, 12, 0)  # noqa: DTZ001 - local, as rules have it
BOOTH = "booth/v1/61/61-0007"


@dataclass(frozen=True)
class Doors:
    """A door, shut by default. One that `waits` is not touched while a citizen is there; `tomorrow` it changes by itself."""

    open: Annotated[int, Range(0, 9)] = 0
    jams: bool = False
    waits: bool = False
    tomorrow: int | None = None


def toy(name: str) -> Rule:
    """A rule whose state is a number in a file."""

    def file(machine: RuleMachine) -> Path:
        return machine.path(f"etc/{name}")

    def wanted(place: Place, part: Doors) -> str:
        changed = part.tomorrow is not None and place.now is not None and place.now >= TOMORROW
        return str(part.tomorrow if changed else part.open)

    def apply(machine: RuleMachine, place: Place, part: Doors) -> None:
        if part.jams:
            raise Ended("the door jams")
        if machine.text(file(machine)) != wanted(place, part):
            if part.waits and place.in_session:
                raise Later("somebody stands in it")
            machine.put(file(machine), f"{wanted(place, part)}\n")

    def measure(machine: RuleMachine, place: Place, part: Doors) -> Measured:
        seen = machine.text(file(machine))
        return COMPLIANT if seen == wanted(place, part) else Measured("violated", f"{seen} open")

    def next_change(place: Place, part: Doors) -> datetime | None:
        return TOMORROW if part.tomorrow is not None and place.now is not None and place.now < TOMORROW else None

    return Rule(
        name, Doors, lambda before, after: after.open > before.open, apply, measure,
        lambda machine, _place: machine.remove(file(machine)), next_change=next_change, watched=(f"etc/{name}",),
    )  # fmt: skip


class Booth:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.machine = Machine(root)
        self.operator = Operator()
        self.reachable = True
        self.waited_s = 0.0
        self.meanwhile: Callable[[], object] = lambda: None  # what happens while it waits
        etc = root / "etc/booth-agent"
        etc.mkdir(parents=True)
        (etc / "agent.toml").write_text('[booth]\nid = "61-0007"\narea = "61"\n[broker]\nurl = "mqtts://broker.example:8883"\n')
        (etc / "slots.toml").write_text("")
        for file in (etc, etc / "slots.toml"):
            file.chmod(0o755)
        self.operator.install(etc)
        self.floor({}, {})

    def floor(self, policy: dict[str, Any], bounds: dict[str, Any]) -> None:
        file = self.root / "usr/lib/booth-agent/floor.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"policy": policy, "bounds": bounds}))

    def lockdown(self) -> Lockdown:
        def pause(seconds: float) -> None:
            self.waited_s += seconds
            self.meanwhile()

        rules = {name: toy(name) for name in ("front", "back")}
        return Lockdown(self.machine, lambda _host, _port: self.reachable, lambda: self.waited_s, pause, rules)

    def take(self, envelope: bytes, layer: Any = "booth", kind: Any = "policy") -> list[dict[str, Any]]:
        return list(self.lockdown().take(Request(kind, layer, len(envelope)), envelope))

    def sign(self, doc: Any, rev: int = 1, **over: Any) -> bytes:
        return self.operator.sign("policy", doc, rev, **({"keys": self.operator.both} | over))

    def said(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads((self.root / "run/booth-lockdown/reported.json").read_text())
        return report

    def open(self, name: str) -> str | None:
        return self.machine.text(self.root / "etc" / name)


@pytest.fixture
def booth(tmp_path: Path) -> Booth:
    return Booth(tmp_path)


def test_without_a_policy_everything_is_locked(booth: Booth) -> None:
    report = booth.lockdown().apply()
    assert (booth.open("front"), booth.open("back")) == ("0", "0")
    assert report["rules"]["front"]["measured"] == "compliant"
    assert report["sections"]["front"]["layer"] == "default"


def test_the_images_floor_counts_where_no_document_does(booth: Booth) -> None:
    booth.floor({"front": {"open": 2}}, {})
    report = booth.lockdown().apply()
    assert booth.open("front") == "2"
    assert report["sections"]["front"] == {"status": "applied", "layer": "floor", "value": report["sections"]["front"]["value"]}
    assert report["sections"]["front"]["value"]["open"] == 2


def test_a_policy_is_applied_confirmed_and_measured(booth: Booth) -> None:
    reports = booth.take(booth.sign({"front": {"open": 1}}))
    assert [report["status"] for report in reports] == ["applying", "awaiting-confirmation", "applied"]
    assert reports[-1]["layers"]["booth"] == {"seen_rev": 1, "applied_rev": 1}
    assert reports[-1]["rules"]["front"]["measured"] == "compliant"
    assert booth.open("front") == "1"
    assert json.loads((booth.root / "run/booth-lockdown/reported.json").read_text())["status"] == "applied"


def test_the_same_bytes_again_change_nothing(booth: Booth) -> None:
    envelope = booth.sign({"front": {"open": 1}})
    booth.take(envelope)
    assert [report["status"] for report in booth.take(envelope)] == ["applied"]


def test_loosening_takes_two_signatures(booth: Booth) -> None:
    [report] = booth.take(booth.sign({"front": {"open": 1}}, keys=[booth.operator.first]))
    assert report["status"] == "rejected"
    assert report["errors"][0]["code"] == "not-enough-signatures"
    assert report["errors"][0]["path"] == "doc.front"
    assert booth.open("front") is None


def test_tightening_takes_one(booth: Booth) -> None:
    booth.take(booth.sign({"front": {"open": 3}}))
    reports = booth.take(booth.sign({"front": {"open": 1}}, rev=2, keys=[booth.operator.second]))
    assert reports[-1]["status"] == "applied"


def test_one_layer_taken_away_loosens_too(booth: Booth) -> None:
    booth.take(booth.sign({"front": {"open": 5}}, audience=FLEET), "fleet")
    booth.take(booth.sign({"front": {"open": 1}}), "booth")
    [report] = booth.take(booth.sign({}, rev=2, keys=[booth.operator.first]))
    assert report["errors"][0]["code"] == "not-enough-signatures"


def test_no_document_is_below_the_floor_however_many_sign(booth: Booth) -> None:
    booth.floor({}, {"front": {"open": 2}})
    [report] = booth.take(booth.sign({"front": {"open": 3}}))
    assert report["errors"][0]["code"] == "below-floor"
    assert booth.take(booth.sign({"front": {"open": 2}}))[-1]["status"] == "applied"


def test_what_a_new_images_floor_forbids_no_longer_counts(booth: Booth) -> None:
    booth.take(booth.sign({"front": {"open": 3}}))
    booth.floor({}, {"front": {"open": 2}})
    report = booth.lockdown().apply()
    assert (booth.open("front"), report["sections"]["front"]["layer"]) == ("0", "default")


@pytest.mark.parametrize("text", ["", "{", '{"policy": {}, "bounds": {"front": {"open": "wide"}}}'])
def test_a_damaged_floor_forbids_all_loosening(booth: Booth, text: str) -> None:
    (booth.root / "usr/lib/booth-agent/floor.json").write_text(text)
    [report] = booth.take(booth.sign({"front": {"open": 1}}))
    assert report["errors"][0]["code"] == "below-floor"


def _flipped(booth: Booth) -> bytes:
    data = json.loads(booth.sign({}))
    data["signatures"][0]["sig"] = data["signatures"][1]["sig"]
    data["signatures"].pop()
    return json.dumps(data).encode()


FORGERIES: dict[str, tuple[str, Callable[[Booth], bytes]]] = {
    "no envelope": ("bad-envelope", lambda _booth: b"[]"),
    "forged": ("bad-signature", _flipped),
    "unknown key": ("untrusted-key", lambda booth: booth.sign({}, keys=[key("thief")])),
    "a root's key": ("untrusted-key", lambda booth: booth.sign({}, keys=[booth.operator.roots[0]])),
    "replayed": ("rollback", lambda booth: booth.sign({"front": {"open": 1}}, rev=1)),
    "conflict": ("conflict", lambda booth: booth.sign({"front": {"open": 2}}, rev=2)),
    "expired": ("expired", lambda booth: booth.sign({}, rev=3, not_after="2026-01-01T00:00:00.000Z")),
    "wrong audience": ("wrong-audience", lambda booth: booth.sign({}, rev=3, audience="booth/v1/61/61-0008")),
    "another kind": ("unsupported", lambda booth: booth.operator.sign("config", {}, rev=3, keys=booth.operator.both)),
    "old epoch": ("rollback", lambda booth: booth.sign({}, rev=3, epoch=0)),
    "epoch that has not begun": ("untrusted-key", lambda booth: booth.sign({}, rev=3, epoch=9)),
    "too large": ("too-large", lambda booth: booth.sign({"front": {"x" * 270_000: 1}}, rev=3)),
    "unknown rule": ("invalid", lambda booth: booth.sign({"window": {}}, rev=3)),
    "unknown key in a rule": ("invalid", lambda booth: booth.sign({"front": {"opened": 1}}, rev=3)),
    "True for 1": ("invalid", lambda booth: booth.sign({"front": {"open": True}}, rev=3)),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_none_of_these_is_accepted(booth: Booth, name: str) -> None:
    before = booth.take(booth.sign({"front": {"open": 1}}, rev=2))[-1]
    code, forge = FORGERIES[name]
    [report] = booth.take(forge(booth))
    assert (report["status"], report["errors"][0]["code"]) == ("rejected", code)
    assert report["effective_sha256"] == before["effective_sha256"]
    assert booth.open("front") == "1"
    assert booth.lockdown().check()["errors"][0]["code"] == code  # still said by whoever measures next


def test_a_policy_that_cuts_the_booth_off_goes_back_by_itself(booth: Booth) -> None:
    booth.take(booth.sign({"front": {"open": 1}}))
    booth.reachable = False
    envelope = booth.sign({"front": {"open": 2}, "back": {"open": 2}}, rev=2, confirm_s=60)
    reports = booth.take(envelope)
    assert [report["status"] for report in reports] == ["applying", "awaiting-confirmation", "reverted"]
    assert (booth.open("front"), booth.open("back")) == ("1", "0")
    assert 60 <= booth.waited_s < 70
    booth.reachable = True
    assert [report["status"] for report in booth.take(envelope)] == ["reverted"]  # not again
    assert booth.take(booth.sign({"front": {"open": 2}}, rev=3))[-1]["status"] == "applied"


def test_a_power_cut_on_trial_goes_back_at_boot(booth: Booth) -> None:
    booth.take(booth.sign({"front": {"open": 1}}))
    envelope = booth.sign({"front": {"open": 4}}, rev=2)
    under_way = booth.lockdown().take(Request("policy", "booth", len(envelope)), envelope)
    assert [next(under_way)["status"], next(under_way)["status"]] == ["applying", "awaiting-confirmation"]
    assert booth.open("front") == "4"
    assert booth.lockdown().apply()["status"] == "reverted"
    assert booth.open("front") == "1"


def test_a_rule_that_cannot_be_applied_takes_all_back(booth: Booth) -> None:
    booth.take(booth.sign({"front": {"open": 1}}))
    report = booth.take(booth.sign({"front": {"open": 2}, "back": {"jams": True}}, rev=2))[-1]
    assert report["status"] == "reverted"
    assert (report["errors"][0]["code"], report["errors"][0]["path"]) == ("unsupported", "doc.back")
    assert booth.open("front") == "1"


def test_drift_is_found_told_and_corrected(booth: Booth) -> None:
    booth.take(booth.sign({"front": {"open": 1}}))
    (booth.root / "etc/front").write_text("9\n")
    report = booth.lockdown().check()
    assert (report["status"], report["drift"]) == ("drifted", ["front"])
    assert booth.open("front") == "1"
    # Whoever reads the report has a moment to see it, and then reads that all is well.
    assert booth.waited_s >= 1
    assert booth.said()["status"] == "applied"
    report = booth.lockdown().check()
    assert (report["status"], report.get("drift")) == ("applied", None)


def test_what_is_changed_while_drift_is_told_is_corrected_too(booth: Booth) -> None:
    booth.take(booth.sign({"front": {"open": 1}}))
    (booth.root / "etc/front").write_text("9\n")
    told = []

    def meanwhile() -> None:
        told.append(booth.said()["drift"])
        if len(told) == 1:
            (booth.root / "etc/back").write_text("9\n")

    booth.meanwhile = meanwhile
    assert booth.lockdown().check()["drift"] == ["front"]
    assert told == [["front"], ["back"]]
    assert (booth.open("front"), booth.open("back"), booth.said()["status"]) == ("1", "0", "applied")


def test_what_is_changed_while_it_is_measured_is_corrected_too(booth: Booth, monkeypatch: pytest.MonkeyPatch) -> None:
    booth.take(booth.sign({"front": {"open": 1}}))
    lockdown, publish, changes = booth.lockdown(), Lockdown._publish, ["9", "9"]

    def changed(self: Lockdown, report: dict[str, Any]) -> None:
        publish(self, report)
        if changes:
            (booth.root / "etc/front").write_text(changes.pop())

    def corrected(self: Lockdown) -> list[str]:
        drift = correct(self)
        if not drift and looks:  # after it was looked at, and before it is measured
            (booth.root / "etc/front").write_text(looks.pop())
        return drift

    correct, looks = Lockdown._correct, ["9"]
    monkeypatch.setattr(Lockdown, "_correct", corrected)
    assert lockdown.check()["status"] == "drifted"
    assert (booth.open("front"), booth.said()["status"]) == ("1", "applied")

    monkeypatch.setattr(Lockdown, "_correct", correct)
    monkeypatch.setattr(Lockdown, "_publish", changed)
    assert lockdown.check()["status"] == "applied"  # so it was, when it was looked at
    assert (booth.open("front"), booth.said()["status"]) == ("1", "applied")


def test_what_cannot_be_corrected_is_said_once_a_check(booth: Booth, monkeypatch: pytest.MonkeyPatch) -> None:
    booth.take(booth.sign({"front": {"open": 1}}))
    (booth.root / "etc/front").write_text("9\n")
    monkeypatch.setattr(Machine, "put", lambda *_: None)
    assert booth.lockdown().check()["drift"] == ["front"]
    assert (booth.said()["status"], booth.said()["drift"]) == ("drifted", ["front"])


def test_an_expired_policy_stays_and_is_stale(booth: Booth, monkeypatch: pytest.MonkeyPatch) -> None:
    booth.take(booth.sign({"front": {"open": 1}}, not_after="2027-01-01T00:00:00.000Z"))
    monkeypatch.setattr("time.time", lambda: 4_000_000_000.0)  # f34: the clock is far ahead
    report = booth.lockdown().check()
    assert (report["status"], booth.open("front")) == ("stale", "1")


def test_a_damaged_envelope_locks_until_it_arrives_again(booth: Booth) -> None:
    envelope = booth.sign({"front": {"open": 1}})
    booth.take(envelope)
    [file] = (booth.root / "var/lib/booth-lockdown/policy").glob("booth-*.dsse")
    file.write_bytes(b"")
    report = booth.lockdown().apply()
    assert (booth.open("front"), report["errors"][0]["code"]) == ("0", "bad-envelope")
    assert booth.take(envelope)[-1]["status"] == "applied"
    assert booth.open("front") == "1"


@pytest.mark.parametrize("damage", ["empty", "missing", "garbage"])
def test_f48_a_damaged_state_is_the_last_good_one(booth: Booth, damage: str) -> None:
    booth.take(booth.sign({"front": {"open": 1}}))
    state = booth.root / "var/lib/booth-lockdown/policy/state.json"
    if damage == "missing":
        state.unlink()
    else:
        state.write_bytes(b"" if damage == "empty" else b'{"accepted": 3')
    booth.lockdown().apply()
    assert booth.open("front") == "1"
    [report] = booth.take(booth.sign({}, rev=0))
    assert report["errors"][0]["code"] == "rollback"


def test_no_trust_list_means_no_documents(booth: Booth) -> None:
    (booth.root / "etc/booth-agent/trust.json").unlink()
    [report] = booth.take(booth.sign({}))
    assert report["errors"][0]["code"] == "untrusted-key"


def test_the_trust_list_is_replaced_by_its_roots_alone(booth: Booth) -> None:
    def envelope(keys: list[Any], **over: Any) -> bytes:
        return seal(PAYLOAD_TYPE, json.dumps(booth.operator.trust(**over)).encode(), keys)

    roots = list(booth.operator.roots)
    for forged in (envelope(roots[:1], version=2), envelope([booth.operator.first] * 2, version=2), envelope(roots, version=3)):
        [answer] = booth.take(forged, kind="trust")
        assert answer["outcome"] == "refused"
    [answer] = booth.take(envelope(roots, version=2, epoch=2), kind="trust")
    assert answer["outcome"] == "accepted"
    assert json.loads((booth.root / "etc/booth-agent/trust.json").read_text())["epoch"] == 2
    [answer] = booth.take(envelope(roots, version=1, epoch=1), kind="trust")
    assert answer["errors"][0]["code"] == "rollback"


def test_f39_a_new_epoch_retires_a_huge_revision(booth: Booth) -> None:
    booth.take(booth.sign({"front": {"open": 1}}, rev=2**53))
    trust = seal(PAYLOAD_TYPE, json.dumps(booth.operator.trust(version=2, epoch=2)).encode(), list(booth.operator.roots))
    booth.take(trust, kind="trust")
    assert booth.open("front") == "1"  # the last good one stays until it is replaced
    assert booth.take(booth.sign({"front": {"open": 0}}, rev=1, epoch=2))[-1]["status"] == "applied"


def test_what_was_undone_is_not_put_back_by_whatever_watches_it(booth: Booth) -> None:
    said, program = booth.root / "said", booth.root / "usr/bin/systemctl"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\necho "$* $(cat {booth.root}/etc/front)" >> {said}\n')
    program.chmod(0o755)
    booth.lockdown().apply()
    booth.lockdown().undo()
    *_, stopped = said.read_text().splitlines()
    assert stopped.endswith("0")  # first of all
    assert {"booth-lockdown-check.path", "booth-lockdown-check.timer", "booth-lockdown-serve.socket"} <= set(stopped.split())


def test_undo_leaves_nothing(booth: Booth) -> None:
    booth.lockdown().apply()
    assert booth.lockdown().undo() == {}
    assert (booth.open("front"), booth.open("back")) == (None, None)


@pytest.mark.parametrize("name", ["agent.toml", "slots.toml"])
def test_a_booth_whose_own_files_are_broken_is_locked(booth: Booth, name: str) -> None:
    (booth.root / "etc/booth-agent" / name).write_text("[")
    lockdown = booth.lockdown()
    assert lockdown.apply()["rules"]["front"]["measured"] == "compliant"
    assert booth.open("front") == "0"
    assert name in lockdown.problems[0]


def test_what_cannot_be_kept_is_refused_and_not_applied(booth: Booth, monkeypatch: pytest.MonkeyPatch) -> None:
    write = disk.write

    def full(folder: Path, name: str, data: bytes, mode: int = 0o600) -> None:
        if name.endswith(".dsse"):
            raise OSError(28, "No space left on device")
        write(folder, name, data, mode)

    monkeypatch.setattr(disk, "write", full)
    report = booth.take(booth.sign({"front": {"open": 1}}))[-1]
    assert (report["status"], report["errors"][0]["code"]) == ("rejected", "unsupported")
    assert report["layers"]["booth"]["applied_rev"] is None
    assert booth.lockdown().apply()["sections"]["front"]["layer"] == "default"


# --- while somebody is there, and what changes by itself ---


@contextmanager
def citizen(booth: Booth) -> Iterator[None]:
    lock = booth.root / "run/booth-agent/session.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def test_what_has_to_wait_for_a_citizen_is_owed_and_neither_reverted_nor_drift(booth: Booth) -> None:
    with citizen(booth):
        report = booth.take(booth.sign({"front": {"open": 1, "waits": True}}))[-1]
        assert (report["status"], report["layers"]["booth"]["applied_rev"]) == ("pending", 1)
        assert booth.lockdown().check()["status"] == "pending"
    report = booth.lockdown().check()
    assert (report["status"], report.get("drift")) == ("applied", None)
    assert booth.open("front") == "1"


def test_what_was_broken_before_does_not_keep_another_rule_open(booth: Booth) -> None:
    booth.take(booth.sign({"front": {"open": 3}}))
    (booth.root / "etc/back").unlink()
    (booth.root / "etc/back").mkdir()  # no file can be put there
    report = booth.take(booth.sign({"front": {"open": 0}}, rev=2))[-1]
    assert (report["status"], report["rules"]["back"]["measured"]) == ("drifted", "violated")
    assert booth.open("front") == "0"


def test_what_the_machine_could_not_do_once_is_tried_again(booth: Booth) -> None:
    booth.lockdown().apply()
    envelope = booth.sign({"back": {"jams": True, "open": 1}, "front": {"open": 1}})
    assert booth.take(envelope)[-1]["status"] == "reverted"
    reports = booth.take(envelope)
    assert [report["status"] for report in reports] == ["applying", "reverted"]  # it was tried


def test_reverted_stays_said_with_its_reason(booth: Booth) -> None:
    booth.reachable = False
    booth.take(booth.sign({"front": {"open": 1}}, confirm_s=10))
    booth.reachable = True
    report = booth.lockdown().check()
    assert report["status"] == "reverted"
    assert "broker could not be reached" in report["errors"][0]["message"]
    assert booth.take(booth.sign({"front": {"open": 1}}, rev=2))[-1]["status"] == "applied"


def test_what_changes_by_itself_is_no_drift(booth: Booth, monkeypatch: pytest.MonkeyPatch) -> None:
    booth.take(booth.sign({"front": {"open": 1, "tomorrow": 0}}))
    assert booth.open("front") == "1"
    monkeypatch.setattr("time.time", lambda: datetime(2027, 3, 1, 13, tzinfo=UTC).timestamp())
    report = booth.lockdown().check()
    assert (report["status"], report.get("drift"), booth.open("front")) == ("applied", None, "0")
    (booth.root / "etc/front").write_text("1\n")
    assert booth.lockdown().check()["drift"] == ["front"]  # but this is


@pytest.mark.parametrize("make", ["fifo", "folder", "nothing"])
def test_whatever_the_agent_puts_in_the_locks_place_holds_nobody_up(booth: Booth, make: str) -> None:
    lock = booth.root / "run/booth-agent/session.lock"
    lock.parent.mkdir(parents=True)
    if make == "fifo":
        os.mkfifo(lock)
    elif make == "folder":
        lock.mkdir()
    assert booth.lockdown().apply()["rules"]["front"]["measured"] == "compliant"


def test_a_disk_that_takes_nothing_does_not_open_the_booth(booth: Booth, monkeypatch: pytest.MonkeyPatch) -> None:
    booth.take(booth.sign({"front": {"open": 1}}))
    envelope = booth.sign({"front": {"open": 4}}, rev=2)
    under_way = booth.lockdown().take(Request("policy", "booth", len(envelope)), envelope)
    assert [next(under_way)["status"], next(under_way)["status"]] == ["applying", "awaiting-confirmation"]
    write = disk.write

    def full(folder: Path, name: str, data: bytes, mode: int = 0o600) -> None:
        if folder.name != "etc":
            raise OSError(28, "No space left on device")
        write(folder, name, data, mode)

    monkeypatch.setattr(disk, "write", full)
    assert booth.lockdown().apply()["rules"]["front"]["measured"] == "compliant"
    assert booth.open("front") == "1"
    for envelope in (booth.sign({"front": {"open": 0}}, rev=3), booth.sign({}, rev=1, keys=[key("thief")])):
        assert booth.take(envelope)[-1]["status"] == "rejected"  # and says so


def test_a_tightened_layer_that_was_damaged_needs_no_second_signature_to_come_back(booth: Booth) -> None:
    booth.take(booth.sign({"front": {"open": 3}}))
    envelope = booth.sign({"front": {"open": 1}}, rev=2, keys=[booth.operator.first])
    booth.take(envelope)
    for file in (booth.root / "var/lib/booth-lockdown/policy").glob("*.dsse"):
        file.write_bytes(b"")
    booth.lockdown().apply()
    assert booth.open("front") == "0"
    assert booth.take(envelope)[-1]["status"] == "applied"
    assert booth.open("front") == "1"


def test_a_leaked_key_does_not_move_the_clock_day_by_day(booth: Booth) -> None:
    for rev in range(1, 6):
        booth.take(booth.sign({"front": {"open": rev % 2}}, rev=rev, issued_at="2099-01-01T00:00:00.000Z"))
    newest = json.loads((booth.root / "var/lib/booth-lockdown/policy/state.json").read_text())["newest_issued_at"]
    assert datetime.fromisoformat(newest).timestamp() < time.time() + 2 * 86_400


def test_what_a_killed_trial_loosened_counts_for_nothing(booth: Booth) -> None:
    booth.take(booth.sign({"front": {"open": 1}}))
    envelope = booth.sign({"front": {"open": 4}}, rev=2)
    under_way = booth.lockdown().take(Request("policy", "booth", len(envelope)), envelope)
    assert [next(under_way)["status"], next(under_way)["status"]] == ["applying", "awaiting-confirmation"]
    [report] = booth.take(booth.sign({"front": {"open": 3}}, rev=3, keys=[booth.operator.first]))
    assert report["errors"][0]["code"] == "not-enough-signatures"
    assert booth.open("front") == "1"
