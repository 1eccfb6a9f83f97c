"""`boothctl sign`: what is signed, by whom, and what never is."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.boothctl.local_checks import problems_of_policy
from agent.contract.decode import MAX_BYTES
from agent.contract.documents import CONFIG_SECTIONS, read_document
from agent.contract.envelope import Envelope, open_envelope
from agent.contract.typed import Problem
from agent.documents.signatures import seal
from agent.documents.trust import signed_by
from agent.lockdown import rules
from agent.lockdown.rule import COMPLIANT, Rule
from tests.boothctl.desk import Desk
from tests.boothctl.program import say
from tests.boothctl.stand_in import reported, revisions
from tests.world import world

DOC = {"reporting": {"heartbeat_s": 600}, "hours": {"tz": "Europe/Paris"}}
TERMS = ("--audience", "61", "--rev", "7", "--epoch", "2")


def desk_with_keys(folder: Path) -> Desk:
    desk = Desk(folder)
    desk.keys("ann", "bob")
    desk.write("doc.json", DOC)
    return desk


def signers(desk: Desk, envelope: Envelope, *names: str) -> set[str]:
    """Who of these has signed, as a booth sees it."""
    return set(signed_by(envelope, {desk.id(name): desk.key(name).public for name in names}, 1))


async def test_a_doc_is_wrapped_in_its_statement_and_signed(tmp_path: Path) -> None:
    desk = desk_with_keys(tmp_path)
    done = await desk.run(
        "sign", "config", "doc.json", "--key", "ann.pem", *TERMS, "--not-after", "2026-12-31T23:00:00+01:00", "--confirm-s", "60"
    )
    envelope = open_envelope(done.out.encode())
    assert envelope.payload_type == "application/vnd.booth.config+json"
    assert signers(desk, envelope, "ann", "bob") == {desk.id("ann")}
    document = read_document(envelope.payload)
    assert (document.audience, document.rev, document.epoch, document.confirm_s) == ("booth/v1/61/_all", 7, 2, 60)
    assert (document.not_after, document.doc) == ("2026-12-31T22:00:00.000Z", DOC)
    assert "config for booth/v1/61/_all, revision 7, epoch 2, until 2026-12-31T22:00:00.000Z: reporting, hours" in done.err
    desk.assert_no_key_was_told()


@pytest.mark.parametrize(
    ("written", "topic"),
    [
        ("fleet", "booth/v1/_all/_all"),
        ("61", "booth/v1/61/_all"),
        ("61-0007", "booth/v1/61/61-0007"),
        ("booth/v1/ile-de-france/_all", "booth/v1/ile-de-france/_all"),
        ("booth/v1/61/kiosk7", "booth/v1/61/kiosk7"),
        ("booth/v1/_all/_all", "booth/v1/_all/_all"),
    ],
)
async def test_an_audience(tmp_path: Path, written: str, topic: str) -> None:
    desk = desk_with_keys(tmp_path)
    done = await desk.run("sign", "config", "doc.json", "--key", "ann.pem", "--audience", written, "--rev", "1", "--epoch", "1")
    assert read_document(open_envelope(done.out.encode()).payload).audience == topic


async def test_two_people_sign_at_once_or_one_after_the_other(tmp_path: Path) -> None:
    desk = desk_with_keys(tmp_path)
    at_once = await desk.run("sign", "config", "doc.json", "--key", "ann.pem", "--key", "bob.pem", *TERMS)
    assert len(signers(desk, open_envelope(at_once.out.encode()), "ann", "bob")) == 2

    first = await desk.run("sign", "config", "doc.json", "--key", "ann.pem", *TERMS, "-o", "c.dsse", "--json")
    assert first.json == {
        "file": "c.dsse", "document": "config for booth/v1/61/_all, revision 7, epoch 2: reporting, hours",
        "signed_by": [desk.id("ann")],
    }  # fmt: skip
    before = open_envelope(desk.read("c.dsse"))
    done = await desk.run("sign", "--add", "c.dsse", "--key", "bob.pem", "-o", "c.dsse")
    assert "to be signed: config for booth/v1/61/_all, revision 7, epoch 2: reporting, hours" in done.err
    after = open_envelope(desk.read("c.dsse"))
    assert after.payload == before.payload
    assert after.signatures[:1] == before.signatures
    assert len(signers(desk, after, "ann", "bob")) == 2
    again = await desk.run("sign", "--add", "c.dsse", "--key", "bob.pem", "-o", "c.dsse", status=1)
    assert f"key {desk.id('bob')[:12]}… has signed this already" in again.err
    desk.assert_no_key_was_told()


async def test_a_second_person_does_not_sign_what_a_booth_would_refuse(tmp_path: Path) -> None:
    desk = desk_with_keys(tmp_path)
    statement: dict[str, Any] = {
        "schema": 1, "audience": "booth/v1/61/_all", "rev": 1, "epoch": 1, "issued_at": "2026-10-06T12:32:00.000Z",
        "doc": {"rootkit\x1b[2J": {}},
    }  # fmt: skip
    desk.write("c.dsse", seal("application/vnd.booth.config+json", json.dumps(statement).encode(), []).decode())
    done = await desk.run("sign", "--add", "c.dsse", "--key", "bob.pem", status=1)
    assert "unknown section" in done.err
    assert done.err.replace("\n", "").isprintable()
    statement["doc"] = {name: {} for name in CONFIG_SECTIONS}
    desk.write("c.dsse", seal("application/vnd.booth.config+json", json.dumps(statement).encode(), []).decode())
    await desk.run("sign", "--add", "c.dsse", "--key", "bob.pem")
    desk.write("c.dsse", seal("application/vnd.in-toto+json", b"{}", []).decode())
    assert "unsupported" in (await desk.run("sign", "--add", "c.dsse", "--key", "bob.pem", status=1)).err
    assert (await desk.run("sign", "--add", "doc.json", "--key", "bob.pem", status=1)).err.startswith(
        "boothctl: doc.json: no envelope"
    )


async def test_a_whole_statement_is_signed_byte_for_byte(tmp_path: Path) -> None:
    desk = desk_with_keys(tmp_path)
    text = (
        '{ "doc": {"reporting": {}},  "schema": 1, "audience": "booth/v1/_all/_all", "rev": 3, "epoch": 1,'
        ' "issued_at": "2026-10-06T12:32:00.000Z" }'
    )
    desk.write("statement.json", text)
    done = await desk.run("sign", "config", "statement.json", "--statement", "--key", "ann.pem")
    assert base64.b64decode(done.json["payload"]).decode() == text
    desk.write("statement.json", text.replace('"rev": 3', '"rev": -3'))
    bad = await desk.run("sign", "config", "statement.json", "--statement", "--key", "ann.pem", status=1)
    assert "statement.json: invalid: rev: write a number from 0" in bad.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"reporting": {}, "reporting": {}}', "bad-json: the key 'reporting' stands there twice"),
        ('{"reporting": {"heartbeat_s": NaN}}', "bad-json: NaN is not a number"),
        ("[]", "bad-json: the outermost value is not an object"),
        ('{"a": ' * 40 + "1" + "}" * 40, "bad-json: nested deeper than 32"),
        (json.dumps({"light": {"x": "y" * MAX_BYTES}}), "too-large"),
        ('{"repórting": {}, "hors": {}}', "invalid: doc.hors: unknown section"),
        ('{"payload": "", "payloadType": "", "signatures": 1}', "bad-envelope"),
    ],
)
async def test_what_no_booth_takes_is_not_signed(tmp_path: Path, text: str, said: str) -> None:
    desk = desk_with_keys(tmp_path)
    desk.write("doc.json", text)
    done = await desk.run("sign", "config", "doc.json", "--key", "ann.pem", *TERMS, "-o", "c.dsse", status=1)
    assert (done.out, said in done.err) == ("", True), done.err
    assert not (tmp_path / "c.dsse").exists()


@dataclass(frozen=True)
class Toy:
    pages: int = 0


def test_a_policy_is_checked_against_the_schemas_of_its_rules() -> None:
    toy = Rule("toy", Toy, lambda *_: False, lambda *_: None, lambda *_: COMPLIANT, lambda *_: None)
    assert problems_of_policy({"toy": {"pages": 3}}, {"toy": toy}) == []
    assert problems_of_policy({"toy": {"pages": "3", "ink": 1}, "tay": {}}, {"toy": toy}) == [
        Problem("doc.tay", "unknown section; known here: toy"),
        Problem("doc.toy.ink", "unknown key; known here: pages"),
        Problem("doc.toy.pages", "write a whole number (here: '3')"),
    ]


async def test_the_rules_of_this_release_are_those_that_a_policy_may_have(tmp_path: Path) -> None:
    desk = desk_with_keys(tmp_path)
    desk.write("doc.json", {name: {} for name in rules()})
    await desk.run("sign", "policy", "doc.json", "--key", "ann.pem", *TERMS)
    desk.write("doc.json", {"reporting": {}} | {name: {"colour": "red"} for name in rules()})
    refused = await desk.run("sign", "policy", "doc.json", "--key", "ann.pem", *TERMS, status=1)
    assert "doc.reporting: unknown section" in refused.err
    assert refused.err.count("unknown key") == len(rules())


# --- the next revision ---


async def next_of(desk: Desk, url: str, *arguments: str, status: int = 0) -> Any:
    done = await desk.run("sign", "config", "doc.json", "--key", "ann.pem", "--broker", url, *arguments, status=status)
    if status:
        return done.err
    document = read_document(open_envelope(done.out.encode()).payload)
    return document.rev, document.epoch


async def test_auto_is_one_more_than_what_booths_have_seen_and_the_broker_has(tmp_path: Path) -> None:
    desk = desk_with_keys(tmp_path)
    async with world(tmp_path) as w:
        url = f"mqtt://127.0.0.1:{w.broker.port}"
        assert await next_of(desk, url, "--audience", "61") == (1, 1)
        say(w, "61-0007", "config/reported", reported(layers=revisions("area", 17, 17))).wait_for_publish(20)
        say(w, "61-0008", "config/reported", reported(layers=revisions("area", 16, None))).wait_for_publish(20)
        say(w, "61-0009", "config/reported", reported(layers=revisions("booth", 90, 90))).wait_for_publish(20)
        say(w, "70-0001", "config/reported", reported(layers=revisions("area", 80, 80))).wait_for_publish(20)
        say(w, "61-0007", "policy/reported", reported(layers=revisions("area", 70, 70))).wait_for_publish(20)
        assert await next_of(desk, url, "--audience", "61") == (18, 1)
        assert await next_of(desk, url, "--audience", "61", "--rev", "auto", "--epoch", "3") == (18, 3)
        assert await next_of(desk, url, "--audience", "61-0009") == (91, 1)
        assert await next_of(desk, url, "--audience", "fleet") == (1, 1)

        # Published, and not seen by any booth yet.
        message = await desk.run(
            "sign", "config", "doc.json", "--key", "ann.pem", "--audience", "61", "--rev", "20", "--epoch", "4"
        )
        w.observer.publish("booth/v1/61/_all/config/desired", message.out, retain=True)
        assert await next_of(desk, url, "--audience", "61") == (21, 4)
        assert await next_of(desk, url, "--audience", "61", "--epoch", "5") == (18, 5), (
            "the broker's is of an epoch that has ended"
        )


async def test_auto_takes_the_epoch_of_the_newest_trust_list(tmp_path: Path) -> None:
    desk = desk_with_keys(tmp_path)
    desk.write("trust.json", {"version": 1, "epoch": 5, "roots": {
        "threshold": 1, "keys": {desk.id("bob"): desk.public("bob")},
    }, "keys": {}})  # fmt: skip
    await desk.run("key", "trust", "next", "trust.json", "--new-epoch", "--sign-with", "bob.pem", "-o", "next.dsse")
    async with world(tmp_path) as w:
        w.observer.publish("booth/v1/_all/_all/trust/desired", desk.read("next.dsse"), retain=True)
        assert await next_of(desk, f"mqtt://127.0.0.1:{w.broker.port}", "--audience", "61-0007") == (1, 6)


async def test_no_booth_can_drive_the_numbers_up(tmp_path: Path) -> None:
    desk = desk_with_keys(tmp_path)
    async with world(tmp_path) as w:
        url = f"mqtt://127.0.0.1:{w.broker.port}"
        say(w, "61-0007", "config/reported", reported(layers=revisions("fleet", 2**53, None))).wait_for_publish(20)
        w.observer.publish("booth/v1/_all/_all/config/desired", b"no document", retain=True)
        said = await next_of(desk, url, "--audience", "fleet", status=1)
        assert f"booths have seen {2**53}, and on the broker is 0 of epoch 1; give --rev" in said
        assert await next_of(desk, url, "--audience", "fleet", "--rev", "3") == (3, 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--key"),
        (("--key", "ann.pem"), "sign what? Give KIND, one of config, policy, update"),
        (("config", "--key", "ann.pem"), "sign what?"),
        (("firmware", "doc.json", "--key", "ann.pem"), "invalid choice: 'firmware'"),
        (("config", "doc.json", "--key", "ann.pem"), "for whom? Give --audience"),
        (("config", "doc.json", "--key", "ann.pem", "--audience", "61"), "which broker? Give --broker URL"),
        (("config", "doc.json", "--key", "ann.pem", "--audience", "booth/v1/#"), "write booth/v1/AREA/BOOTH"),
        (("config", "doc.json", "--key", "ann.pem", "--audience", "booth/v1/_all/61-0007"), "write booth/v1/AREA/BOOTH"),
        (("config", "doc.json", "--key", "ann.pem", "--audience", "Orne"), "write a short name"),
        (("config", "doc.json", "--key", "ann.pem", "--audience", "61", "--rev", "-1"), "--rev"),
        (("config", "doc.json", "--key", "ann.pem", "--audience", "61", "--rev", "next"), "write a whole number, or auto"),
        (("config", "doc.json", "--key", "ann.pem", *TERMS, "--not-after", "tomorrow"), "write a time with its zone"),
        (("config", "doc.json", "--key", "ann.pem", *TERMS, "--not-after", "2026-12-31"), "write a time with its zone"),
        (("config", "doc.json", "--key", "ann.pem", *TERMS, "--not-after", "9999-12-31T23:59:59-05:00"), "write a time"),
        (("config", "doc.json", "--key", "ann.pem", "--key", "ann.pem", *TERMS), "the same key twice is one signature"),
        (("config", "doc.json", "--key", "ann.pem", *TERMS, "--statement"), "--statement has its own audience"),
        (("--add", "c.dsse", "--key", "ann.pem", *TERMS), "only --key and -o go with it"),
        (("config", "--add", "c.dsse", "--key", "ann.pem"), "only --key and -o go with it"),
        (("config", "c.dsse", "--key", "ann.pem", *TERMS), "c.dsse is signed already"),
    ],
)
async def test_wrong_usage(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    desk = desk_with_keys(tmp_path)
    desk.write("c.dsse", seal("application/vnd.booth.config+json", b"{}", [desk.key("bob")]).decode())
    done = await desk.run("sign", *arguments, status=2)
    assert (done.out, said in done.err) == ("", True), done.err


async def test_a_key_that_is_none_signs_nothing(tmp_path: Path) -> None:
    desk = desk_with_keys(tmp_path)
    for file, said in (("doc.json", "no Ed25519 private key in PEM"), ("nowhere.pem", "nowhere.pem: No such file or directory")):
        done = await desk.run("sign", "config", "doc.json", "--key", file, *TERMS, status=1)
        assert (done.out, said in done.err) == ("", True)
