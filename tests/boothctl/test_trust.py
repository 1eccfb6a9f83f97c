"""`boothctl key trust`: lists made by hand-made roots, rotated, and published."""

import asyncio
import base64
from pathlib import Path

import pytest

from agent.contract.documents import Refusal
from agent.contract.envelope import open_envelope
from agent.documents.signatures import SigningKey
from agent.documents.trust import Trust, next_trust, read_trust
from tests.boothctl.desk import Desk
from tests.world import world


async def office(folder: Path) -> Desk:
    """Three roots of which two sign, two people, and the list in force."""
    desk = Desk(folder)
    desk.keys("root1", "root2", "root3", "ann", "bob")
    roots = [text for name in ("root1", "root2", "root3") for text in ("--root", desk.public(name))]
    people = ["--key", f"{desk.public('ann')}:config,policy", "--key", "bob.pem:policy,command"]
    await desk.run("key", "trust", "new", *roots, "--root-threshold", "2", *people, "--threshold", "loosen=2", "-o", "trust.json")
    return desk


def signed_with(*names: str) -> list[str]:
    return [text for name in names for text in ("--sign-with", f"{name}.pem")]


def after(desk: Desk, envelope: str = "next.dsse", list_: str = "trust.json") -> Trust:
    """What a booth makes of it that has the list."""
    return next_trust(read_trust(desk.read(list_)), desk.read(envelope))[0]


async def test_the_first_list_is_what_a_booth_reads(tmp_path: Path) -> None:
    desk = await office(tmp_path)
    trust = read_trust(desk.read("trust.json"))
    assert (trust.version, trust.epoch, trust.roots.threshold, trust.thresholds.loosen) == (1, 1, 2, 2)
    assert set(trust.roots.keys) == {desk.id("root1"), desk.id("root2"), desk.id("root3")}
    assert trust.keys_for("policy").keys() == {desk.id("ann"), desk.id("bob")}
    assert trust.keys_for("command").keys() == {desk.id("bob")}

    page = await desk.run("key", "trust", "show", "trust.json")
    assert "version   1, epoch 1\nroots     2 of 3 sign the next list\n" in page.out
    assert f"key   {desk.id('ann')}  {desk.public('ann')}  config, policy\n" in page.out
    assert (await desk.run("key", "trust", "show", "trust.json", "--json")).json == desk.json("trust.json") | {"signed_by": None}
    on_stdout = await desk.run("key", "trust", "new", "--root", "root1.pem", "--root-threshold", "1")
    assert on_stdout.json["roots"]["keys"] == {desk.id("root1"): desk.public("root1")}
    desk.assert_no_key_was_told()


