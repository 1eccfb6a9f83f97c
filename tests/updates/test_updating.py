"""Root's part of updates: what it takes from whom, what is wanted then, and what a version on trial is worth."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.documents import disk
from agent.documents.judge import payload_type
from agent.documents.signatures import seal
from agent.privileged.machine import Machine
from agent.privileged.updating import STATE, TRIES, Updating
from agent.updates.agent_release import this_architecture
from agent.updates.kind import NotGood
from agent.updates.words import Answer
from tests.documents.operator import key
from tests.documents.published import PLACES, flipped
from tests.updates.story import KINDS, OPERATOR, Root


@pytest.fixture
def root(tmp_path: Path) -> Root:
    root = Root(tmp_path)
    root.prepare()
    return root


def shown(answer: Answer, name: str = "agent") -> tuple[Any, ...]:
    section = answer.reported.sections[name]
    return section["phase"], section["reason"], section["version"]


def todo(answer: Answer) -> list[tuple[str, str, str]]:
    return [(task.kind, task.todo, task.version) for task in answer.tasks]


def codes(answer: Answer) -> list[tuple[str, str]]:
    return [(error.code, error.path) for error in answer.reported.errors]


# --- what is refused, with the kinds that a booth has ---


def artifact(**over: Any) -> dict[str, Any]:
    return {"url": "https://updates.example/1.tar", "size_bytes": 10_240, "sha256": "ab" * 32} | over


def release(version: Any = "1.2", **over: Any) -> dict[str, Any]:
    return {"agent": {"version": version, "artifacts": {this_architecture(): artifact()}} | over}


def sign(doc: Any, rev: int = 9, **over: Any) -> bytes:
    return OPERATOR.sign("update", doc, rev, **over)


def sealed(payload: bytes) -> bytes:
    return seal(payload_type("update"), payload, [OPERATOR.first])


def payload(**over: Any) -> bytes:
    return json.dumps(OPERATOR.statement(release(), 9) | over).encode()


def only(**over: Any) -> dict[str, Any]:
    """A release whose one file has something wrong."""
    return release(artifacts={this_architecture(): artifact(**over)})


_FILE = f"doc.agent.artifacts.{this_architecture()}"
REFUSED: dict[str, tuple[str, str, Callable[[], bytes]]] = {
    "nothing": ("bad-envelope", "", lambda: b""),
    "no envelope": ("bad-envelope", "", lambda: b"[]"),
    "forged payload": ("bad-signature", "signatures", lambda: flipped(sign(release()), "payload")),
    "forged signature": ("bad-signature", "signatures", lambda: flipped(sign(release()), "sig")),
    "unknown key": ("untrusted-key", "signatures", lambda: sign(release(), keys=[key("thief")])),
    "a root's key": ("untrusted-key", "signatures", lambda: sign(release(), keys=OPERATOR.roots)),
    "nobody's signature": ("untrusted-key", "signatures", lambda: sign(release(), keys=[])),
    "replayed": ("rollback", "rev", lambda: sign(release(), rev=4)),
    "the same revision with other bytes": ("conflict", "rev", lambda: sign(release("1.3"), rev=5)),
    "expired": ("expired", "not_after", lambda: sign(release(), not_after="2026-01-01T00:00:00.000Z")),
    "another booth's": ("wrong-audience", "audience", lambda: sign(release(), audience="booth/v1/61/61-0008")),
    "the fleet's, as the booth's": ("wrong-audience", "audience", lambda: sign(release(), audience=PLACES["fleet"])),
    "another kind of document": ("unsupported", "payloadType", lambda: OPERATOR.sign("policy", release(), 9)),
    "an epoch that is over": ("rollback", "epoch", lambda: sign(release(), epoch=0)),
    "an epoch that has not begun": ("untrusted-key", "epoch", lambda: sign(release(), epoch=2)),
    "too large": ("too-large", "", lambda: sign({"agent": "x" * 270_000})),
    "a key twice": ("bad-json", "", lambda: sealed(payload().replace(b'"rev": 9', b'"rev": 9, "rev": 10'))),
    "NaN": ("bad-json", "", lambda: sealed(payload().replace(b'"rev": 9', b'"rev": NaN'))),
    "bad UTF-8": ("bad-json", "", lambda: sealed(payload().replace(b"updates.example", b"\xff\xfe"))),
    "deep": ("bad-json", "", lambda: sign({"agent": json.loads("[" * 31 + "]" * 31)})),
    "an unknown kind of update": ("invalid", "doc.firmware", lambda: sign(release() | {"firmware": {}})),
    "a section that is none": ("invalid", "doc.agent", lambda: sign({"agent": None})),
    "a key that nobody knows": ("invalid", "doc.agent.force", lambda: sign(release(force=True))),
    "no version": ("invalid", "doc.agent.version", lambda: sign({"agent": {"artifacts": {this_architecture(): artifact()}}})),
    "a version that is none": ("invalid", "doc.agent.version", lambda: sign(release("1.2-rc1"))),
    "a version with a second spelling": ("invalid", "doc.agent.version", lambda: sign(release("1.4.0rc01"))),
    "a version that is a path": ("invalid", "doc.agent.version", lambda: sign(release("../../1.2"))),
    "a window that nobody knows": ("invalid", "doc.agent.window", lambda: sign(release(window="tomorrow"))),
    "no file at all": ("invalid", "doc.agent.artifacts", lambda: sign(release(artifacts={}))),
    "an architecture that nobody has": ("invalid", "doc.agent.artifacts", lambda: sign(release(artifacts={"sparc": artifact()}))),
    "another scheme": ("invalid", f"{_FILE}.url", lambda: sign(only(url="file:///etc/shadow"))),
    "a user in the address": ("invalid", f"{_FILE}.url", lambda: sign(only(url="https://me:secret@updates.example/1"))),
    "a blank in the address": ("invalid", f"{_FILE}.url", lambda: sign(only(url="https://updates.example/1 2"))),
    "no bytes": ("invalid", f"{_FILE}.size_bytes", lambda: sign(only(size_bytes=0))),
    "too many bytes": ("invalid", f"{_FILE}.size_bytes", lambda: sign(only(size_bytes=512 * 2**20 + 1))),
    "True bytes": ("invalid", f"{_FILE}.size_bytes", lambda: sign(only(size_bytes=True))),
    "a short hash": ("invalid", f"{_FILE}.sha256", lambda: sign(only(sha256="ab" * 31))),
    "a hash that is a path": ("invalid", f"{_FILE}.sha256", lambda: sign(only(sha256="../" * 21 + "a"))),
    "another machine's file": ("unsupported", "doc.agent", lambda: sign(release(artifacts={
        next(other for other in ("amd64", "arm64") if other != this_architecture()): artifact()}))),
    "a step back": ("not-enough-signatures", "doc", lambda: sign(release("0.9"))),
    "a step back to a release candidate": ("not-enough-signatures", "doc", lambda: sign(release("1.0rc9"))),
    "a step back, signed twice by one": ("not-enough-signatures", "doc", lambda: sign(release("0.9"), keys=[OPERATOR.first] * 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_none_of_these_is_accepted_and_nothing_is_changed(root: Root, name: str) -> None:
    def updating() -> Updating:
        return Updating(Machine(root.folder), reachable=lambda _host, _port: True)

    good = updating().take("booth", sign(release("1.1"), rev=5))
    assert (good.event, codes(good), todo(good)) == ("accepted", [], [("agent", "fetch", "1.1")])
    before, state = root.untouched(), (root.folder / STATE / "documents/state.json").read_bytes()
    code, path, forge = REFUSED[name]
    answer = updating().take("booth", forge())
    assert (answer.event, codes(answer)) == (code, [(code, path)])
    assert answer.reported.status == "rejected"
    assert answer.tasks == good.tasks, "what was wanted is still wanted"
    assert root.untouched() == before
    revisions = answer.reported.layers["booth"]
    assert revisions is not None
    assert revisions.applied_rev == 5
    if revisions.seen_rev == 5:
        assert (root.folder / STATE / "documents/state.json").read_bytes() == state, "a flood must not wear the card"
    assert codes(updating().status()) == [(code, path)], "it is said until something good comes"
    assert codes(updating().take("booth", sign(release("1.1"), rev=5))) == []


def test_every_problem_of_a_document_is_said_with_its_path(root: Root) -> None:
    doc = {
        "agent": {"version": "x", "artifacts": {"amd64": artifact(url="ftp://x"), "arm64": artifact(sha256="0")}, "window": 3},
        "forms": {"catalogue": artifact(size_bytes=-1)},
        "firmware": {},
    }
    answer = Updating(Machine(root.folder)).take("booth", sign(doc))
    assert answer.event == "invalid"
    assert {path for _, path in codes(answer)} == {
        "doc.agent.version", "doc.agent.artifacts.amd64.url", "doc.agent.artifacts.arm64.sha256", "doc.agent.window",
        "doc.forms.catalogue.size_bytes", "doc.firmware",
    }  # fmt: skip


def test_what_is_wrong_anywhere_is_said_before_what_is_not_for_this_machine(root: Root) -> None:
    other = next(other for other in ("amd64", "arm64") if other != this_architecture())
    doc = release(artifacts={other: artifact()}) | {"forms": {}}
    assert codes(Updating(Machine(root.folder)).take("booth", sign(doc))) == [("invalid", "doc.forms.catalogue")]


def test_too_few_signatures_where_the_trust_list_wants_two_for_every_update(root: Root) -> None:
    OPERATOR.install(root.folder / "etc/booth-agent", thresholds=OPERATOR.trust()["thresholds"] | {"update": 2})
    assert root.publish({"agent": "1.1"}).event == "not-enough-signatures"
    assert root.publish({"agent": "1.1"}, keys=OPERATOR.both).event == "accepted"


@pytest.mark.parametrize("damage", ["missing", "garbage", "empty"])
def test_without_a_whole_trust_list_no_document_is_taken_and_what_counted_still_does(root: Root, damage: str) -> None:
    root.publish({"agent": "1.1"})
    file = root.folder / "etc/booth-agent/trust.json"
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(b"" if damage == "empty" else b'{"version": 1')
    answer = root.publish({"agent": "1.2"})
    assert (answer.event, todo(answer)) == ("untrusted-key", [("agent", "fetch", "1.1")])


def test_a_booth_that_does_not_know_its_name_takes_no_document(root: Root) -> None:
    (root.folder / "etc/booth-agent/agent.toml").write_text("[")
    assert root.publish({"agent": "1.1"}).event == "wrong-audience"


# --- steps back ---


def commit(root: Root, version: str, **over: Any) -> None:
    root.until_switched(version=version, **over)
    root.updating().start()
    assert shown(root.updating().healthy(version, online=True)) == ("committed", None, version)


def test_a_step_back_with_two_signatures_really_goes_back(root: Root) -> None:
    commit(root, "1.1")
    assert root.publish({"agent": "1.0"}).event == "not-enough-signatures"
    commit(root, "1.0", keys=OPERATOR.both)
    assert root.in_use("agent") == "1.0"


def test_emptying_a_more_specific_layer_is_a_step_back_too(root: Root) -> None:
    root.publish({"agent": "1.0"}, layer="fleet", audience=PLACES["fleet"])
    commit(root, "1.1")
    answer = root.publish({})
    assert (answer.event, todo(answer)) == ("not-enough-signatures", [])
    answer = root.publish({}, keys=OPERATOR.both)
    assert (answer.event, todo(answer)) == ("accepted", [("agent", "fetch", "1.0")])


def test_a_replay_does_not_undo_what_somebody_installed_on_the_spot(root: Root) -> None:
    envelope = OPERATOR.sign("update", {"agent": root.section("1.1")}, 1)
    assert root.updating().take("booth", envelope).event == "accepted"
    root.updating().install("agent", root.files("1.2"), "1.2")
    answer = root.updating().take("booth", envelope)
    assert (answer.event, codes(answer), todo(answer)) == (None, [], []), "known, no error, and not wanted"
    assert root.publish({"agent": "1.1"}, rev=2).event == "not-enough-signatures"
    assert shown(root.updating().status()) == ("idle", None, "1.2")


def test_a_step_back_that_was_allowed_once_is_not_allowed_for_ever(root: Root) -> None:
    commit(root, "1.1")
    commit(root, "1.0", keys=OPERATOR.both)
    commit(root, "1.1")
    answer = root.publish({"agent": "1.0"})
    assert (answer.event, todo(answer)) == ("not-enough-signatures", [])


def test_a_step_back_is_no_longer_allowed_once_another_document_is_in_force(root: Root) -> None:
    commit(root, "1.1")
    root.publish({"agent": "1.0"}, keys=OPERATOR.both)
    assert todo(root.publish({"agent": "1.2"})) == [("agent", "fetch", "1.2")]
    assert root.publish({"agent": "1.0"}).event == "not-enough-signatures"


def test_another_document_with_one_signature_keeps_a_step_back_that_was_allowed(root: Root) -> None:
    commit(root, "1.1")
    root.publish({"agent": "1.0"}, keys=OPERATOR.both)
    answer = root.publish({"agent": "1.0", "forms": "1.1"})
    assert (answer.event, todo(answer)) == ("accepted", [("agent", "fetch", "1.0"), ("forms", "fetch", "1.1")])


class Cut(BaseException):
    """The power goes."""


def cut_at(moment: str) -> Callable[[str], None]:
    def at(now: str) -> None:
        if now == moment:
            raise Cut

    return at


@pytest.mark.parametrize("moment", ["keep", "kept"])
def test_a_step_back_whose_keeping_was_cut_off_is_wanted_once_it_is_delivered_again(root: Root, moment: str) -> None:
    commit(root, "1.1")
    envelope = OPERATOR.sign("update", {"agent": root.section("1.0")}, 7, keys=OPERATOR.both)
    with pytest.raises(Cut):
        root.updating(cut_at(moment)).take("booth", envelope)
    assert todo(root.updating().take("booth", envelope)) == [("agent", "fetch", "1.0")]


# --- layers ---


def test_the_most_specific_layer_has_a_section_whole_and_kinds_do_not_mix(root: Root) -> None:
    root.publish({"agent": "1.3", "forms": "1.1"}, layer="fleet", audience=PLACES["fleet"])
    root.publish({"agent": "1.2"}, layer="area", audience=PLACES["area"])
    answer = root.publish({"agent": "1.4"})
    assert todo(answer) == [("agent", "fetch", "1.4"), ("forms", "fetch", "1.1")]
    assert {layer: seen and seen.applied_rev for layer, seen in answer.reported.layers.items()} == {
        "fleet": 1,
        "area": 2,
        "booth": 3,
    }
    assert todo(root.publish({})) == [("agent", "fetch", "1.2"), ("forms", "fetch", "1.1")]


def test_a_kept_document_that_is_damaged_means_nothing_is_wanted_until_it_is_delivered_again(root: Root) -> None:
    doc = {"agent": root.section("1.1"), "forms": root.section("1.1")}
    envelope = OPERATOR.sign("update", doc, 1, audience=PLACES["fleet"])
    root.updating().take("fleet", envelope)
    root.publish({"agent": "1.2"}, rev=2)
    [file] = (root.folder / STATE / "documents").glob("fleet-*.dsse")
    file.write_bytes(b"")
    assert root.updating().status().tasks == []
    answer = root.updating().take("fleet", envelope)
    assert (answer.event, todo(answer)) == ("accepted", [("agent", "fetch", "1.2"), ("forms", "fetch", "1.1")])


@pytest.mark.parametrize("damage", ["empty", "missing", "garbage"])
def test_a_damaged_state_is_the_last_good_one(root: Root, damage: str) -> None:
    root.until_laid()
    file = root.folder / STATE / "documents/state.json"
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(b"" if damage == "empty" else b'{"accepted": 3')
    assert todo(root.updating().status()) == [("agent", "switch", "1.1")]
    assert root.publish({"agent": "1.1"}, rev=0).event == "rollback"


def test_an_expired_document_is_stale_and_still_counts(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(root, "1.1", not_after="2027-01-01T00:00:00.000Z")
    monkeypatch.setattr("time.time", lambda: 4_000_000_000.0)
    answer = root.updating().status()
    assert (answer.reported.status, shown(answer)) == ("stale", ("committed", None, "1.1"))


# --- switch and trial ---


@pytest.mark.parametrize("name", KINDS)
def test_only_what_is_laid_out_is_switched_to(root: Root, name: str) -> None:
    before = root.untouched()
    assert root.updating().switch(name).tasks == []
    assert root.untouched() == before
    answer = root.publish({name: "1.1"})
    assert root.updating().switch(name).tasks == answer.tasks
    assert root.in_use(name) == "1.0"


def test_a_kind_that_nobody_knows_is_neither_staged_nor_switched(root: Root) -> None:
    root.publish({"agent": "1.1"})
    before = root.untouched()
    for name in ("", "firmware", "../agent", "__class__"):
        assert todo(root.updating().stage(name)) == todo(root.updating().switch(name)) == [("agent", "fetch", "1.1")]
    assert root.untouched() == before


def test_what_no_longer_works_right_before_the_switch_is_not_switched_to(root: Root) -> None:
    root.until_laid()
    (root.folder / "opt/booth-agent/slots/b/body").write_bytes(b"broken")
    answer = root.updating().switch("agent")
    assert (shown(answer), answer.tasks, answer.reported.status) == (("failed", "selftest-failed", "1.0"), [], "reverted")
    assert root.in_use("agent") == "1.0"
    assert not (root.folder / STATE / "trial").exists()


def test_a_version_on_trial_is_in_use_and_has_to_prove_itself(root: Root) -> None:
    answer = root.until_switched()
    assert (shown(answer), todo(answer), answer.reported.status) == (
        ("verifying", None, "1.1"),
        [("agent", "prove", "1.1")],
        "applying",
    )
    assert (answer.reported.from_, answer.reported.to) == ("1.0", "1.1")
    assert (root.folder / STATE / "trial").exists(), "so that each start of the agent is counted"
    root.updating().start()
    answer = root.updating().healthy("1.1", online=True)
    assert (shown(answer), answer.tasks, answer.reported.status) == (("committed", None, "1.1"), [], "applied")
    assert not (root.folder / STATE / "trial").exists()


def test_a_version_that_does_not_prove_itself_in_three_starts_is_left_at_the_fourth(root: Root) -> None:
    root.until_switched()
    for left in reversed(range(TRIES)):
        root.updating().start()
        assert (root.in_use("agent"), root.progress("agent")["tries"]) == ("1.1", left)
    root.updating().start()
    assert root.in_use("agent") == "1.0"
    answer = root.updating().status()
    assert (shown(answer), answer.tasks, answer.reported.status) == (("rolled-back", "does-not-start", "1.0"), [], "reverted")
    root.updating().start()
    assert root.in_use("agent") == "1.0"


def test_what_was_rolled_back_is_tried_again_only_by_another_revision(root: Root) -> None:
    root.until_switched()
    root.updating().deadline()
    assert shown(root.updating().status()) == ("rolled-back", "unhealthy", "1.0")
    assert root.publish({"agent": "1.1"}, rev=1).tasks == []
    for act in ("stage", "switch"):
        assert getattr(root.updating(), act)("agent").tasks == []
    assert todo(root.publish({"agent": "1.1"}, rev=2)) == [("agent", "fetch", "1.1")]


def test_a_document_that_arrives_during_a_trial_touches_no_slot_before_it_is_over(root: Root) -> None:
    root.until_switched()
    old = {file: data for file, data in root.untouched().items() if "/slots/a/" in file}
    answer = root.publish({"agent": "1.2"})
    assert (answer.event, todo(answer)) == ("accepted", [("agent", "prove", "1.1")])
    for act in ("stage", "switch"):
        assert todo(getattr(root.updating(), act)("agent")) == [("agent", "prove", "1.1")]
    assert {file: data for file, data in root.untouched().items() if "/slots/a/" in file} == old
    assert todo(root.updating().healthy("1.1", online=True)) == [("agent", "fetch", "1.2")]


@pytest.mark.parametrize("version", ["1.0", "1.2", "", "1.1 "])
def test_another_version_cannot_prove_the_one_on_trial(root: Root, version: str) -> None:
    root.until_switched()
    assert todo(root.updating().healthy(version, online=True)) == [("agent", "prove", "1.1")]


def test_healthy_without_a_trial_is_nothing(root: Root) -> None:
    root.until_laid()
    before = root.untouched()
    for version in ("1.0", "1.1"):
        assert todo(root.updating().healthy(version, online=True)) == [("agent", "switch", "1.1")]
    assert root.untouched() == before


def test_a_version_that_does_not_reach_a_broker_that_root_reaches_is_not_committed(root: Root) -> None:
    root.until_switched()
    answer = root.updating().healthy("1.1", online=False)
    assert (shown(answer), todo(answer)) == (("verifying", "no-round-trip", "1.1"), [("agent", "prove", "1.1")])
    root.updating().deadline()
    assert shown(root.updating().status()) == ("rolled-back", "no-round-trip", "1.0")


def test_no_network_never_forces_a_rollback(root: Root) -> None:
    root.until_switched()
    root.reached = False
    for _ in range(TRIES + 1):  # a master switch each night, and days without a network
        root.updating().start()
        assert shown(root.updating().healthy("1.1", online=False)) == ("verifying", "offline", "1.1")
        root.updating().deadline()
    assert root.in_use("agent") == "1.1"
    root.reached = True
    root.updating().deadline()
    assert shown(root.updating().healthy("1.1", online=True)) == ("committed", None, "1.1")


def test_a_version_that_cannot_speak_goes_back_once_there_is_a_broker_to_speak_to(root: Root) -> None:
    """The shop's box starts later than the booth."""
    root.until_switched()
    root.reached = False
    root.updating().healthy("1.1", online=False)
    root.reached = True
    assert shown(root.updating().healthy("1.1", online=False)) == ("verifying", "offline", "1.1"), "it may just be connecting"
    root.updating().deadline()
    assert shown(root.updating().status()) == ("verifying", "no-round-trip", "1.1")
    root.updating().deadline()
    assert shown(root.updating().status())[:2] == ("rolled-back", "no-round-trip")
    assert root.in_use("agent") == "1.0"


def test_what_was_taken_back_by_the_operator_is_over(root: Root) -> None:
    for versions in ({"agent": "1.0"}, {}):
        root.publish({"agent": "1.1"})
        root.until_switched()
        root.updating().deadline()
        assert shown(root.updating().status())[0] == "rolled-back"
        answer = root.publish(versions)
        assert (answer.reported.status, answer.reported.phase, answer.reported.to) == ("applied", "idle", None)


def test_what_waits_and_is_wanted_no_more_is_over(root: Root) -> None:
    root.until_laid()
    answer = root.publish({})
    assert (answer.reported.status, answer.reported.phase, answer.tasks) == ("applied", "idle", [])


def test_the_same_file_under_a_higher_revision_begins_anew(root: Root) -> None:
    root.until_switched()
    root.updating().deadline()
    answer = root.publish({"agent": "1.1"})
    assert (answer.reported.status, answer.reported.phase) == ("pending", "downloading")


def test_a_withdrawal_during_a_trial_is_taken(root: Root) -> None:
    """Over an older document of the fleet: against what was in use before, it is no step back."""
    root.publish({"agent": "1.0"}, layer="fleet", audience="booth/v1/_all/_all", rev=1)
    root.publish({"agent": "1.1"}, rev=1)
    [task] = root.updating().status().tasks
    root.fetch(task)
    root.updating().stage("agent")
    root.updating().switch("agent")
    assert root.publish({}, rev=2).event == "accepted"
    root.updating().deadline()
    assert (root.in_use("agent"), root.updating().status().tasks) == ("1.0", [])