async def test_a_public_key_may_stand_in_a_file(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.keys("root")
    desk.write("root.pub", desk.public("root") + "\n")
    done = await desk.run("key", "trust", "new", "--root", "root.pub", "--root-threshold", "1")
    assert list(done.json["roots"]["keys"]) == [desk.id("root")]
    desk.write("root.pub", "no key")
    assert "neither a private key in PEM nor a public key" in (
        await desk.run("key", "trust", "new", "--root", "root.pub", "--root-threshold", "1", status=1)
    ).err  # fmt: skip


async def test_the_next_list_changes_keys_and_is_taken_by_who_has_the_first(tmp_path: Path) -> None:
    desk = await office(tmp_path)
    desk.keys("cleo")
    await desk.run(
        "key", "trust", "next", "trust.json", "--add-key", "cleo.pem:config", "--remove-key", desk.id("ann")[:10],
        "--threshold", "policy=1", *signed_with("root1", "root3"), "-o", "next.dsse",
    )  # fmt: skip
    trust = after(desk)
    assert (trust.version, trust.epoch) == (2, 1)
    assert trust.keys.keys() == {desk.id("bob"), desk.id("cleo")}
    shown = await desk.run("key", "trust", "show", "next.dsse", "--after", "trust.json")
    assert f"envelope  signed by root {min(desk.id('root1'), desk.id('root3'))[:12]}…" in shown.out

    await desk.run("key", "trust", "next", "next.dsse", "--new-epoch", *signed_with("root1", "root2"), "-o", "third.dsse")
    third, _ = next_trust(trust, desk.read("third.dsse"))
    assert (third.version, third.epoch, third.keys) == (3, 2, trust.keys)
    with pytest.raises(Refusal, match="version 2 has to come first"):
        after(desk, "third.dsse")
    skipped = await desk.run("key", "trust", "show", "third.dsse", "--after", "trust.json", status=1)
    assert "conflict: version 2 has to come first" in skipped.err
    desk.assert_no_key_was_told()


async def test_a_root_is_replaced_by_the_old_ones_and_the_new_one_together(tmp_path: Path) -> None:
    desk = await office(tmp_path)
    desk.keys("root4")
    change = (
        "key",
        "trust",
        "next",
        "trust.json",
        "--remove-root",
        desk.id("root3"),
        "--add-root",
        "root4.pem",
        "-o",
        "next.dsse",
    )
    # Two of the old ones are two of the new ones too.
    await desk.run(*change, *signed_with("root1", "root2"))
    assert after(desk).roots.keys.keys() == {desk.id("root1"), desk.id("root2"), desk.id("root4")}
    # One that stays and one that comes are too few of the old.
    refused = await desk.run(*change, *signed_with("root1", "root4"), status=1)
    assert "not-enough-signatures: 1 of 2" in refused.err
    # Both lists have two of three in it.
    await desk.run(*change, *signed_with("root1", "root3", "root4"))
    assert after(desk).roots.threshold == 2


async def test_roots_in_two_places_sign_one_after_the_other(tmp_path: Path) -> None:
    desk = await office(tmp_path)
    change = ("key", "trust", "next", "trust.json", "--new-epoch", "-o", "next.dsse")
    alone = await desk.run(*change, *signed_with("root1"), status=1)
    assert "--partial writes" in alone.err
    assert not (tmp_path / "next.dsse").exists(), "what no booth takes is not written"
    await desk.run(*change, *signed_with("root1"), "--partial")
    with pytest.raises(Refusal, match="1 of 2"):
        after(desk)
    second = await desk.run("sign", "--add", "next.dsse", "--key", "root2.pem", "-o", "next.dsse")
    assert "to be signed: trust list, version 2, epoch 2: 2 of 3 roots, 2 keys" in second.err
    assert after(desk).epoch == 2
    await desk.run("key", "trust", "show", "next.dsse", "--after", "trust.json")


async def test_by_roots_of_the_tests_own_making(tmp_path: Path) -> None:
    """The list and the keys come from elsewhere; `boothctl` follows it, and agrees with `next_trust`."""
    desk = Desk(tmp_path)
    roots = [SigningKey(bytes([number]) * 32) for number in (1, 2)]
    for number, root in enumerate(roots):
        desk.write(f"root{number}.pem", root.to_pem().decode())
        (tmp_path / f"root{number}.pem").chmod(0o600)
    keys = {root.id: base64.b64encode(root.public).decode() for root in roots}
    desk.write("trust.json", {"version": 41, "epoch": 7, "roots": {"threshold": 2, "keys": keys}, "keys": {}})
    await desk.run("key", "trust", "next", "trust.json", "--new-epoch", *signed_with("root0", "root1"), "-o", "next.dsse")
    trust = after(desk)
    assert (trust.version, trust.epoch) == (42, 8)
    envelope = open_envelope(desk.read("next.dsse"))
    assert read_trust(envelope.payload) == trust, "what is in the envelope is the next trust.json, to the byte"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("new", "--root", "root1.pem", "--root-threshold", "2"), 1, "a threshold of 2 with 1 keys can never be reached"),
        (("new", "--root", "root1.pem"), 2, "--root-threshold"),
        (("new", "--root", "nowhere.pem", "--root-threshold", "1"), 1, "nowhere.pem: No such file"),
        (("new", "--root", "root1.pem", "--root-threshold", "1", "--key", "ann.pem"), 2, "write PUB:USE,"),
        (("new", "--root", "root1.pem", "--root-threshold", "1", "--key", "ann.pem:firmware"), 2, "write some of config"),
        (("new", "--root", "root1.pem", "--root-threshold", "1", "--threshold", "loosen"), 2, "write config=N, policy=N"),
        (
            ("new", "--root", "root1.pem", "--root-threshold", "1", "--threshold", "loosen=99"),
            1,
            "thresholds.loosen: write a number",
        ),
        (("next", "trust.json"), 2, "--sign-with"),
        (("next", "trust.json", "--sign-with", "ann.pem"), 1, "is a root of neither list"),
        (
            ("next", "trust.json", "--sign-with", "root1.pem", "--remove-key", "0123"),
            1,
            "no keys have an id that begins with '0123'",
        ),
        (
            ("next", "trust.json", "--sign-with", "root1.pem", "--remove-root", "ann.pem"),
            1,
            "no roots have an id that begins with '",
        ),
        (("next", "ann.pem", "--sign-with", "root1.pem"), 1, "bad-json: no JSON at line 1"),
        (("next", "doc.dsse", "--sign-with", "root1.pem"), 1, "and no trust list"),
        (("show", "doc.dsse"), 1, "and no trust list"),
        (("show", "nowhere"), 1, "nowhere: No such file"),
        (("push", "trust.json", "fleet", "--broker", "mqtt://127.0.0.1:1"), 1, "a list without signatures"),
        (("push", "doc.dsse", "fleet", "--broker", "mqtt://127.0.0.1:1"), 1, "and no trust list"),
        (("push", "trust.json"), 2, "AUDIENCE"),
        (("push", "trust.json", "#", "--broker", "mqtt://127.0.0.1:1"), 2, "write a short name"),
    ],
)
async def test_what_cannot_be(arguments: tuple[str, ...], status: int, said: str, shared_office: Desk) -> None:
    done = await shared_office.run("key", "trust", *arguments, status=status)
    assert (done.out, said in done.err) == ("", True), done.err