def test_whoever_lays_out_a_file_and_is_killed_each_time_stops_for_hours(root: Root) -> None:
    [task] = root.publish({"agent": "1.1"}).tasks
    root.fetch(task)

    def killed(moment: str) -> None:
        if moment == "agent: lay":
            raise SystemExit(moment)

    for _ in range(3):
        with pytest.raises(SystemExit):
            root.updating(killed).stage("agent")
    answer = root.updating(killed).stage("agent")
    assert shown(answer)[:2] == ("failed", "cut-off")
    assert shown(root.updating().stage("agent"))[0] == "waiting-idle", "and is tried again then"


def test_contents_that_are_damaged_are_laid_out_again_when_they_are_published_again(root: Root) -> None:
    root.publish({"forms": "1.1"})
    root.fetch(root.updating().status().tasks[0])
    root.updating().stage("forms")
    root.updating().switch("forms")
    assert root.publish({"forms": "1.1"}).tasks == []
    (root.folder / "var/lib/booth-forms/current/body").write_bytes(b"broken")
    assert [task.todo for task in root.publish({"forms": "1.1"}).tasks] == ["fetch"]


def test_how_far_it_is_is_told_before_an_act_ends(root: Root) -> None:
    [task] = root.publish({"agent": "1.1"}).tasks
    root.fetch(task)
    told: list[str] = []

    def hear(answer: Answer) -> None:
        assert not answer.last
        told.append(answer.reported.phase)

    root.updating(told=hear).stage("agent")
    root.updating(told=hear).switch("agent")
    assert told == ["verified", "installing", "switching"]


def test_a_version_newer_than_the_documents_name_is_told(root: Root) -> None:
    root.publish({"agent": "1.0"})
    root.updating().install("agent", root.files("1.4", b"by hand"), "1.4")
    assert root.updating().status().reported.status == "drifted"


def test_a_document_that_the_card_has_lost_is_told(root: Root) -> None:
    root.publish({"agent": "1.0"})
    for file in (root.folder / "var/lib/booth-update/documents").glob("*.dsse"):
        file.write_bytes(b"lost")
    reported = root.updating().status().reported
    assert (reported.status, [error.layer for error in reported.errors]) == ("rejected", ["booth"])


@pytest.mark.parametrize("listens", [True, False])
def test_root_finds_out_by_itself_whether_the_broker_is_there(root: Root, listens: bool) -> None:
    with socket.socket() as broker:
        broker.bind(("127.0.0.1", 0))
        if listens:
            broker.listen()
        toml = root.folder / "etc/booth-agent/agent.toml"
        toml.write_text(toml.read_text().replace("1883", str(broker.getsockname()[1])))
        root.until_switched()
        answer = Updating(Machine(root.folder), KINDS).healthy("1.1", online=False)
    assert shown(answer)[:2] == ("verifying", "no-round-trip" if listens else "offline")


def test_where_there_is_nothing_to_go_back_to_the_version_on_trial_stays(root: Root, capfd: pytest.CaptureFixture[str]) -> None:
    root.until_switched()
    (root.folder / "opt/booth-agent/slots/a/release.json").unlink()
    root.updating().deadline()
    assert root.in_use("agent") == "1.1"
    for _ in range(TRIES + 1):
        root.updating().start()
    assert root.in_use("agent") == "1.1"
    assert "nothing to go back to" in capfd.readouterr().err
    assert shown(root.updating().healthy("1.1", online=True)) == ("committed", None, "1.1"), "and may still prove itself"