@pytest.fixture(scope="module")
def shared_office(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """One for every line of the table: nothing there writes."""

    async def make() -> Desk:
        desk = await office(tmp_path_factory.mktemp("office"))
        desk.write("doc.json", {})
        terms = ("--key", "ann.pem", "--audience", "fleet", "--rev", "1", "--epoch", "1")
        await desk.run("sign", "config", "doc.json", *terms, "-o", "doc.dsse")
        return desk

    return asyncio.run(make())


async def test_thresholds_that_the_keys_cannot_reach_are_said(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.keys("root", "ann")
    done = await desk.run("key", "trust", "new", "--root", "root.pem", "--root-threshold", "1", "--key", "ann.pem:policy")
    assert "loosen needs 2 signatures, and 1 of the keys may sign policy: each would be refused" in done.err
    assert read_trust(done.out.encode()).version == 1


async def test_push_publishes_what_was_signed_and_nothing_that_its_own_roots_did_not(tmp_path: Path) -> None:
    desk = await office(tmp_path)
    change = ("key", "trust", "next", "trust.json", "--new-epoch", "-o", "next.dsse")
    async with world(tmp_path) as w:
        push = ("key", "trust", "push", "next.dsse", "61", "--broker", f"mqtt://127.0.0.1:{w.broker.port}")
        await desk.run(*change, *signed_with("root1"), "--partial")
        assert "not-enough-signatures" in (await desk.run(*push, status=1)).err
        await desk.run(*change, *signed_with("root1", "root2"))
        done = await desk.run(*push)
        assert done.out == "trust list, version 2, published at booth/v1/61/_all/trust/desired\n"
        seen = await w.until(lambda: w.observer.retained.get("booth/v1/61/_all/trust/desired"), "the list on the broker")
        assert seen.payload == desk.read("next.dsse").strip()
        assert (await desk.run(*push, "--json")).json == {
            "topic": "booth/v1/61/_all/trust/desired", "version": 2, "epoch": 2,
        }  # fmt: skip
    no_answer = await desk.run(*push, "--wait", "1", status=3)
    assert "no answer from 127.0.0.1" in no_answer.err
    desk.assert_no_key_was_told()