def test_forms_count_at_once(root: Root) -> None:
    answer = root.until_switched("forms")
    assert (shown(answer, "forms"), answer.tasks) == (("committed", None, "1.1"), [])
    assert not (root.folder / STATE / "trial").exists()


def test_forms_are_replaced_while_an_agent_is_on_trial_which_goes_on(root: Root) -> None:
    root.until_switched()
    answer = root.publish({"agent": "1.1", "forms": "1.1"})
    assert todo(answer) == [("agent", "prove", "1.1"), ("forms", "fetch", "1.1")]
    root.fetch(answer.tasks[1])
    root.updating().stage("forms")
    answer = root.updating().switch("forms")
    assert (shown(answer), shown(answer, "forms")) == (("verifying", None, "1.1"), ("committed", None, "1.1"))
    assert (root.folder / STATE / "trial").exists()
    root.updating().deadline()
    assert (root.in_use("agent"), root.in_use("forms")) == ("1.0", "1.1")


def test_forms_that_somebody_installs_on_the_spot_do_not_end_the_trial_of_an_agent(root: Root) -> None:
    root.until_switched()
    root.updating().install("forms", root.files("1.2"), "1.2")
    assert (root.folder / STATE / "trial").exists()
    root.updating().deadline()
    assert (root.in_use("agent"), root.in_use("forms")) == ("1.0", "1.2")


def test_an_agent_that_somebody_installs_on_the_spot_counts_at_once_and_ends_a_trial(root: Root) -> None:
    root.until_switched()
    root.updating().install("agent", root.files("1.3"), "1.3")
    assert not (root.folder / STATE / "trial").exists()
    root.updating().deadline()
    assert (root.in_use("agent"), shown(root.updating().status())) == ("1.3", ("idle", None, "1.3"))


def test_a_version_that_cannot_be_compared_is_not_installed(root: Root) -> None:
    """Else every document after it would end in an error."""
    before = root.untouched()
    with pytest.raises(NotGood, match="cannot be compared"):
        root.updating().install("agent", root.files("1.x"), "1.x")
    assert root.untouched() == before


# --- a disk that takes nothing ---


def takes_nothing(monkeypatch: pytest.MonkeyPatch, errno: int = 28) -> None:
    """From now on root's own state cannot be written."""

    def full(_folder: Path, _name: str, _data: bytes, _mode: int = 0o600) -> None:
        raise OSError(errno, "it takes nothing")

    monkeypatch.setattr(disk, "write", full)


@pytest.mark.parametrize("errno", [28, 30, 5])
def test_a_try_that_cannot_be_counted_is_the_last_one(root: Root, monkeypatch: pytest.MonkeyPatch, errno: int) -> None:
    root.until_switched()
    with monkeypatch.context() as patch:
        takes_nothing(patch, errno)
        root.updating().start()
        assert root.in_use("agent") == "1.0"
        root.updating().start()
        assert root.in_use("agent") == "1.0", "and it stays so"
        assert shown(root.updating().status()) == ("rolled-back", "disk-failed", "1.0")
    answer = root.updating().status()
    assert shown(answer) == ("rolled-back", "disk-failed", "1.0")
    assert todo(answer) == [("agent", "fetch", "1.1")], "a full disk is not the version's fault"


def test_a_switch_that_was_cut_off_goes_back_where_the_disk_takes_nothing_any_more(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    root.until_laid()
    with pytest.raises(Cut):
        root.updating(cut_at("agent: note verifying")).switch("agent")
    assert root.in_use("agent") == "1.1"
    takes_nothing(monkeypatch)
    root.updating().start()
    assert root.in_use("agent") == "1.0"


@pytest.mark.parametrize("act", ["deadline", "start"])
def test_a_switch_that_was_cut_off_is_a_trial_for_whoever_comes_first(root: Root, act: str) -> None:
    root.until_laid()
    with pytest.raises(Cut):
        root.updating(cut_at("agent: note verifying")).switch("agent")
    for _ in range(1 if act == "deadline" else TRIES + 1):
        getattr(root.updating(), act)()
    assert root.in_use("agent") == "1.0"


def test_what_was_going_back_when_it_was_cut_off_is_not_laid_out_again(root: Root) -> None:
    root.until_switched()
    with pytest.raises(Cut):
        root.updating(cut_at("agent: note rolled-back")).deadline()
    assert root.updating().stage("agent").tasks == []
    assert shown(root.updating().status()) == ("rolled-back", "unhealthy", "1.0")


def test_nothing_is_switched_where_it_cannot_be_noted_before(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    root.until_laid()
    with monkeypatch.context() as patch:
        takes_nothing(patch)
        with pytest.raises(OSError, match="takes nothing"):
            root.updating().switch("agent")
        assert root.in_use("agent") == "1.0"
        assert root.updating().take("booth", OPERATOR.sign("update", {}, 9)).event == "unsupported"
    assert todo(root.updating().status()) == [("agent", "switch", "1.1")]
